"""Resizing decoded pictures of any mode without a second copy of them.

What must be converted before its pixels may be averaged (palettes, transparency, CMYK)
is converted and resized across a few rows at a time, so only those rows are ever held
twice. That differs from converting all of it first by at most one level of 255 before
transparency is undone, because Pillow sometimes resizes down before across.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

Box = tuple[float, float, float, float]  # left, top, right, bottom
Size = tuple[int, int]  # width, height

STRIP_PIXELS = 2**18  # converted at once: 1 MiB in four channels


def resized(image: Image.Image, size: Size, box: Box) -> Image.Image:
    """A part of the picture at another size, on white, in mode RGB or L.

    Args:
        image: decoded already.
        size: of the result.
        box: which part of the picture, in its pixels.
    """
    mode = _averaged(image)
    if mode == image.mode:
        small = image.resize(size, Image.Resampling.BILINEAR, box)
    else:
        small = _converted_and_resized(image, mode, size, box)
    if small.mode == "RGBa":
        white = Image.new("RGBA", size, "white")
        return Image.alpha_composite(white, small.convert("RGBA")).convert("RGB")
    return small if small.mode in ("RGB", "L") else _grey(small, image)


def _averaged(image: Image.Image) -> str:
    """The mode in which neighbouring pixels of the picture may be averaged."""
    mode = image.mode
    if mode.startswith("I;16"):
        return mode if mode == "I;16" else "I"
    if "transparency" in image.info or mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        return "RGBa"  # each colour weighted by its opacity
    if mode in ("RGB", "L", "I", "F"):
        return mode
    return "L" if mode == "1" else "RGB"


def _converted_and_resized(
    image: Image.Image, mode: str, size: Size, box: Box
) -> Image.Image:
    left, top, right, bottom = box
    first, last = _span(top, bottom, size[1], image.height)
    start, end = _span(left, right, size[0], image.width)
    # Across: every row that counts, as wide as the result.
    narrow = Image.new(mode, (size[0], last - first))
    step = max(1, STRIP_PIXELS // (end - start))
    for row in range(first, last, step):
        until = min(row + step, last)
        strip = _converted(image.crop((start, row, end, until)), mode)
        part = (left - start, 0, right - start, until - row)
        size_across = (size[0], until - row)
        strip = strip.resize(size_across, Image.Resampling.BILINEAR, part)
        narrow.paste(strip, (0, row - first))
    # Down: the rows that are left.
    left_over = (0, top - first, size[0], bottom - first)
    return narrow.resize(size, Image.Resampling.BILINEAR, left_over)


def _span(low: float, high: float, count: int, end: int) -> tuple[int, int]:
    """The pixels of a line that ``count`` pixels between two places are made of."""
    reach = max(1.0, (high - low) / count)  # as far as bilinear weights go
    return max(0, math.floor(low - reach)), min(end, math.ceil(high + reach))


def _converted(strip: Image.Image, mode: str) -> Image.Image:
    return (
        strip.convert("RGBA").convert(mode) if mode == "RGBa" else strip.convert(mode)
    )


def _grey(small: Image.Image, full: Image.Image) -> Image.Image:
    """A picture of wide numbers in 8 bits.

    Whole numbers fill 16 bits. Anything else has no fixed range: it is stretched
    between its least and greatest value.
    """
    low, high = 0.0, 65535.0
    if full.mode in ("I", "F"):
        least, greatest = np.ravel(full.getextrema())
        if small.mode == "F" or least < low or greatest > high:
            low, high = float(least), float(greatest)
    values = np.asarray(small, np.float64)
    scaled = (values - low) * (255 / ((high - low) or 1))
    return Image.fromarray(np.rint(scaled).clip(0, 255).astype(np.uint8))
