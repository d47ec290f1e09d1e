"""What decoding takes: memory and time of every format and mode at the pixel limit.

    PYTHONPATH=tests python -m benchmarks.decoding

The figures in ``lookalike.costs`` come from here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from decode_memory import decode_memory

SIZE = (8_000, 5_000)

Sample = tuple[str, str, dict[str, Any]]  # mode, format, options

JPEGS: list[Sample] = [
    (mode, "JPEG", {"progressive": progressive, "subsampling": subsampling})
    for mode, subsampling in (("RGB", 2), ("RGB", 0), ("L", 0), ("CMYK", 0))
    for progressive in (False, True)
]
PNGS: list[Sample] = [
    (mode, "PNG", {"compress_level": 1})
    for mode in ("1", "L", "I;16", "P", "LA", "RGB", "RGBA")
] + [("P", "PNG", {"transparency": 3})]
WEBPS: list[Sample] = [
    ("RGB", "WEBP", {"method": 0}),
    ("RGBA", "WEBP", {"method": 0}),
    ("RGB", "WEBP", {"method": 0, "lossless": True, "quality": 0}),
    ("RGB", "WEBP", {"method": 0, "save_all": True}),
]
GIFS: list[Sample] = [
    ("P", "GIF", {}),
    ("P", "GIF", {"transparency": 3}),
    ("P", "GIF", {"save_all": True}),
]
TIFFS: list[Sample] = [
    (mode, "TIFF", {"compression": "tiff_lzw", "strip_size": strip})
    for mode in ("P", "I;16", "RGB", "RGBA", "CMYK")
    for strip in (2**16, 2**30)
]


def picture() -> Image.Image:
    """Soft colours: what a codec keeps in memory does not depend on them."""
    colours = np.random.default_rng(0).integers(0, 256, (50, 80, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize(SIZE, Image.Resampling.BILINEAR)


def in_mode(mode: str) -> Image.Image:
    """The picture in a mode of Pillow's."""
    image = picture()
    if mode == "P":
        return image.quantize(64, method=Image.Quantize.FASTOCTREE)
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    if mode == "RGBA":
        image.putalpha(image.convert("L"))
    return image.convert(mode)


def rows() -> Iterator[str]:
    """One line of the table for each sample."""
    with tempfile.TemporaryDirectory() as folder:
        for mode, name, options in (*JPEGS, *PNGS, *WEBPS, *GIFS, *TIFFS):
            file = Path(folder) / f"picture.{name.lower()}"
            image = in_mode(mode)
            if options.get("save_all"):
                options["append_images"] = [image.transpose(Image.Transpose.ROTATE_180)]
            image.save(file, name, **options)
            del image
            options.pop("append_images", None)
            peak, seconds = decode_memory(file)
            per_pixel = peak / (SIZE[0] * SIZE[1])
            said = " ".join(f"{key}={value}" for key, value in options.items())
            yield (
                f"{name:5} {mode:5} {said:45} {peak / 1e6:7.1f} MB "
                f"{per_pixel:6.2f} a pixel {seconds:6.2f} s"
            )


if __name__ == "__main__":
    Image.MAX_IMAGE_PIXELS = None
    for row in rows():
        print(row, flush=True)
