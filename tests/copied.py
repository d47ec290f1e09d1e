"""Altered copies of pictures, as people make them."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from pictures import encoded


def opened(data: bytes) -> Image.Image:
    """A picture upright and in RGB."""
    with Image.open(io.BytesIO(data)) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def encoded_again(data: bytes, generator: np.random.Generator) -> bytes:
    """As a JPEG of quality 40 to 60."""
    quality = int(generator.integers(40, 61))
    return encoded(opened(data), "JPEG", quality=quality)


def resized(data: bytes, _generator: np.random.Generator) -> bytes:
    """Half as wide and high."""
    image = opened(data)
    half = (max(1, image.width // 2), max(1, image.height // 2))
    small = image.resize(half, Image.Resampling.LANCZOS)
    return encoded(small, "JPEG", quality=90)


def cropped(data: bytes, generator: np.random.Generator) -> bytes:
    """90 % of its width and height, from anywhere in it."""
    image = opened(data)
    width, height = round(image.width * 0.9), round(image.height * 0.9)
    left = int(generator.integers(0, image.width - width + 1))
    top = int(generator.integers(0, image.height - height + 1))
    part = image.crop((left, top, left + width, top + height))
    return encoded(part, "JPEG", quality=90)


def brightened(data: bytes, generator: np.random.Generator) -> bytes:
    """A quarter brighter or darker."""
    factor = 1.25 if generator.random() < 0.5 else 0.75
    image = ImageEnhance.Brightness(opened(data)).enhance(factor)
    return encoded(image, "JPEG", quality=90)


Alter = Callable[[bytes, np.random.Generator], bytes]
ALTERATIONS: dict[str, Alter] = {
    "encoded again": encoded_again,
    "resized": resized,
    "cropped": cropped,
    "brightness": brightened,
}
