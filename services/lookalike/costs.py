"""What decoding a picture takes, in bytes of memory per pixel, told by its header.

Measured with ``python -m benchmarks.decoding`` on pictures of 40 million pixels, each
in a process of its own: the most resident memory while ``decode_square`` ran, less
what was resident before. Pillow 13.0 with libjpeg-turbo 3.2, libwebp 1.6, libtiff 4.7;
pillow-heif 1.8 with libheif 1.23.

    JPEG   baseline 0.06, CMYK 0.11 · progressive: grey 2.01, 4:2:0 3.07, 4:4:4 6.06,
           CMYK 8.06
    PNG    1 bit, palette, grey 1.00 to 1.10 · grey of 16 bits 2.02 · RGB 4.05, RGBA
           and grey with transparency 4.12
    WebP   12.0, and its file once more; of all kinds alike
    GIF    1.05 to 1.10, animated or not
    TIFF   as PNG; compressed in one strip, another 1 (palette) to 4 (RGBA)
    HEIF   8.2, with transparency 8.4
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# A decoded picture: Pillow keeps a pixel of several channels in four bytes.
NARROW = 1.0  # modes 1, L and P
WIDE_GREY = 2.0  # modes I;16
FULL = 4.0  # every other mode

JPEG_SAMPLE = 2.0  # of a picture that is not decoded in one pass
JPEG_DRAFT_SIDE = 512  # decoded smaller, the shorter side still at least this long

WEBP = (
    12.0  # two canvases of libwebp's decoder of animations, used for all, and a frame
)
GIF = NARROW  # the first frame alone
HEIF = 9.0  # libheif's planes and their RGB

# Frames whose scans hold every channel, from top to bottom: sequential ones.
_SEQUENTIAL = frozenset((0xC0, 0xC1, 0xC9))


@dataclass(frozen=True)
class JpegFrame:
    """What the header of a JPEG says of its samples."""

    marker: int  # SOF0 to SOF15: 0xC0 to 0xCF
    width: int
    height: int
    samplings: Sequence[tuple[int, int]]  # of each channel: across and down

    @property
    def samples(self) -> float:
        """Samples of all channels per pixel: 1 (grey), 1.5 (4:2:0) to 4 (CMYK)."""
        across = max((across for across, _ in self.samplings), default=0)
        down = max((down for _, down in self.samplings), default=0)
        return sum(a * d for a, d in self.samplings) / max(1, across * down)


def jpeg(frame: JpegFrame, scanned: int) -> float:
    """Bytes per pixel of a JPEG whose first scan holds so many channels.

    A progressive one is kept in whole until its last scan, and so is one that is sent
    channel by channel. Any other passes through a few rows.
    """
    scale = 1
    while scale < 8 and min(frame.width, frame.height) >= 2 * scale * JPEG_DRAFT_SIDE:
        scale *= 2
    shown = FULL / scale**2
    if frame.marker in _SEQUENTIAL and scanned == len(frame.samplings):
        return shown
    return shown + JPEG_SAMPLE * frame.samples


def png(depth: int, colour: int) -> float:
    """Bytes per pixel of a PNG by its bit depth and colour type."""
    if colour not in (0, 3):
        return FULL
    return WIDE_GREY if depth == 16 else NARROW


def webp(size: tuple[int, int], length: int) -> float:
    """Bytes per pixel of a WebP, whose file of ``length`` bytes libwebp copies."""
    return WEBP + length / max(1, size[0] * size[1])


def tiff(mode: str, strip: float) -> float:
    """Bytes per pixel of a TIFF.

    Args:
        mode: Pillow's mode of the picture.
        strip: bytes of one decompressed strip or tile, for each pixel of the picture.
    """
    if mode in ("1", "L", "P"):
        return NARROW + strip
    return strip + (WIDE_GREY if mode.startswith("I;16") else FULL)
