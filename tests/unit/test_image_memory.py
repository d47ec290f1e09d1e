"""Pictures that take much memory: within the limit, or refused by their header."""

from __future__ import annotations

import io
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import pictures
from decode_memory import decode_memory
from lookalike.errors import BadImage
from lookalike.images import Geometry, Limits, decode_square, read_header

LIMITS = Limits()
LARGEST = (8_000, 5_000)  # as many pixels as are accepted at all


def flat(mode: str, size: tuple[int, int], name: str, **options: Any) -> bytes:
    return pictures.encoded(Image.new(mode, size, 3), name, **options)


def refused(data: bytes, limits: Limits = LIMITS) -> BadImage:
    with pytest.raises(BadImage) as caught:
        read_header(io.BytesIO(data), limits)
    return caught.value


@pytest.mark.parametrize(
    ("mode", "size", "name", "options"),
    [
        ("RGB", LARGEST, "JPEG", {"quality": 60}),
        ("RGB", LARGEST, "JPEG", {"quality": 60, "progressive": True}),
        ("RGB", (6_400, 5_000), "JPEG", {"progressive": True, "subsampling": 0}),
        ("CMYK", (4_950, 5_000), "JPEG", {"progressive": True}),
        ("RGBA", LARGEST, "PNG", {"compress_level": 1}),
        ("P", LARGEST, "PNG", {"compress_level": 1, "transparency": 3}),
        ("LA", LARGEST, "PNG", {"compress_level": 1}),
        ("P", LARGEST, "GIF", {}),
        ("RGB", (4_080, 4_080), "WEBP", {"method": 0}),
        ("RGBA", (4_080, 4_080), "WEBP", {"method": 0, "lossless": True}),
    ],
)
def test_no_picture_that_is_accepted_takes_more_than_200_mb(
    mode: str,
    size: tuple[int, int],
    name: str,
    options: dict[str, Any],
    tmp_path: Path,
) -> None:
    data = flat(mode, size, name, **options)
    (tmp_path / "picture").write_bytes(data)
    read_header(io.BytesIO(data), LIMITS)

    peak, _ = decode_memory(tmp_path / "picture")

    assert peak < 200_000_000


@pytest.mark.parametrize(
    ("mode", "size", "name", "options"),
    [
        ("RGB", (4_100, 4_100), "WEBP", {"method": 0}),
        ("RGB", (6_700, 5_000), "JPEG", {"progressive": True, "subsampling": 0}),
        ("CMYK", (5_000, 5_000), "JPEG", {"progressive": True}),
    ],
)
def test_one_that_takes_more_is_refused_by_its_header_and_told_what_is_accepted(
    mode: str, size: tuple[int, int], name: str, options: dict[str, Any]
) -> None:
    error = refused(flat(mode, size, name, **options))

    assert error.code == "image_too_large"
    limit = error.extra["limit"]
    assert isinstance(limit, int)
    assert 10_000_000 < limit < size[0] * size[1]
    assert f"at most {limit} pixels of such a {name}" in error.detail
    assert "baseline JPEG" in error.detail


def test_a_jpeg_sent_channel_by_channel_counts_as_one_kept_in_whole() -> None:
    whole = bytearray(flat("RGB", (400, 300), "JPEG", subsampling=0))
    limits = Limits(max_decode_bytes=600_000)
    assert read_header(io.BytesIO(whole), limits).width == 400

    place = whole.index(b"\xff\xda")
    whole[place + 4] = 1  # channels in the first scan

    assert refused(bytes(whole), limits).code == "image_too_large"


def test_a_strip_of_a_tiff_counts_only_if_it_is_decompressed() -> None:
    limits = Limits(formats=("TIFF",), max_decode_bytes=500_000)
    one_strip = {"strip_size": 2**30}

    plain = flat("RGB", (400, 300), "TIFF", **one_strip)
    packed = flat("RGB", (400, 300), "TIFF", compression="tiff_lzw", **one_strip)

    assert read_header(io.BytesIO(plain), limits).width == 400
    assert refused(packed, limits).code == "image_too_large"


# --- bombs ---------------------------------------------------------------------------


def gif_bomb(side: int = 65_535) -> bytes:
    """A tiny GIF that says it is huge."""
    small = bytearray(flat("P", (10, 10), "GIF"))
    small[6:10] = struct.pack("<HH", side, side)
    return bytes(small)


def webp_bomb() -> bytes:
    """An animated WebP of the largest canvas there is, and of small frames."""
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    small = bytearray(
        pictures.encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    )
    small[24:30] = b"\xff\x3f\x00" * 2
    return bytes(small)


def jpeg_bomb(*, progressive: bool) -> bytes:
    """A JPEG of 65,500 pixels a side in its header, and no more than 100 in truth."""
    data = bytearray(flat("RGB", (100, 100), "JPEG", progressive=progressive))
    place = data.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    data[place + 5 : place + 9] = struct.pack(">HH", 65_500, 65_500)
    return bytes(data)


def tiff_bomb() -> bytes:
    """A TIFF whose tile alone is of 20,000 pixels a side."""
    return pictures.encoded(
        Image.new("1", (20_000, 20_000)), "TIFF", compression="group4"
    )


def text_bomb(kind: bytes) -> bytes:
    """A PNG with 50 MB of text or of a colour profile, packed into 50 kB."""
    whole = flat("RGB", (20, 20), "PNG")
    packed = zlib.compress(bytes(50_000_000), 9)
    chunk = pictures.png_chunk(kind, b"name\0\0" + packed)
    return whole[:33] + chunk + whole[33:]


WITH_TIFF = Limits(formats=(*LIMITS.formats, "TIFF"))


@pytest.mark.parametrize("name", ["png", "gif", "webp", "jpeg", "progressive", "tiff"])
def test_a_bomb_is_refused_by_its_header_at_once(name: str, bomb: bytes) -> None:
    data = {
        "png": lambda: bomb,
        "gif": gif_bomb,
        "webp": webp_bomb,
        "jpeg": lambda: jpeg_bomb(progressive=False),
        "progressive": lambda: jpeg_bomb(progressive=True),
        "tiff": tiff_bomb,
    }[name]()
    started = time.perf_counter()

    error = refused(data, WITH_TIFF)

    assert error.code == "image_too_large"
    assert time.perf_counter() - started < 0.1


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP", b"iTXt"])
def test_a_bomb_of_text_in_a_picture_takes_neither_memory_nor_time(
    kind: bytes, tmp_path: Path
) -> None:
    data = text_bomb(kind)
    (tmp_path / "picture").write_bytes(data)

    peak, seconds = decode_memory(tmp_path / "picture")

    assert peak < 10_000_000
    assert seconds < 0.5


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG"])
def test_of_a_long_animation_only_the_first_frame_is_decoded(name: str) -> None:
    frames = [Image.new("RGB", (400, 300), (n, 255 - n, n)) for n in range(200)]
    data = pictures.encoded(
        frames[0], name, save_all=True, append_images=frames[1:], duration=10
    )
    started = time.perf_counter()

    square = decode_square(data, Geometry(64, 72), LIMITS)

    assert square.shape == (64, 64, 3)
    assert time.perf_counter() - started < 0.5
