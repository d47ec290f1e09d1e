"""Image file formats: told by their first bytes, measured without decoding.

Everything here reads a few bytes of an untrusted file by seeking, so that a file too
large, broken or cut short costs neither memory nor time.
"""

from __future__ import annotations

import importlib
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from PIL import Image, ImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from lookalike import costs
from lookalike.errors import BadImage

Size = tuple[int, int]  # width, height

MEDIA_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "TIFF": "image/tiff",
    "HEIF": "image/heif",
}

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"BM", "BMP"),
    (b"%PDF-", "PDF"),
    (b"8BPS", "Photoshop"),
    (b"\0\0\1\0", "ICO"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"PK\x03\x04", "ZIP"),
    (b"\x1f\x8b", "gzip"),
)
_HEIF_BRANDS = frozenset(
    (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
)
_BLOCK = 64 * 2**10

_ALONE = frozenset((0x01, *range(0xD0, 0xD9)))  # JPEG markers without a length
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # those with a size


def detect(head: bytes) -> str | None:
    """The name of the format that begins like this, accepted or not, if known."""
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        return _brand(head[8:12])
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"<svg") or (text.startswith(b"<?xml") and b"<svg" in text):
        return "SVG"
    return "HTML" if text.startswith((b"<!doctype html", b"<html")) else None


def _brand(brand: bytes) -> str:
    if brand in _HEIF_BRANDS:
        return "HEIF"
    return "AVIF" if brand in (b"avif", b"avis") else "MP4"


def truncated(what: str) -> BadImage:
    """The error for a file that ends too early."""
    return BadImage(f"the {what} file is cut short", code="image_truncated")


def broken(what: str, why: str) -> BadImage:
    """The error for a file that contradicts its own format."""
    return BadImage(f"the {what} file is broken: {why}", code="image_broken")


