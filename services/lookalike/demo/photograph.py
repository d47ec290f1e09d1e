"""A camera over a piece of cloth: drape, perspective, light, grain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops

from lookalike.demo.design import CANVAS, Design
from lookalike.demo.noise import Field, cloud, enlarge
from lookalike.demo.palettes import Palette

SIDE = 512  # pixels to a side of a finished picture
MESH = 16  # cells to a side of the net the cloth is hung on
MARGIN = 6  # pixels of the canvas that are never shown

Rng = np.random.Generator
Points = npt.NDArray[np.float64]  # [MESH + 1, MESH + 1, 2]


@dataclass(frozen=True)
class Shot:
    """How one picture is taken."""

    zoom: float  # above 1: closer
    turn: float  # degrees
    tilt: tuple[float, float]  # how far the camera leans over, x and y
    folds: float  # 0: flat, 1: crumpled
    warmth: float  # of the light, about 0
    exposure: float  # about 1


def shot(rng: Rng, *, hard: bool) -> Shot:
    """A way to take the picture."""
    lean = rng.uniform(-0.13, 0.13, 2) * (0.7 if hard else 1)
    return Shot(
        zoom=float(rng.uniform(0.92, 1.3)),
        turn=float(rng.normal(0, 6)),
        tilt=(float(lean[0]), float(lean[1])),
        folds=0.0 if hard else float(rng.choice([0.15, 0.4, 0.7, 1.0])),
        warmth=float(rng.normal(0, 0.025)),
        exposure=float(rng.uniform(0.88, 1.1)),
    )


def photograph(rng: Rng, design: Design, flat: Image.Image, taken: Shot) -> Image.Image:
    """A picture of the flat piece, hung or laid down, under some light."""
    height = _drape(rng, taken.folds)
    surface = np.clip(design.relief * 200, 0, 255).astype(np.uint8)
    woven = ImageChops.multiply(
        flat, Image.merge("RGB", [Image.fromarray(surface)] * 3)
    )
    net = _net(rng, height, taken)
    hung = woven.transform(
        (SIDE, SIDE), Image.Transform.MESH, _quads(net), Image.Resampling.BICUBIC
    )
    light = _light(rng, height, hard=design.hard) * np.float32(255 / 200)
    return _exposed(rng, hung, light, taken, design.hard)


def _drape(rng: Rng, folds: float) -> Field:
    """The height of the cloth on a coarse grid, in no unit."""
    side = 6 * MESH + 1
    line = np.linspace(-1, 1, side, dtype=np.float32)
    x, y = line[None, :], line[:, None]
    height = 0.25 * cloud(rng, side, 2, 3) * folds
    for _ in range(int(rng.integers(1, 4))):
        angle = float(rng.uniform(0, np.pi))
        across = x * np.cos(angle) + y * np.sin(angle)
        bend = 0.12 * cloud(rng, side, 2, 2)
        place, width = float(rng.uniform(-0.9, 0.9)), float(rng.uniform(0.1, 0.3))
        ridge = np.exp(-(((across + bend - place) / width) ** 2))
        height = height + float(rng.uniform(0.3, 0.8)) * folds * ridge
    crease = cloud(rng, side, 5, 3, falloff=0.6)
    return (height - 0.1 * folds * np.abs(crease)).astype(np.float32)


def _net(rng: Rng, height: Field, taken: Shot) -> Points:
    """Where on the canvas each knot of the net looks."""
    line = np.linspace(-1, 1, MESH + 1)
    x, y = np.meshgrid(line, line)
    depth = 1 + taken.tilt[0] * x + taken.tilt[1] * y
    angle = np.deg2rad(taken.turn)
    across = (x * np.cos(angle) - y * np.sin(angle)) / depth
    down = (x * np.sin(angle) + y * np.cos(angle)) / depth
    slope_y, slope_x = _slopes(height)
    reach = SIDE / 2 / taken.zoom
    points = np.stack(
        [
            across * reach + 46 * slope_x[::6, ::6],
            down * reach + 46 * slope_y[::6, ::6],
        ],
        axis=-1,
    )
    low, high = points.min(axis=(0, 1)), points.max(axis=(0, 1))
    room = CANVAS - 2 * MARGIN
    points *= min(1.0, float((room / (high - low)).min()))
    low, high = points.min(axis=(0, 1)), points.max(axis=(0, 1))
    placed: Points = points - low + MARGIN + rng.random(2) * (room - (high - low))
    return placed


def _slopes(height: Field) -> tuple[Field, Field]:
    return np.asarray(np.gradient(height, axis=0)), np.asarray(
        np.gradient(height, axis=1)
    )


def _quads(net: Points) -> list[tuple[tuple[int, ...], tuple[float, ...]]]:
    edges = np.linspace(0, SIDE, MESH + 1).round().astype(int)
    quads: list[tuple[tuple[int, ...], tuple[float, ...]]] = []
    for row in range(MESH):
        for column in range(MESH):
            box = (
                int(edges[column]),
                int(edges[row]),
                int(edges[column + 1]),
                int(edges[row + 1]),
            )
            corners = (
                net[row, column],
                net[row + 1, column],
                net[row + 1, column + 1],
                net[row, column + 1],
            )
            quads.append((box, tuple(float(v) for c in corners for v in c)))
    return quads


def _light(rng: Rng, height: Field, *, hard: bool) -> Field:
    """How much light falls on every pixel."""
    side = height.shape[0]
    line = np.linspace(-1, 1, side, dtype=np.float32)
    x, y = line[None, :], line[:, None]
    angle = float(rng.uniform(0, 2 * np.pi))
    to_x, to_y = np.cos(angle), np.sin(angle)
    slope_y, slope_x = _slopes(height)
    facing = (slope_x * to_x + slope_y * to_y) * (side / 24)
    shade = 1 + 0.5 * np.tanh(facing * 1.6)
    valley = np.clip(height.mean() - height, 0, 1)
    gradient = float(rng.uniform(0.08, 0.2)) * (x * to_x + y * to_y)
    corners = float(rng.uniform(0.03, 0.12)) * (x**2 + y**2)
    light = shade * (1 - 0.35 * valley) + gradient - corners
    if hard:  # a window, mirrored in the polish
        place, width = float(rng.uniform(-0.8, 0.8)), float(rng.uniform(0.25, 0.6))
        glare = np.exp(-(((x * to_x + y * to_y - place) / width) ** 2))
        light = light + 0.1 * glare
    return enlarge(light.astype(np.float32), SIDE, SIDE)


def _exposed(
    rng: Rng, hung: Image.Image, light: Field, taken: Shot, hard: bool
) -> Image.Image:
    tint = np.array([1 + taken.warmth, 1, 1 - taken.warmth], np.float32)
    pixels = np.asarray(hung, np.float32) * (
        light[..., None] * tint * np.float32(taken.exposure)
    )
    grain = rng.standard_normal((SIDE, SIDE), dtype=np.float32)
    pixels += (np.float32(2.0 if hard else 3.0) * grain)[..., None]
    # Highlights bend over as on film, so that white cloth keeps its threads.
    bright = pixels > 215
    pixels[bright] = 215 + 40 * np.tanh((pixels[bright] - 215) / 60)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def taken(rng: Rng, design: Design, palette: Palette) -> Image.Image:
    """One finished picture of a design in a colourway."""
    return photograph(rng, design, design.dyed(palette), shot(rng, hard=design.hard))
