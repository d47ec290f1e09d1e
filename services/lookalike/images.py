"""Images: untrusted bytes to facts, squares of pixels and thumbnails.

Pillow decodes, one named format at a time and only after ``read_header`` has checked
the file against the limits. Every error is a ``BadImage`` with a stable code.
"""

from __future__ import annotations

import importlib.util
import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from lookalike import formats
from lookalike.errors import BadImage, Misconfigured

THUMBNAIL_TYPE = "image/jpeg"

Box = tuple[float, float, float, float]  # left, top, right, bottom

_QUIET = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
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
        BadImage: empty, too large, not of an accepted format, or cut short.
    """
    length = file.seek(0, io.SEEK_END)
    if length == 0:
        raise BadImage("the image is empty: 0 bytes", code="image_empty")
    if length > limits.max_bytes:
        raise _too_large(f"has {length} bytes", "bytes", limits.max_bytes)
    _hush()
    file.seek(0)
    name = _accepted(file.read(512), limits)
    probe = formats.Probe(file, length, name)
    size, start = formats.measure(probe)
    _check_size(size, name, limits)
    formats.check_end(probe, start)
    return Header(name, *size)


def decode_square(
    data: bytes, geometry: Geometry, limits: Limits
) -> npt.NDArray[np.uint8]:
    """The middle of a picture as a network sees it: uint8 ``[side, side, 3]``, RGB.

    Upright by its EXIF orientation, transparency on white, 16 bits scaled to 8.

    Raises:
        BadImage: the bytes are not an image that is accepted, or cannot be decoded.
    """
    name = read_header(io.BytesIO(data), limits).format
    with formats.translated(name), _opened(data, name, limits) as image:
        width, height = _draft(image, 2 * geometry.resize)
        image.load()
        # The square is in the middle, so it may be cut out first and turned after.
        half = min(width, height) * geometry.side / geometry.resize / 2
        box = (width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half)
        square = _resized(image, (geometry.side, geometry.side), box)
        return np.asarray(_upright(square, image).convert("RGB"))


def thumbnail(data: bytes, side: int, limits: Limits) -> bytes:
    """A small JPEG, at most ``side`` pixels wide and high, never enlarged.

    Upright, on white, and without any metadata of the original.

    Raises:
        BadImage: the bytes are not an image that is accepted, or cannot be decoded.
    """
    name = read_header(io.BytesIO(data), limits).format
    with formats.translated(name), _opened(data, name, limits) as image:
        full = image.size
        scale = min(1, side / max(full))
        size = (max(1, round(full[0] * scale)), max(1, round(full[1] * scale)))
        width, height = _draft(image, min(size))
        image.load()
        small = _upright(_resized(image, size, (0, 0, width, height)), image)
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


# --- decoding ------------------------------------------------------------------------


def _hush() -> None:
    """What Pillow warns about is either refused here or harmless."""
    # Not catch_warnings: it is not safe with threads. Looked up each time because
    # others (pytest) exchange the list.
    if _QUIET not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL\.")


@contextmanager
def _opened(data: bytes, name: str, limits: Limits) -> Iterator[ImageFile.ImageFile]:
    """The picture, not decoded yet, its size as Pillow sees it checked once more.

    Through the one plugin: ``Image.open`` would guess among all formats again.
    """
    file = io.BytesIO(data)
    if name == "JPEG":
        _check_scans(data)
    with _PLUGINS[name](file) as image:
        _check_size(image.size, name, limits)
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
    "WEBP": WebPImageFile,
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


def _resized(image: Image.Image, size: tuple[int, int], box: Box) -> Image.Image:
    """A part of the picture at another size, in mode RGB or L."""
    full = _resizable(image)
    small = full.resize(size, Image.Resampling.BILINEAR, box)
    if small.mode in ("RGBA", "LA"):
        white = Image.new("RGBA", size, "white")
        return Image.alpha_composite(white, small.convert("RGBA")).convert("RGB")
    if small.mode in ("RGB", "L"):
        return small
    return _grey(small, full)


def _resizable(image: Image.Image) -> Image.Image:
    """The picture in a mode in which neighbouring pixels may be averaged."""
    mode = image.mode
    if mode in ("I;16", "I", "F"):
        return image
    if mode.startswith("I;16"):
        return image.convert("I")
    if "transparency" in image.info or mode in ("PA", "La", "RGBa"):
        return image.convert("RGBA")
    if mode in ("RGB", "L", "RGBA", "LA"):
        return image
    return image.convert("L" if mode == "1" else "RGB")


def _grey(small: Image.Image, full: Image.Image) -> Image.Image:
    """A picture of wide numbers in 8 bits.

    Whole numbers fill 16 bits. Anything else has no fixed range: it is stretched
    between its least and greatest value.
    """
    low, high = 0.0, 65535.0
    if small.mode != "I;16":
        least, greatest = np.ravel(full.getextrema())
        if small.mode == "F" or least < low or greatest > high:
            low, high = float(least), float(greatest)
    values = np.asarray(small, np.float64)
    scaled = (values - low) * (255 / ((high - low) or 1))
    return Image.fromarray(np.rint(scaled).clip(0, 255).astype(np.uint8))


def _upright(picture: Image.Image, source: Image.Image) -> Image.Image:
    """The picture turned as the EXIF orientation of its source says."""
    try:
        turn = _TURNS.get(source.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # broken EXIF is no reason to refuse a good picture
        turn = None
    return picture if turn is None else picture.transpose(turn)
