"""Pictures for tests: made here, seeded, believable enough for a decoder."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

Array = npt.NDArray[np.uint8]


def photograph(seed: int = 0, width: int = 400, height: int = 300) -> Image.Image:
    """Something like a photograph: soft large shapes, fine grain, some edges."""
    generator = np.random.default_rng(seed)
    size = (width, height)
    layers = np.zeros((height, width, 3), np.float32)
    for cells, weight in ((3, 0.5), (9, 0.25), (27, 0.15)):
        small = generator.integers(0, 256, (cells, cells, 3), np.uint8)
        grown = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
        layers += weight * np.asarray(grown, np.float32)
    for _ in range(6):
        left, top = generator.integers(0, width), generator.integers(0, height)
        part = layers[top : top + height // 4, left : left + width // 4]
        part += generator.uniform(-60, 60, 3).astype(np.float32)
    layers += generator.normal(0, 4, layers.shape).astype(np.float32)
    return Image.fromarray(layers.clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, name: str, **options: object) -> bytes:
    """An image as the bytes of a file."""
    out = io.BytesIO()
    image.save(out, name, **options)
    return out.getvalue()


def jpeg(
    seed: int = 0, width: int = 400, height: int = 300, *, quality: int = 90
) -> bytes:
    """A JPEG like a camera's."""
    return encoded(photograph(seed, width, height), "JPEG", quality=quality)


def quadrants(width: int = 200, height: int = 120) -> Image.Image:
    """Red, green, blue and yellow quarters: shows any turn or flip."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (220, 30, 30)
    pixels[: height // 2, width // 2 :] = (30, 200, 30)
    pixels[height // 2 :, : width // 2] = (30, 30, 220)
    pixels[height // 2 :, width // 2 :] = (220, 220, 30)
    return Image.fromarray(pixels)


def with_orientation(image: Image.Image, orientation: int, name: str) -> bytes:
    """The picture stored turned, its EXIF saying how to turn it upright."""
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = image if orientation == 1 else image.transpose(back[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Lookalike Test Camera"
    if name == "TIFF":
        return encoded(stored, name, tiffinfo={0x0112: orientation})
    return encoded(stored, name, exif=exif.tobytes(), quality=95)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG, its checksum right."""
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def png_bomb(width: int = 13_000, height: int = 13_000) -> bytes:
    """A small PNG file of a huge one-colour picture, valid to its end."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    compressor = zlib.compressobj(9)
    row = b"\0" * (1 + 3 * width)
    data = b"".join(compressor.compress(row) for _ in range(height))
    data += compressor.flush()
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", data)
        + png_chunk(b"IEND", b"")
    )


def png_16_bit_rgb(value: int, side: int = 100) -> bytes:
    """A PNG of one colour at 16 bits a channel, which Pillow cannot write."""
    header = struct.pack(">IIBBBBB", side, side, 16, 2, 0, 0, 0)
    row = b"\0" + struct.pack(">H", value) * 3 * side
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(row * side))
        + png_chunk(b"IEND", b"")
    )


def jpeg_of_many_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan is repeated: cheap to send, dear to decode."""
    whole = encoded(photograph(), "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    return whole[:last] + whole[last:-2] * count + b"\xff\xd9"


def mutated(data: bytes, seed: int) -> bytes:
    """The same bytes with some damage: flipped bits, a lost piece or a lost end."""
    generator = np.random.default_rng(seed)
    damaged = bytearray(data)
    match seed % 3:
        case 0:
            for _ in range(int(generator.integers(1, 40))):
                place = int(generator.integers(0, len(damaged)))
                damaged[place] ^= 1 << int(generator.integers(0, 8))
        case 1:
            del damaged[int(generator.integers(0, len(damaged))) :]
        case _:  # the header alone, where lengths and sizes are
            for _ in range(int(generator.integers(1, 6))):
                place = int(generator.integers(0, min(600, len(damaged))))
                damaged[place] = int(generator.integers(0, 256))
    return bytes(damaged)


def folder_of_photographs(folder: Path, count: int) -> list[Path]:
    """``count`` different JPEG files in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:04}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(jpeg(seed=number))
    return paths
