"""Pictures that cost little: a palette of tiny ones, in files of bytes of their own."""

from __future__ import annotations

import functools
import hashlib
import io
import zlib

import numpy as np
from PIL import Image

from pictures import png_chunk

PALETTE = 500  # pictures that look different
SIDE = 32
END = 12  # bytes of the last chunk of every PNG


@functools.cache
def picture(number: int) -> bytes:
    """One picture of the palette: a few large blocks of strong colours."""
    generator = np.random.default_rng(number)
    blocks = generator.choice([0, 90, 170, 255], (4, 4, 3)).astype(np.uint8)
    image = Image.fromarray(blocks).resize((SIDE, SIDE), Image.Resampling.NEAREST)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def number_of(image_id: str, version: int) -> int:
    """Which picture of the palette a version of an image shows."""
    return zlib.crc32(f"{image_id}/{version}".encode()) % PALETTE


def specimen(image_id: str, version: int) -> bytes:
    """The file of one version of one image; no other file has these bytes."""
    whole = picture(number_of(image_id, version))
    note = png_chunk(b"tEXt", f"Comment\0{image_id}/{version}".encode())
    return whole[:-END] + note + whole[-END:]


def digest(image_id: str, version: int) -> str:
    """The SHA-256 of that file."""
    return hashlib.sha256(specimen(image_id, version)).hexdigest()


def broken(image_id: str, version: int) -> bytes:
    """A file that ends too early, and is refused at the door."""
    return specimen(image_id, version)[:-40]
