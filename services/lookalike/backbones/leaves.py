"""Pictures made by chance, for where there are no real ones: dead leaves.

Discs of random size, colour and texture that cover each other. With radii by the law
``p(r) ~ r**-3`` such pictures have the edges, the flat patches and the spectrum of
photographs (Lee, Mumford and Huang 2001, "Occlusion models for natural images"). They
stand in for photographs when ranges of activations are measured; as evidence of how a
network does on photographs they are weak.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]  # [n, S, S, 3], RGB

DISCS = 160  # cover nearly every pixel
SMALLEST, LARGEST = 0.02, 0.6  # radii, in sides


def dead_leaves(
    count: int, side: int, *, shots: int = 1, seed: int = 0, batch: int = 16
) -> Iterator[Pixels]:
    """That many squares of pixels, uint8 ``[n, side, side, 3]``, ``batch`` at once.

    The same arguments give the same pictures.

    Args:
        count: pictures in all.
        side: S, in pixels.
        shots: how often each scene is seen: nearer or farther, mirrored, in another
            light, so that a picture has neighbours and strangers, as in a catalogue.
        seed: another seed, other scenes.
        batch: pictures at once.
    """
    for start in range(0, count, batch):
        numbers = range(start, min(start + batch, count))
        yield np.stack(
            [_picture(side, (seed, *divmod(number, shots))) for number in numbers]
        )


def _picture(side: int, seeds: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    scene, shot = np.random.default_rng(seeds[:2]), np.random.default_rng(seeds)
    rows, columns = _view(side, shot)
    picture = np.tile(_colour(scene), (side, side, 1))
    contrast = scene.uniform(0.3, 1)
    for _ in range(DISCS):
        x, y = scene.uniform(-0.1, 1.1, 2)
        inside = (rows - y) ** 2 + (columns - x) ** 2 < _radius(scene) ** 2
        # A grating on each of them: from a soft shade to a weave.
        angle, waves = scene.uniform(0, np.pi), scene.uniform(0.5, side / 8)
        along = rows[inside] * np.sin(angle) + columns[inside] * np.cos(angle)
        wave = np.sin(2 * np.pi * waves * along) * scene.exponential(15)
        picture[inside] = _colour(scene) + wave[:, None]
    grey = picture.mean()
    lit = (picture - grey) * contrast * shot.uniform(0.8, 1) + grey
    lit += shot.uniform(-40, 40) + shot.normal(0, 3, picture.shape)
    levels: npt.NDArray[np.uint8] = np.clip(np.rint(lit), 0, 255).astype(np.uint8)
    return levels


def _view(side: int, shot: np.random.Generator) -> npt.NDArray[np.float64]:
    """Where in the scene each pixel looks: rows and columns, ``[2, side, side]``."""
    zoom = shot.uniform(0.6, 1)
    view = np.mgrid[0:side, 0:side] / side * zoom
    view += shot.uniform(0, 1 - zoom, (2, 1, 1))
    return view[:, :, ::-1] if shot.uniform() < 0.5 else view


def _colour(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Mostly greyish, as most of the world is."""
    return rng.uniform(0, 255) + rng.normal(0, 30, 3)


def _radius(rng: np.random.Generator) -> float:
    """A radius of density ``r**-3`` between the bounds, by its inverse distribution."""
    low, high = SMALLEST**-2, LARGEST**-2
    return float((low - rng.uniform() * (low - high)) ** -0.5)
