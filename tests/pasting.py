"""Pictures whose part was pasted into others, to see whether that part is found."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from lookalike.crops import Crop
from lookalike.explain import Grid
from photographs import Photograph

SIDE = 400  # pixels of a made picture


@dataclass(frozen=True)
class Pasted:
    """A photograph, and another into which a part of it was pasted.

    ``part`` is where the part was taken from, ``place`` where it came to lie.
    """

    original: bytes
    composite: bytes
    part: Crop
    place: Crop


def pasted(source: Photograph, ground: Photograph, rng: np.random.Generator) -> Pasted:
    """A square part of one photograph on another, at another size.

    Half to 85 % of the side of the photograph's middle square, 30 to 60 % of the side
    of the result, anywhere on it.
    """
    original, background = _square(source), _square(ground)
    taken = rng.uniform(0.5, 0.85)
    left, top = rng.uniform(0, 1 - taken, 2)
    size = round(SIDE * rng.uniform(0.3, 0.6))
    x, y = rng.integers(0, SIDE - size + 1, 2).tolist()
    box = (left * SIDE, top * SIDE, (left + taken) * SIDE, (top + taken) * SIDE)
    background.paste(original.resize((size, size), box=box), (x, y))
    return Pasted(
        original=_jpeg(original),
        composite=_jpeg(background),
        part=Crop(left, top, left + taken, top + taken),
        place=Crop(x / SIDE, y / SIDE, (x + size) / SIDE, (y + size) / SIDE),
    )


def concentration(grid: Grid, place: Crop) -> float:
    """A grid's share of mass inside a place, over the place's share of the area."""
    height, width = grid.shape
    down = _covered(place.top * height, place.bottom * height, height)
    across = _covered(place.left * width, place.right * width, width)
    inside = down[:, np.newaxis] * across
    mass = float((grid * inside).sum() / max(float(grid.sum()), 1e-12))
    return mass / float(inside.sum() / grid.size)


def _covered(start: float, end: float, cells: int) -> npt.NDArray[np.float64]:
    """How much of each cell lies between start and end: 0 to 1."""
    edges = np.arange(cells, dtype=np.float64)
    covered = np.minimum(edges + 1, end) - np.maximum(edges, start)
    return covered.clip(0, 1)


def _square(photograph: Photograph) -> Pillow.Image:
    with Pillow.open(photograph.path) as opened:
        image = opened.convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    return image.resize((SIDE, SIDE), Pillow.Resampling.BILINEAR, box)


def _jpeg(image: Pillow.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()
