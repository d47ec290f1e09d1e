"""Smooth random fields, drawn on small grids and enlarged by Pillow."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

Field = npt.NDArray[np.float32]


def enlarge(grid: Field, width: int, height: int) -> Field:
    """The grid, enlarged smoothly to that many pixels."""
    image = Image.fromarray(grid)
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def cloud(
    rng: np.random.Generator,
    side: int,
    cells: float,
    octaves: int = 4,
    stretch: float = 1.0,
    falloff: float = 0.5,
) -> Field:
    """A square field of soft random hills, mean 0 and deviation 1.

    Args:
        rng: where the randomness comes from.
        side: pixels to a side.
        cells: hills across the field, for the coarsest octave.
        octaves: each adds hills of half the size.
        stretch: above 1, hills are that much longer than wide (along y).
        falloff: height of each octave against the one before.
    """
    total = np.zeros((side, side), np.float32)
    height = 1.0
    for octave in range(octaves):
        across = max(2, round(cells * 2**octave))
        along = max(2, round(across / stretch))
        grid = rng.standard_normal((along + 3, across + 3), dtype=np.float32)
        total += np.float32(height) * enlarge(grid, side, side)
        height *= falloff
    total -= total.mean()
    total /= max(float(total.std()), 1e-6)
    return total


def steps(
    field: Field, low: float | Field, high: float | Field, top: float = 1.0
) -> Field:
    """0 where the field is below ``low``, ``top`` above ``high``, smooth between."""
    t = np.clip((field - low) / (high - low), 0.0, 1.0)
    smooth: Field = (t * t * (3.0 - 2.0 * t) * top).astype(np.float32)
    return smooth
