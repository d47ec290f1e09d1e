"""Images: untrusted bytes to facts, squares of pixels and thumbnails.

Pillow decodes, one named format at a time and only after ``read_header`` has checked
the file against the limits. Every error is a ``BadImage`` with a stable code.
"""

from __future__ import annotations

import importlib.util
import io
import math
import os
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from lookalike import formats
from lookalike.crops import WHOLE, Crop
from lookalike.errors import BadImage, Misconfigured
from lookalike.resizing import resized

THUMBNAIL_TYPE = "image/jpeg"

_QUIET = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
_LARGE_BYTES = 16_000_000
# So many pictures of more than that are decoded at once, since each may take up to
# ``max_decode_bytes``. More than there are cores would not be faster anyway.
_large_ones = threading.BoundedSemaphore(max(2, os.cpu_count() or 1))
_MOST_SCANS = 100  # of a JPEG; progressive ones have about ten
_TURNS = {  # what undoes each EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Geometry:
    """How a picture becomes a network's square input.

    The shorter side is resized to ``resize`` pixels (bilinear), then the middle
    square of ``side`` pixels is taken.
    """

    side: int
    resize: int


@dataclass(frozen=True)
class Limits:
    """What is accepted as an image; see the settings of the same names."""

    formats: tuple[str, ...] = ("JPEG", "PNG", "WEBP", "GIF")
    max_bytes: int = 20 * 2**20
    max_pixels: int = 40_000_000
    max_side: int = 16_384
    max_decode_bytes: int = 200_000_000

    def __post_init__(self) -> None:
        """Refuse formats that could never be read.

        Raises:
            Misconfigured: an unknown format, or HEIF without its decoder.
        """
        for name in self.formats:
            if name not in formats.MEDIA_TYPES:
                known = ", ".join(formats.MEDIA_TYPES)
                raise Misconfigured(
                    f"LOOKALIKE_EXTRA_FORMATS: {name!r} is not among {known}"
                )
        if "HEIF" in self.formats and not importlib.util.find_spec("pillow_heif"):
            raise Misconfigured(
                "LOOKALIKE_EXTRA_FORMATS: HEIF needs its decoder, "
                "pip install 'lookalike[heif]'"
            )


@dataclass(frozen=True)
class Header:
    """What the header of an image file says, before any pixel is decoded."""

    format: str  # JPEG, PNG, WEBP, GIF, TIFF, HEIF
    width: int
    height: int


def media_type(name: str) -> str:
    """The media type of a format: ``image/jpeg`` for JPEG."""
    return formats.MEDIA_TYPES.get(name, "application/octet-stream")


def read_header(file: BinaryIO, limits: Limits) -> Header:
    """Format and size of an image file, without decoding it.

    Raises:
        BadImage: empty, too large, not of an accepted format, cut short, or more than
            memory holds once it is decoded.
    """
    name, measured = _examined(file, limits)
    return Header(name, *measured.size)


def _examined(file: BinaryIO, limits: Limits) -> tuple[str, formats.Measured]:
    length = file.seek(0, io.SEEK_END)
    if length == 0:
        raise BadImage("the image is empty: 0 bytes", code="image_empty")
    if length > limits.max_bytes:
        raise _too_large(f"has {length} bytes", "bytes", limits.max_bytes)
    _hush()
    file.seek(0)
    name = _accepted(file.read(512), limits)
    probe = formats.Probe(file, length, name)
    measured = formats.measure(probe)
    _check_size(measured.size, name, limits)
    _check_cost(measured.size, measured.cost, name, limits)
    formats.check_end(probe, measured.start)
    return name, measured


def decode_square(
    data: bytes, geometry: Geometry, limits: Limits, crop: Crop | None = None
) -> npt.NDArray[np.uint8]:
    """The middle of a picture as a network sees it: uint8 ``[side, side, 3]``, RGB.

    Upright by its EXIF orientation, transparency on white, 16 bits scaled to 8. With
    a crop, as if that part were the whole picture.

    Raises:
        BadImage: the bytes are not an image that is accepted, or cannot be decoded.
    """
    with _opened(data, limits) as image:
        part = WHOLE if crop is None else crop.stored(_turn(image))
        wide, high = part.right - part.left, part.bottom - part.top
        share = min(wide * image.width, high * image.height) / min(image.size)
        width, height = _draft(image, math.ceil(2 * geometry.resize / share))
        image.load()
        # The square is in the middle, so it may be cut out first and turned after.
        half = min(wide * width, high * height) * geometry.side / geometry.resize / 2
        x = (part.left + part.right) / 2 * width
        y = (part.top + part.bottom) / 2 * height
        box = (x - half, y - half, x + half, y + half)
        square = resized(image, (geometry.side, geometry.side), box)
        return np.asarray(_upright(square, image).convert("RGB"))


def thumbnail(data: bytes, side: int, limits: Limits) -> bytes:
    """A small JPEG, at most ``side`` pixels wide and high, never enlarged.

    Upright, on white, and without any metadata of the original.

    Raises:
        BadImage: the bytes are not an image that is accepted, or cannot be decoded.
    """
    with _opened(data, limits) as image:
        full = image.size
        scale = min(1, side / max(full))
        size = (max(1, round(full[0] * scale)), max(1, round(full[1] * scale)))
        width, height = _draft(image, min(size))
        image.load()
        small = _upright(resized(image, size, (0, 0, width, height)), image)
        out = io.BytesIO()
        small.save(out, "JPEG", quality=80)
        return out.getvalue()


# --- checks --------------------------------------------------------------------------


def _accepted(head: bytes, limits: Limits) -> str:
    name = formats.detect(head)
    if name in limits.formats:
        return name
    accepted = ", ".join(limits.formats)
    raise BadImage(
        f"{f'{name} is not accepted' if name else 'this is not an image'}; "
        f"accepted are {accepted}",
        code="image_unsupported",
        extra={"accepted": list(limits.formats), "detected": name},
    )


def _too_large(what: str, unit: str, limit: int) -> BadImage:
    return BadImage(
        f"the image {what}; at most {limit} {unit} are accepted",
        code="image_too_large",
        extra={"limit": limit},
    )


def _check_size(size: formats.Size, name: str, limits: Limits) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise formats.broken(name, f"it is {width} x {height} pixels")
    if max(size) > limits.max_side:
        raise _too_large(
            f"is {width} x {height} pixels", "pixels a side", limits.max_side
        )
    if width * height > limits.max_pixels:
        raise _too_large(
            f"is {width} x {height} pixels", "pixels in all", limits.max_pixels
        )


def _check_cost(size: formats.Size, cost: float, name: str, limits: Limits) -> None:
    """Refuse what would take more memory to decode than it may."""
    width, height = size
    needed = round(width * height * cost)
    if needed <= limits.max_decode_bytes:
        return
    accepted = int(limits.max_decode_bytes / cost)
    raise BadImage(
        f"the image is {width} x {height} pixels, and a {name} like it takes "
        f"{needed} bytes to decode; at most {accepted} pixels of such a {name} are "
        f"accepted, or {limits.max_pixels} as a baseline JPEG",
        code="image_too_large",
        extra={"limit": accepted, "needs_bytes": needed},
    )


# --- decoding ------------------------------------------------------------------------


def _hush() -> None:
    """What Pillow warns about is either refused here or harmless."""
    # Not catch_warnings: it is not safe with threads. Looked up each time because
    # others (pytest) exchange the list.
    if _QUIET not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL\.")


@contextmanager
def _opened(data: bytes, limits: Limits) -> Iterator[ImageFile.ImageFile]:
    """The picture, not decoded yet, its size as Pillow sees it checked once more.

    Through the one plugin: ``Image.open`` would guess among all formats again.

    Raises:
        BadImage: it is not accepted, or anything inside the block was raised.
    """
    name, measured = _examined(io.BytesIO(data), limits)
    if name == "JPEG":
        _check_scans(data)
    width, height = measured.size
    is_large = width * height * measured.cost > _LARGE_BYTES
    with (
        _large_ones if is_large else nullcontext(),
        formats.translated(name),
        _PLUGINS[name](io.BytesIO(data)) as image,
    ):
        _check_size(image.size, name, limits)
        _check_cost(image.size, measured.cost, name, limits)
        yield image


def _check_scans(data: bytes) -> None:
    """Refuse a JPEG of so many passes over the picture that decoding takes minutes."""
    picture = data.find(b"\xff\xda")
    scans = data.count(b"\xff\xda", picture, data.find(b"\xff\xd9", picture))
    if scans > _MOST_SCANS:
        raise formats.broken("JPEG", f"it has {scans} scans")


_PLUGINS: dict[str, Callable[[BinaryIO], ImageFile.ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WEBP": formats.FirstOfWebP,
    "GIF": GifImageFile,
    "TIFF": TiffImageFile,
    "HEIF": formats.open_heif,
}


def _draft(image: ImageFile.ImageFile, shorter: int) -> tuple[float, float]:
    """Let a JPEG decode smaller, its shorter side still at least ``shorter``.

    Gives the extent of the whole picture in the pixels that will be decoded, which
    may be a fraction less than their number.
    """
    drafted = image.draft(image.mode, (shorter, shorter))
    if drafted is None:
        return image.size
    _, (_, _, width, height) = drafted
    return width, height


def _upright(picture: Image.Image, source: Image.Image) -> Image.Image:
    """The picture turned as the EXIF orientation of its source says."""
    turn = _turn(source)
    return picture if turn is None else picture.transpose(turn)


def _turn(source: Image.Image) -> Image.Transpose | None:
    """What makes a picture upright, by its EXIF orientation."""
    try:
        return _TURNS.get(source.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # broken EXIF is no reason to refuse a good picture
        return None