class Probe:
    """Reads an image file here and there; a file that ends early is truncated."""

    def __init__(self, file: BinaryIO, length: int, name: str) -> None:
        self.file = file
        self.length = length
        self.name = name
        # A file made of millions of tiny parts would cost seconds. An honest GIF,
        # the format of the smallest parts, has one for every 256 bytes.
        self._reads_left = max(20_000, length // 128)

    def at(self, place: int, count: int) -> bytes:
        """``count`` bytes from a place.

        Raises:
            BadImage: the file ends before, or too much was read already.
        """
        self._reads_left -= 1
        if self._reads_left < 0:
            raise broken(self.name, "it has too many parts")
        self.file.seek(place)
        data = self.file.read(count)
        if len(data) != count:
            raise truncated(self.name)
        return data

    def numbers(self, layout: str, place: int) -> tuple[int, ...]:
        """Numbers at a place, as ``struct`` lays them out.

        Raises:
            BadImage: the file ends before.
        """
        return struct.unpack(layout, self.at(place, struct.calcsize(layout)))

    def has_after(self, place: int, pattern: bytes) -> bool:
        """Whether the pattern occurs behind a place; looks from the end."""
        end = self.length
        while end > place:
            start = max(place, end - _BLOCK)
            reach = min(end + len(pattern) - 1, self.length)
            if pattern in self.at(start, reach - start):
                return True
            end = start
        return False


@dataclass(frozen=True)
class Measured:
    """What a header says of the picture behind it."""

    size: Size
    start: int  # where the picture's data may begin
    cost: float  # bytes of memory per pixel that decoding takes


def measure(probe: Probe) -> Measured:
    """Width and height of the picture, and what decoding it takes.

    Raises:
        BadImage: the header is broken or cut short.
    """
    match probe.name:
        case "JPEG":
            return _measure_jpeg(probe)
        case "PNG":
            return _measure_png(probe)
        case "WEBP":
            size = _measure_webp(probe)
            return Measured(size, 12, costs.webp(size, probe.length))
        case "GIF":
            return Measured(_measure_gif(probe), 13, costs.GIF)
        case "TIFF":
            return _measure_tiff(probe)
        case _:
            return Measured(_measure_heif(probe), 0, costs.HEIF)


def check_end(probe: Probe, start: int) -> None:
    """Refuse a file that is cut short; ``start`` is where the data may begin.

    Raises:
        BadImage: the picture does not reach its end.
    """
    match probe.name:
        case "JPEG":
            _check_jpeg_end(probe, start)
        case "PNG":
            _check_png_end(probe, start)
        case "WEBP":
            _check_webp_end(probe)
        case "GIF":
            _check_gif_end(probe, start)
        case "TIFF":
            _check_tiff_end(probe)
        case _:
            _check_heif_end(probe)


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Turns whatever a decoder raises into a ``BadImage`` that says what is wrong.

    Raises:
        BadImage: something inside was raised.
    """
    try:
        yield
    except BadImage:
        raise
    except (MemoryError, Image.DecompressionBombError) as error:
        raise BadImage(
            f"the {name} image needs more memory than there is",
            code="image_too_large",
        ) from error
    except Exception as error:  # hostile bytes make decoders raise almost anything
        if isinstance(error, EOFError) or "truncated" in str(error).lower():
            raise truncated(name) from error
        raise broken(name, str(error) or type(error).__name__) from error


def _measure_jpeg(probe: Probe) -> Measured:
    place, frame = 2, None
    while True:
        place, marker = _next_marker(probe, place)
        if marker in _ALONE:
            continue
        if marker == 0xD9:
            raise broken("JPEG", "it ends before its picture begins")
        (length,) = probe.numbers(">H", place)
        if length < 2:
            raise broken("JPEG", "a segment without a length")
        if marker in _FRAMES:
            frame = _jpeg_frame(probe, place, marker)
        if marker == 0xDA:
            if frame is None:
                raise broken("JPEG", "its picture has no size")
            (scanned,) = probe.at(place + 2, 1)
            size = (frame.width, frame.height)
            return Measured(size, place + length, costs.jpeg(frame, scanned))
        place += length


def _jpeg_frame(probe: Probe, place: int, marker: int) -> costs.JpegFrame:
    height, width, channels = probe.numbers(">HHB", place + 3)
    samplings = probe.at(place + 8, 3 * channels)[1::3]
    return costs.JpegFrame(
        marker, width, height, [(both >> 4, both & 15) for both in samplings]
    )


def _next_marker(probe: Probe, place: int) -> tuple[int, int]:
    """Where the next marker ends, and which it is; skips bytes between segments."""
    while True:
        first, second = probe.at(place, 2)
        if first == 0xFF and 0 < second < 0xFF:
            return place + 2, second
        place += 1


def _check_jpeg_end(probe: Probe, picture: int) -> None:
    """Refuse a JPEG whose picture has no end."""
    # Within a picture FF is always followed by 00 or a marker that is not this one.
    if not probe.has_after(picture, b"\xff\xd9"):
        raise truncated("JPEG")


def _measure_png(probe: Probe) -> Measured:
    if probe.at(12, 4) != b"IHDR":
        raise broken("PNG", "it does not begin with its header")
    width, height, depth, colour = probe.numbers(">IIBB", 16)
    return Measured((width, height), 33, costs.png(depth, colour))


def _check_png_end(probe: Probe, start: int) -> None:
    """Refuse a PNG without its last chunk."""
    if not probe.has_after(start, b"\0\0\0\0IEND"):
        raise truncated("PNG")


def _measure_webp(probe: Probe) -> Size:
    kind = probe.at(12, 4)
    if kind == b"VP8X":
        flat = probe.at(24, 6)
        width = int.from_bytes(flat[:3], "little") + 1
        return width, int.from_bytes(flat[3:], "little") + 1
    if kind == b"VP8L":
        (bits,) = probe.numbers("<I", 21)
        return (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = probe.numbers("<HH", 26)
        return width & 0x3FFF, height & 0x3FFF
    raise broken("WEBP", "it does not begin with a picture")


def _check_webp_end(probe: Probe) -> None:
    """Refuse a WebP shorter than it says."""
    (length,) = probe.numbers("<I", 4)
    if length + 8 > probe.length:
        raise truncated("WEBP")


def _measure_gif(probe: Probe) -> Size:
    width, height = probe.numbers("<HH", 6)
    return width, height


def _check_gif_end(probe: Probe, start: int) -> None:
    """Refuse a GIF whose first frame is cut short."""
    (flags,) = probe.at(10, 1)
    place = start + _colours(flags)
    while True:
        (kind,) = probe.at(place, 1)
        if kind == 0x21:  # an extension: its label, then blocks
            place = _after_blocks(probe, place + 2)
        elif kind == 0x2C:
            (flags,) = probe.at(place + 9, 1)
            _after_blocks(probe, place + 11 + _colours(flags))
            return
        else:
            raise broken("GIF", "it has no frame")


def _colours(flags: int) -> int:
    """Bytes of the colour table that the flags announce."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _after_blocks(probe: Probe, place: int) -> int:
    length = -1
    while length != 0:
        (length,) = probe.at(place, 1)
        place += 1 + length
    return place


def _check_heif_end(probe: Probe) -> None:
    """Refuse a HEIF whose boxes reach behind the end of the file."""
    place = 0
    while place < probe.length:
        (length,) = probe.numbers(">I", place)
        if length == 1:
            (length,) = probe.numbers(">Q", place + 8)
        if length == 0:  # up to the end, whatever that is
            return
        if length < 8:
            raise broken("HEIF", "a box without a length")
        place += length
    if place > probe.length:
        raise truncated("HEIF")


def _measure_tiff(probe: Probe) -> Measured:
    probe.file.seek(0)
    with translated("TIFF"):
        image = TiffImageFile(probe.file)
        tags = image.tag_v2
        width, height = int(tags[256]), int(tags[257])
        strip = _strip_pixels(tags, width, height) * _bits(tags) / 8
        if tags.get(259, 1) == 1:  # not compressed: read as it is
            strip = 0
        cost = costs.tiff(image.mode, strip / max(1, width * height))
        return Measured((width, height), 8, cost)


def _strip_pixels(tags: Any, width: int, height: int) -> int:
    """Pixels of one strip or tile, which is decompressed in whole."""
    if 322 in tags:
        return int(tags[322]) * int(tags.get(323, height))
    return width * min(height, int(tags.get(278, height)))


def _bits(tags: Any) -> int:
    """Bits of a decompressed pixel; those of YCbCr become RGBA on the way."""
    bits = tags.get(258, (1,))
    return 32 if tags.get(262) == 6 else sum(map(int, bits))


def _check_tiff_end(probe: Probe) -> None:
    """Refuse a TIFF whose strips or tiles reach behind the end of the file."""
    probe.file.seek(0)
    with translated("TIFF"):
        tags = TiffImageFile(probe.file).tag_v2
        for places, lengths in ((273, 279), (324, 325)):
            parts = zip(tags.get(places, ()), tags.get(lengths, ()), strict=False)
            if any(place + length > probe.length for place, length in parts):
                raise truncated("TIFF")


def _measure_heif(probe: Probe) -> Size:
    probe.file.seek(0)
    with translated("HEIF"):
        return open_heif(probe.file).size


def open_heif(file: BinaryIO) -> ImageFile.ImageFile:
    """A HEIF file as a picture of Pillow's; needs the ``heif`` extra."""
    plugin = importlib.import_module("pillow_heif.as_plugin")
    opened: ImageFile.ImageFile = plugin.HeifImageFile(file)
    return opened


class FirstOfWebP(WebPImageFile):
    """A WebP of which only the first frame is wanted.

    Its decoder is let go of as soon as that frame is decoded, before Pillow makes a
    picture of it: 12 bytes per pixel at most instead of 16.
    """

    def _get_next(self) -> tuple[bytes, int, int]:
        frame = super()._get_next()
        self._decoder = None
        return frame
