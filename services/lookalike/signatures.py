"""Perceptual signatures: how a picture looks, in 363 bytes.

A signature holds the square that the network sees as 24 x 24 grey cells of 4 bits,
stretched between the darkest and the brightest, and its colour as 6 x 6 cells of two
chroma differences. ``lookalike.alignment`` says how alike two of them are.
"""

from __future__ import annotations

import math
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from lookalike.cells import Floats, blocks, smoothed

Squares = npt.NDArray[np.uint8]  # [N, S, S, 3], RGB

VERSION = 1
GREY = 24  # cells a side
CHROMA = 6
COARSE = GREY // 2
LEVELS = 15  # of grey, in 4 bits
LENGTH = 3 + GREY * GREY // 2 + 2 * CHROMA * CHROMA
LEAST_CONTRAST = 8  # levels of 255 between the darkest and the brightest cell


def sign(squares: Squares) -> list[bytes]:
    """The signatures of pictures: 363 bytes of each uint8 square ``[N, S, S, 3]``.

    Many at once take less than half the time of each by itself.
    """
    if not len(squares):
        return []
    side = squares.shape[1]
    step, to_grey, to_chroma = _areas(side)
    # All as one tall picture, unless a cell would lie across two of them.
    parts = np.split(squares, 1 if side % step == 0 else len(squares))
    reduced = b"".join(_reduced(part, step) for part in parts)
    cells = np.frombuffer(reduced, np.uint8).astype(np.float32)
    bands = cells.reshape(len(squares), len(to_grey.T), -1, 3).transpose(3, 0, 1, 2)
    luma, blue, red = np.ascontiguousarray(bands)
    grey = (to_grey @ luma @ to_grey.T).clip(0, 255)
    low = np.floor(grey.min((1, 2), keepdims=True))
    high = np.ceil(grey.max((1, 2), keepdims=True))
    levels = (grey - low) * (LEVELS / np.maximum(1, high - low)) + 0.5
    pairs = levels.astype(np.uint8).reshape(len(squares), -1, 2)
    packed = pairs[..., 0] << 4 | pairs[..., 1]
    colour = [to_chroma @ band @ to_chroma.T for band in (blue, red)]
    chroma = (np.stack(colour, -1) + 0.5).reshape(len(squares), -1)
    version = np.full((len(squares), 1), VERSION)
    columns = (version, low[..., 0], high[..., 0], packed, chroma)
    rows = np.concatenate([column.astype(np.uint8) for column in columns], axis=1)
    return [row.tobytes() for row in rows]


def _reduced(squares: Squares, step: int) -> bytes:
    """Squares with so many pixels a side taken together, in luma and chroma."""
    size = (squares.shape[1], len(squares) * squares.shape[1])
    pixels = np.ascontiguousarray(squares)
    whole = Image.frombuffer("RGB", size, pixels, "raw", "RGB", 0, 1)
    return whole.reduce(step).convert("YCbCr").tobytes()


@lru_cache(maxsize=8)
def _areas(side: int) -> tuple[int, Floats, Floats]:
    """How many pixels to take together, and what makes cells of these.

    Each cell is the mean of exactly its area of the square, in which the last of what
    was taken together can be smaller.
    """
    most = max(1, side // GREY)
    even = (step for step in range(most, most // 2, -1) if side % step == 0)
    step = next(even, most)
    edges = np.minimum(np.arange(math.ceil(side / step) + 1) * step, side)
    made = []
    for cells in (GREY, CHROMA):
        low = np.arange(cells)[:, np.newaxis] * (side / cells)
        high = low + side / cells
        overlap = np.minimum(high, edges[1:]) - np.maximum(low, edges[:-1])
        overlap = overlap.clip(0, None)
        made.append((overlap * (cells / side)).astype(np.float32))
    return step, made[0], made[1]


class Look:
    """A signature made ready to be compared.

    Attributes:
        is_flat: whether there is too little to see for a comparison.
        grey: float32 ``[24, 24]``, in levels of 255.
        chroma: float32 ``[6, 6, 2]``, in levels of 255 above and below none.
    """

    def __init__(self, signature: bytes) -> None:
        if not is_readable(signature):
            raise ValueError("not a signature of this version")
        low, high = signature[1:3]
        self.is_flat = high - low < LEAST_CONTRAST
        data = np.frombuffer(signature, np.uint8, offset=3)
        packed, chroma = np.split(data, [GREY * GREY // 2])
        cells = np.stack([packed >> 4, packed & 15], 1).reshape(GREY, GREY)
        self.grey: Floats = low + cells.astype(np.float32) * ((high - low) / LEVELS)
        self.chroma: Floats = chroma.reshape(CHROMA, CHROMA, 2).astype(np.float32) - 128

    @cached_property
    def soft(self) -> Floats:
        """The grey cells smoothed, as noise and the finest detail differ in copies."""
        return smoothed(self.grey)

    @cached_property
    def coarse(self) -> Floats:
        """Half as many cells a side, float32 ``[12, 12]``."""
        return blocks(self.soft, COARSE)


def is_readable(signature: bytes) -> bool:
    """Whether this version can say what a signature means."""
    return len(signature) == LENGTH and signature[0] == VERSION
