"""Multipart forms, read as a stream: no file passes through memory.

Werkzeug's reader is not used. It looks for a boundary so tolerantly that a 30 KB file
takes four times as long, and when a piece of the body ends inside a boundary it can
leave a stray CR at the end of a file, which makes it another file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

from werkzeug.http import parse_options_header

from lookalike.errors import BadRequest, TooLarge

READ_BYTES = 64 * 2**10
MAX_FIELDS = 16  # parts that are no file
MAX_HEADER_BYTES = 16 * 2**10
MAX_PADDING_BYTES = 64  # blanks after a boundary, which RFC 2046 allows


class Source(Protocol):
    """Where a body is read from."""

    def read(self, size: int, /) -> bytes:
        """At most that many bytes; none at the end."""


@dataclass(frozen=True)
class Sink:
    """Where files of a form go, and how much of everything is taken."""

    open: Callable[[], BinaryIO]
    max_files: int
    max_field_bytes: int


@dataclass
class Form:
    """What a form held: its fields, and the filenames of its files, in order.

    The files themselves lie where the sink put them.
    """

    fields: dict[str, str] = field(default_factory=dict)
    filenames: list[str] = field(default_factory=list)


def read_form(source: Source, boundary: str | None, sink: Sink) -> Form:
    """Read a whole form, its files into the sink.

    Raises:
        BadRequest: code ``multipart_invalid``.
        TooLarge: too many files or fields, or a field that is too long.
    """
    if not boundary or not boundary.isascii():
        raise _invalid("its Content-Type has no boundary")
    form = Form()
    parts = _Parts(source, boundary.encode())
    while (header := parts.next()) is not None:
        name, filename = _names(header)
        if filename is not None:
            parts.copy(_new_file(form, filename, sink).write)
        else:
            _add_field(form, name, parts, sink.max_field_bytes)
    return form


def _new_file(form: Form, filename: str, sink: Sink) -> BinaryIO:
    if len(form.filenames) == sink.max_files:
        raise TooLarge(
            f"A form holds at most {sink.max_files} files; send the rest in another "
            "request, or all of them as NDJSON.",
            code="too_many_images",
            extra={"limit": sink.max_files},
        )
    form.filenames.append(filename)
    return sink.open()


def _add_field(form: Form, name: str, parts: _Parts, most: int) -> None:
    if len(form.fields) == MAX_FIELDS:
        raise TooLarge(
            f"A form holds at most {MAX_FIELDS} fields beside its files.",
            code="too_many_fields",
            extra={"limit": MAX_FIELDS},
        )
    if name in form.fields:
        raise _invalid(f"the field {name!r} is there twice")
    text = bytearray()

    def take(piece: bytes) -> None:
        nonlocal text
        text += piece
        if len(text) > most:
            raise TooLarge(
                f"The form field {name!r} is over its limit of {most} bytes.",
                extra={"limit": most},
            )

    parts.copy(take)
    try:
        form.fields[name] = text.decode()
    except UnicodeDecodeError:
        raise _invalid(f"the field {name!r} is not UTF-8") from None


def _names(header: Mapping[str, str]) -> tuple[str, str | None]:
    """Name and filename of a part; a part without a filename is a field."""
    kind, options = parse_options_header(header.get("content-disposition"))
    if kind != "form-data" or "name" not in options:
        raise _invalid("a part has no Content-Disposition: form-data with a name")
    return options["name"][:80], options.get("filename")


class _Parts:
    """The parts of a multipart body (RFC 2046, RFC 7578), one after the other."""

    def __init__(self, source: Source, boundary: bytes) -> None:
        self._source = source
        self._delimiter = b"\r\n--" + boundary
        # So that the first delimiter, which may begin the body, is like the others.
        self._buffer = bytearray(b"\r\n")
        self._is_last = False
        self._undecided = 0  # bytes at the start that are content in no case
        self.copy(lambda preamble: None)

    def next(self) -> dict[str, str] | None:
        """The header of the next part, its names in lower case; None at the end."""
        if self._is_last:
            return None
        searched = 0
        while (end := self._buffer.find(b"\r\n\r\n", searched)) < 0:
            if len(self._buffer) > MAX_HEADER_BYTES:
                raise _invalid("the header of a part is too long")
            searched = max(0, len(self._buffer) - 3)
            self._fill()
        lines = self._take(end + 2).decode(errors="replace").split("\r\n")
        self._begin_content()
        pairs = [line.partition(":") for line in lines if line]
        return {name.strip().lower(): value.strip() for name, _, value in pairs}

    def _begin_content(self) -> None:
        """Drop the empty line before the content, unless there is none of either.

        A part may end with its header (RFC 2046): then the line break that is left is
        already that of the delimiter.
        """
        while len(self._buffer) < len(self._delimiter):
            self._fill()
        self._undecided = 2 if self._buffer.startswith(self._delimiter) else 0
        if not self._undecided:
            self._take(2)

    def copy(self, write: Callable[[bytes], object]) -> None:
        """Write the content of the current part, and go to the delimiter's end."""
        while True:
            found = self._buffer.find(self._delimiter)
            if found < 0:
                # What may be the beginning of a delimiter waits for the next piece.
                certain = len(self._buffer) - len(self._delimiter) + 1
                if certain > 0:
                    write(self._take(certain))
                self._fill()
                continue
            if found:
                write(self._take(found))
            if self._pass_delimiter():
                return
            write(self._take(len(self._delimiter))[self._undecided :])
            self._undecided = 0

    def _pass_delimiter(self) -> bool:
        """Drop the delimiter the buffer begins with; False if it goes on as text."""
        start = len(self._delimiter)
        while True:
            rest = bytes(self._buffer[start : start + MAX_PADDING_BYTES])
            line = rest.lstrip(b" \t")
            if rest.startswith(b"--"):
                self._is_last = True
                return True
            if line.startswith(b"\r\n"):
                # The line break stays: with another one it ends an empty header.
                self._take(start + len(rest) - len(line))
                return True
            may_go_on = line in (b"", b"\r") or rest == b"-"
            if not may_go_on or len(rest) == MAX_PADDING_BYTES:
                return False
            self._fill()

    def _take(self, count: int) -> bytes:
        with memoryview(self._buffer) as view:
            taken = bytes(view[:count])
        del self._buffer[:count]
        return taken

    def _fill(self) -> None:
        piece = self._source.read(READ_BYTES)
        if not piece:
            raise _invalid("it ends before its closing boundary")
        self._buffer += piece


def _invalid(problem: str) -> BadRequest:
    return BadRequest(
        f"The body is not a valid multipart form: {problem}.", code="multipart_invalid"
    )
