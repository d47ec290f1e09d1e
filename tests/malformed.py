"""Image files broken in every way there is; the same ones for the same seed."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

from PIL import Image

import pictures

SIZE = (160, 120)
Damage = Callable[[bytearray, Random], None]


@dataclass(frozen=True)
class Specimen:
    """One broken file, and how it came to be."""

    number: int
    name: str  # of the seed and of the damage
    data: bytes


@cache
def seeds() -> dict[str, bytes]:
    """Good files of every format and mode that is accepted, and of some that is not."""
    photo = pictures.photograph(seed=7, width=SIZE[0], height=SIZE[1])
    grey, clear = photo.convert("L"), photo.copy()
    clear.putalpha(grey)
    palette = photo.quantize(32)
    frames: dict[str, Any] = {"save_all": True, "append_images": [photo.rotate(180)]}
    made: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
        "jpeg": (photo, "JPEG", {}),
        "jpeg-progressive": (photo, "JPEG", {"progressive": True}),
        "jpeg-444": (photo, "JPEG", {"subsampling": 0}),
        "jpeg-grey": (grey, "JPEG", {}),
        "jpeg-cmyk": (photo.convert("CMYK"), "JPEG", {}),
        "jpeg-restarts": (photo, "JPEG", {"restart_marker_blocks": 4}),
        "png": (photo, "PNG", {}),
        "png-grey": (grey, "PNG", {}),
        "png-bits": (grey.convert("1"), "PNG", {}),
        "png-16": (grey.convert("I;16"), "PNG", {}),
        "png-alpha": (clear, "PNG", {}),
        "png-palette": (palette, "PNG", {}),
        "png-transparent": (palette, "PNG", {"transparency": 3}),
        "apng": (photo, "PNG", frames),
        "webp": (photo, "WEBP", {}),
        "webp-alpha": (clear, "WEBP", {}),
        "webp-lossless": (clear, "WEBP", {"lossless": True}),
        "webp-animated": (photo, "WEBP", frames),
        "gif": (palette, "GIF", {}),
        "gif-transparent": (palette, "GIF", {"transparency": 3}),
        "gif-animated": (
            palette,
            "GIF",
            {"save_all": True, "append_images": [palette]},
        ),
        "tiff": (photo, "TIFF", {"compression": "tiff_lzw"}),
        "bmp": (photo, "BMP", {}),
    }
    files = {
        name: pictures.encoded(image, kind, **options)
        for name, (image, kind, options) in made.items()
    }
    for turn in (3, 6):
        files[f"jpeg-turned-{turn}"] = pictures.with_orientation(photo, turn, "JPEG")
    files["png-turned"] = pictures.with_orientation(photo, 6, "PNG")
    return files


def specimens(count: int, seed: int = 0) -> Iterator[Specimen]:
    """So many broken files; the first ones are the same whatever the count.

    Some turn out whole, since not every byte of a file matters.
    """
    names = sorted(seeds())
    for number in range(count):
        random = Random(f"{seed}/{number}")
        name = random.choice(names)
        data = bytearray(seeds()[name])
        done = []
        for _ in range(random.choice((1, 1, 1, 2, 3))):
            damage = random.choice(DAMAGES)
            if data:
                damage(data, random)
            done.append(damage.__name__)
        yield Specimen(number, f"{name}: {', '.join(done)}", bytes(data))


# --- damages -------------------------------------------------------------------------


def flip_bits(data: bytearray, random: Random) -> None:
    """Some bits anywhere."""
    for _ in range(random.randint(1, 40)):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def flip_header(data: bytearray, random: Random) -> None:
    """Some bytes where lengths and sizes are."""
    for _ in range(random.randint(1, 6)):
        data[random.randrange(min(len(data), 100))] = random.randrange(256)


def truncate(data: bytearray, random: Random) -> None:
    """The end is missing."""
    del data[random.randrange(len(data)) :]


def lose(data: bytearray, random: Random) -> None:
    """A piece is missing, and what follows moves up."""
    start = random.randrange(len(data))
    del data[start : start + random.randint(1, 400)]


def repeat(data: bytearray, random: Random) -> None:
    """A piece is there twice."""
    start = random.randrange(len(data))
    piece = data[start : start + random.randint(1, 2_000)]
    data[start:start] = piece


def insert(data: bytearray, random: Random) -> None:
    """Noise in between."""
    start = random.randrange(len(data))
    data[start:start] = random.randbytes(random.randint(1, 200))


def zero(data: bytearray, random: Random) -> None:
    """A run of zeros, as after a disk lost its memory."""
    _fill(data, random, 0)


def fill(data: bytearray, random: Random) -> None:
    """A run of one byte."""
    _fill(data, random, random.choice((0xFF, 0x80, 0x7F)))


def _fill(data: bytearray, random: Random, value: int) -> None:
    start = random.randrange(len(data))
    count = min(random.randint(1, 2_000), len(data) - start)
    data[start : start + count] = bytes([value]) * count


def splice(data: bytearray, random: Random) -> None:
    """The beginning of one file and the end of another."""
    other = seeds()[random.choice(sorted(seeds()))]
    data[random.randrange(len(data)) :] = other[random.randrange(len(other)) :]


def lie_about_size(data: bytearray, random: Random) -> None:
    """A width or height that is none, or far from the truth."""
    sizes = (0, 1, 2, 0x3FFF, 0x7FFF, 0xFFFF, random.randrange(0x10000))
    for place, layout in _sizes(data):
        value = random.choice(sizes)
        if layout.endswith("I") and random.random() < 0.5:
            value = random.choice((0x7FFFFFFF, 0xFFFFFFFF, 0x10000, value))
        if place + struct.calcsize(layout) <= len(data) and random.random() < 0.7:
            struct.pack_into(layout, data, place, value)


def lie_about_length(data: bytearray, random: Random) -> None:
    """A chunk that is longer or shorter than it says."""
    places = list(_lengths(data))
    for place, layout in random.sample(places, min(len(places), random.randint(1, 3))):
        most = 256 ** struct.calcsize(layout) - 1
        value = random.choice((0, 1, 2, most, most // 2, random.randint(0, most)))
        struct.pack_into(layout, data, place, value)


def _sizes(data: bytearray) -> Iterator[tuple[int, str]]:
    """Where a file says how large its picture is."""
    if data[:2] == b"\xff\xd8":
        for marker in (b"\xff\xc0", b"\xff\xc2"):
            if (place := data.find(marker)) >= 0:
                yield from ((place + 5, ">H"), (place + 7, ">H"))
    elif data[:4] == b"\x89PNG":
        yield from ((16, ">I"), (20, ">I"))
        if (place := data.find(b"fcTL")) >= 0:
            yield from ((place + 8, ">I"), (place + 12, ">I"), (place + 16, ">I"))
    elif data[:4] == b"RIFF":
        yield from ((24, "<H"), (26, "<H"), (28, "<H"), (21, "<I"))
    elif data[:3] == b"GIF":
        yield from ((6, "<H"), (8, "<H"))
        if (place := data.find(b"\x2c", 13)) >= 0:
            yield from ((place + 1, "<H"), (place + 5, "<H"), (place + 7, "<H"))


def _lengths(data: bytearray) -> Iterator[tuple[int, str]]:
    """Where a file says how long its parts are."""
    if data[:2] == b"\xff\xd8":
        for place in range(2, min(len(data) - 4, 1_000)):
            if data[place] == 0xFF and 0xC0 <= data[place + 1] < 0xFF:
                yield place + 2, ">H"
    elif data[:4] == b"\x89PNG":
        for kind in (b"IHDR", b"IDAT", b"PLTE", b"tRNS", b"IEND", b"fdAT", b"acTL"):
            if (place := data.find(kind)) >= 4:
                yield place - 4, ">I"
    elif data[:4] == b"RIFF":
        yield 4, "<I"
        for kind in (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"):
            place = data.find(kind)
            if 0 <= place <= len(data) - 8:
                yield place + 4, "<I"
    elif data[:3] == b"GIF" and len(data) > 900:
        yield from ((place, "B") for place in (10, 11, 13, 14, 15, 800, 801, 810, 850))


DAMAGES: tuple[Damage, ...] = (
    *(flip_bits, flip_bits, flip_header, flip_header, truncate, lose, repeat, insert),
    *(zero, fill, splice, lie_about_size, lie_about_size, lie_about_length),
    lie_about_length,
)
