from __future__ import annotations

import io
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.api import multipart
from lookalike.api.multipart import Form, Sink, read_form
from lookalike.errors import BadRequest, TooLarge

HEADER = b'Content-Disposition: form-data; name="%s"'


class Files:
    """Keeps what was uploaded, in order."""

    def __init__(self) -> None:
        self.kept: list[io.BytesIO] = []

    def open(self) -> BinaryIO:
        self.kept.append(io.BytesIO())
        return self.kept[-1]

    def data(self) -> list[bytes]:
        return [file.getvalue() for file in self.kept]


class Dripping:
    """A body that comes in pieces of one size, whatever is asked for."""

    def __init__(self, data: bytes, piece: int) -> None:
        self._data = io.BytesIO(data)
        self._piece = piece

    def read(self, size: int, /) -> bytes:
        return self._data.read(min(size, self._piece))


def body(boundary: bytes, *parts: bytes) -> bytes:
    lines = b"".join(b"--%s\r\n%s\r\n" % (boundary, part) for part in parts)
    return lines + b"--%s--\r\n" % boundary


def file_part(data: bytes, filename: bytes = b"a.jpg") -> bytes:
    return HEADER % b"image" + b'; filename="%s"\r\n\r\n' % filename + data


def field_part(name: bytes, text: bytes) -> bytes:
    return HEADER % name + b"\r\n\r\n" + text


def read(data: bytes, files: Files, *, piece: int = 2**16, boundary: str = "x") -> Form:
    sink = Sink(files.open, max_files=3, max_field_bytes=100)
    return read_form(Dripping(data, piece), boundary, sink)


@given(
    contents=st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.text("\r\n-x", max_size=40).map(str.encode),
        ),
        max_size=3,
    ),
    piece=st.integers(1, 90),
)
def test_every_file_comes_out_as_it_went_in(contents: list[bytes], piece: int) -> None:
    boundary = b"xx-boundary"
    files = Files()
    data = body(boundary, *map(file_part, contents), field_part(b"items", b"[]"))

    form = read(data, files, piece=piece, boundary="xx-boundary")

    assert files.data() == contents
    assert form.fields == {"items": "[]"}


def test_a_part_without_content_is_an_empty_file() -> None:
    files = Files()
    header = HEADER % b"image" + b'; filename="a"\r\n'

    read(body(b"x", header, file_part(b"more")), files, piece=5)

    assert files.data() == [b"", b"more"]


@pytest.mark.parametrize("piece", range(1, 60))
def test_content_that_looks_like_a_boundary_stays(piece: int) -> None:
    contents = [b"--xy\r\n--xy--", b"\r\n--x-", b"\r\n\r\n--\r\n--x y\r\n"]
    files = Files()

    read(body(b"x", *map(file_part, contents)), files, piece=piece)

    assert files.data() == contents


def test_blanks_after_a_boundary_and_text_around_the_form_are_ignored() -> None:
    files = Files()
    data = b"before\r\n" + body(b"x", file_part(b"data")) + b"after"

    read(data.replace(b"--x\r\n", b"--x \t\r\n"), files, piece=4)

    assert files.data() == [b"data"]


def test_a_file_beyond_the_limit_is_not_opened() -> None:
    files = Files()

    with pytest.raises(TooLarge, match="at most 3 files") as caught:
        read(body(b"x", *[file_part(b"data")] * 4), files)

    assert caught.value.code == "too_many_images"
    assert len(files.kept) == 3


def test_a_field_beyond_its_limit_is_refused() -> None:
    with pytest.raises(TooLarge, match="'items' is over its limit of 100 bytes"):
        read(body(b"x", field_part(b"items", b"x" * 101)), Files(), piece=7)


def test_too_many_fields_are_refused() -> None:
    fields = [field_part(b"f%d" % n, b"") for n in range(17)]

    with pytest.raises(TooLarge, match="at most 16 fields"):
        read(body(b"x", *fields), Files())


def test_a_header_without_an_end_is_refused() -> None:
    endless = b"--x\r\nA: " + b"a" * (multipart.MAX_HEADER_BYTES + 2**16)

    with pytest.raises(BadRequest, match="header of a part is too long"):
        read(endless, Files())


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "closing boundary"),
        (b"--x\r\n", "closing boundary"),
        (body(b"x", file_part(b"data"))[:-10], "closing boundary"),
        (body(b"x", b"A: b\r\n\r\ndata"), "Content-Disposition"),
        (body(b"x", *[field_part(b"a", b"")] * 2), "twice"),
        (body(b"x", field_part(b"a", b"\xff")), "not UTF-8"),
    ],
)
def test_a_broken_form_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(BadRequest, match=problem) as caught:
        read(data, Files())

    assert caught.value.code == "multipart_invalid"


@pytest.mark.parametrize("boundary", [None, "", "ä"])
def test_a_form_without_a_boundary_is_refused(boundary: str | None) -> None:
    sink = Sink(Files().open, max_files=1, max_field_bytes=1)

    with pytest.raises(BadRequest, match="no boundary"):
        read_form(Dripping(b"", 1), boundary, sink)
