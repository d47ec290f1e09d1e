"""What grows or flows: camouflage, animal skins, dye, marble, wood, terrazzo."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from lookalike.demo.design import (
    CANVAS,
    FINE,
    Design,
    Labels,
    fraction,
    plane,
    polish,
    surface,
    turned,
    twill,
    velvet,
)
from lookalike.demo.noise import Field, cloud, enlarge, steps
from lookalike.demo.palettes import PLAIN, label
from lookalike.demo.printed import disc, scattered, turn

Rng = np.random.Generator


def _twice(field: Field) -> Field:
    return enlarge(field, FINE, FINE)


# --- camouflage ----------------------------------------------------------------------


def camouflage(rng: Rng, variant: int) -> Design:
    """Patches that hide an outline."""
    style = ("woodland", "digital", "brush stroke", "flecked", "large blotch")
    name = style[variant % 5]
    cells = (5.0, 8.0, 4.0, 16.0, 3.0)[variant % 5]
    stretch = 0.4 if name == "brush stroke" else 0.7
    labels = np.full((FINE, FINE), label(0), np.uint8)
    for slot, share in ((1, 0.35), (2, 0.6), (4, 0.75), (3, 0.95)):
        patch = cloud(rng, CANVAS, cells, 4, stretch, falloff=0.42)
        if name == "digital":
            small = patch[6::12, 6::12]
            patch = small.repeat(12, 0).repeat(12, 1)[:CANVAS, :CANVAS]
            fine = patch.repeat(2, 0).repeat(2, 1)
        else:
            fine = _twice(patch)
        labels[fine > share] = label(slot)
    return Design(name, labels, twill(rng, float(rng.uniform(2.4, 3.6)), 0.1))


# --- animal skins --------------------------------------------------------------------


def animal(rng: Rng, variant: int) -> Design:
    """Coats of animals, as printed on cloth."""
    style = ("leopard", "zebra", "giraffe", "tiger", "cow")
    name = style[variant % 5]
    make = (_leopard, _zebra, _giraffe, _tiger, _cow)[variant % 5]
    relief = velvet(rng, 0.05) if variant % 2 else surface(rng)
    return Design(name, make(rng), relief)


def _blob(rng: Rng, size: float, points: int = 12) -> list[tuple[float, float]]:
    angles = np.linspace(0, 2 * np.pi, points, endpoint=False)
    radii = size * (1 + 0.22 * rng.standard_normal(points).clip(-1.5, 1.5))
    return [
        (float(r * np.cos(a)), float(r * np.sin(a)))
        for a, r in zip(angles, radii, strict=True)
    ]


def _leopard(rng: Rng) -> Labels:
    image = Image.new("L", (FINE, FINE), label(0))
    pen = ImageDraw.Draw(image)
    gap = float(rng.uniform(96, 128))
    for at in scattered(rng, gap, 0.2):
        size = gap * float(rng.uniform(0.24, 0.36))
        pen.polygon(turn(_blob(rng, size), at, 0, 1), fill=label(2))
        start = float(rng.uniform(0, 6))
        for part in range(int(rng.integers(2, 5))):
            angle = start + part * float(rng.uniform(1.4, 2.0))
            here = turn([(1.0, 0.0)], at, angle, size * 1.05)[0]
            shape = [(x * 0.5, y * 0.95) for x, y in _blob(rng, size * 0.75)]
            pen.polygon(turn(shape, here, angle, 1), fill=label(1))
    return np.asarray(image)


def _zebra(rng: Rng) -> Labels:
    across, along = turned(float(rng.uniform(-25, 25)))
    bend = cloud(rng, CANVAS, 3, 2) * 34 + cloud(rng, CANVAS, 9, 2) * 5
    wave = np.sin((across + bend) * np.float32(2 * np.pi / rng.uniform(52, 70)))
    wave = wave + 0.5 * cloud(rng, CANVAS, 5, 2, stretch=2) + 0 * along
    return np.where(_twice(wave.astype(np.float32)) > 0.05, label(1), label(0)).astype(
        np.uint8
    )


def _tiger(rng: Rng) -> Labels:
    _, y = plane()
    bend = cloud(rng, CANVAS, 3.5, 3) * 30
    wave = np.sin((y + bend) * np.float32(2 * np.pi / rng.uniform(62, 80)))
    broken = wave + 0.75 * cloud(rng, CANVAS, 6, 2, stretch=0.5)
    fine = _twice(broken.astype(np.float32))
    labels = np.full((FINE, FINE), label(0), np.uint8)
    labels[_twice(cloud(rng, CANVAS, 3, 2)) > 0.7] = label(2, PLAIN + 1)
    labels[fine < -1.15] = label(4)
    labels[fine > 0.75] = label(1)
    return labels


def _giraffe(rng: Rng) -> Labels:
    _, near = _cells(rng, 170, 4)
    gap = _twice(near)
    labels = np.full((FINE, FINE), label(3), np.uint8)
    labels[gap > 9] = label(2)
    labels[gap > 44] = label(2, PLAIN - 1)
    return labels


def _cells(rng: Rng, size: float, rough: float) -> tuple[Field, Field]:
    """A number for the cell that each pixel is in, and its distance to the edge."""
    half = CANVAS // 2  # a quarter of the work; edges are smooth anyway
    places = np.array(list(scattered(rng, size, 0.3)), np.float32) / 2
    x, y = plane(half)
    warp = cloud(rng, half, 10, 3) * np.float32(rough)
    first = np.full((half, half), np.inf, np.float32)
    second = first.copy()
    cell = np.zeros((half, half), np.float32)
    for number, (px, py) in enumerate(places):
        far = np.hypot(x + warp - px, y + warp - py)
        cell = np.where(far < first, np.float32(number), cell)
        second = np.minimum(second, np.maximum(first, far))
        first = np.minimum(first, far)
    return cell.repeat(2, 0).repeat(2, 1), enlarge(second - first, CANVAS, CANVAS)


def _cow(rng: Rng) -> Labels:
    patch = _twice(cloud(rng, CANVAS, 4, 3, falloff=0.35))
    labels = np.full((FINE, FINE), label(0, PLAIN + 2), np.uint8)
    labels[patch > 0.45] = label(1)
    labels[(patch > 0.4) & (patch <= 0.45)] = label(2)
    return labels


# --- dye -----------------------------------------------------------------------------


def tie_dye(rng: Rng, variant: int) -> Design:
    """Cloth that was knotted and dipped."""
    style = ("spiral", "shibori", "crumple", "bullseye", "dip")[variant % 5]
    x, y = plane()
    middle = CANVAS / 2 + rng.uniform(-60, 60, 2).astype(np.float32)
    dx, dy = x - middle[0], y - middle[1]
    away = np.hypot(dx, dy) / np.float32(CANVAS)
    rough = cloud(rng, CANVAS, 7, 4) * 0.07 + cloud(rng, CANVAS, 40, 2) * 0.03
    match style:
        case "spiral":
            turns = np.arctan2(dy, dx) / np.float32(2 * np.pi)
            tone = fraction(2 * (turns + 1) + away * 3.2 + rough)
        case "shibori":
            lines = np.sin(x / 26 + cloud(rng, CANVAS, 4, 2) * 0.7)
            tone = 0.5 + 0.4 * lines * np.cos(y / 40 + rough * 9) + rough
        case "bullseye":
            tone = fraction(away * 4.5 + rough)
        case "dip":
            tone = (y / np.float32(CANVAS) + rough * 1.6).astype(np.float32)
        case _:
            tone = 0.5 + cloud(rng, CANVAS, 4, 6, falloff=0.62) * 0.27
    smooth = 1 - np.abs(2 * np.clip(tone, 0, 1) - 1) if style != "dip" else tone
    labels = (np.clip(smooth, 0, 1) * 255).astype(np.uint8)
    labels = np.broadcast_to(labels, (CANVAS, CANVAS)).copy()
    return Design(f"{style} dye", labels, surface(rng), blended=True)


# --- slabs ---------------------------------------------------------------------------


def marble(rng: Rng, variant: int) -> Design:
    """Polished stone with veins."""
    style = ("veined", "cloudy", "calacatta", "brecciated", "banded")[variant % 5]
    ground: Field = 0.78 + 0.09 * cloud(rng, CANVAS, 3, 5)
    match style:
        case "veined":
            veins = _veins(rng, 2.6, 9, 0.8) + _veins(rng, 6, 14, 0.4)
        case "cloudy":
            ground = 0.62 + 0.2 * cloud(rng, CANVAS, 3, 6, falloff=0.6)
            veins = _veins(rng, 3, 5, 0.35)
        case "calacatta":
            across, _ = turned(float(rng.uniform(25, 65)))
            bend = cloud(rng, CANVAS, 2.5, 5) * 70
            wave = np.sin((across + bend) * np.float32(np.pi / 230))
            broad = np.exp(-np.abs(wave) * 6) * steps(bend, -90.0, 40.0, 0.9)
            veins = broad.astype(np.float32) + _veins(rng, 5, 16, 0.35)
        case "brecciated":
            first, gap = _cells(rng, 118, 9)
            stone = np.sin(first * 37.7) * 0.16  # every fragment its own tone
            ground = (0.72 + stone + 0.06 * cloud(rng, CANVAS, 9, 4)).astype(np.float32)
            veins = np.exp(-gap / 5) * np.float32(0.8) + _veins(rng, 5, 14, 0.4)
        case _:
            layers = cloud(rng, CANVAS, 2, 7, stretch=0.16, falloff=0.72)
            ground = 0.6 + 0.24 * layers
            veins = _veins(rng, 3, 10, 0.3)
    tone = np.clip(ground - veins + 0.012 * cloud(rng, CANVAS, 190, 1), 0, 1)
    labels = (tone * 255).astype(np.uint8)
    return Design(f"{style} marble", labels, polish(rng), blended=True, hard=True)


def _veins(rng: Rng, cells: float, sharp: float, top: float) -> Field:
    """Thin lines that wander, fade and come back."""
    field = cloud(rng, CANVAS, cells, 6, stretch=float(rng.choice([0.5, 1.0, 2.0])))
    fading = steps(cloud(rng, CANVAS, 3.5, 2), -1.3, 0.9, top)
    return (np.exp(-np.abs(field) * np.float32(sharp)) * fading).astype(np.float32)


def wood(rng: Rng, variant: int) -> Design:
    """Sawn and oiled boards."""
    style = ("plank", "plain sawn", "quarter sawn", "parquet", "knotty")[variant % 5]
    x, y = plane()
    x, y = np.broadcast_to(x, (CANVAS, CANVAS)), np.broadcast_to(y, (CANVAS, CANVAS))
    board = np.zeros((CANVAS, CANVAS), np.float32)
    seam = np.ones((CANVAS, CANVAS), np.float32)
    if style == "plank":
        x, board, seam = _planks(rng, x, y)
    elif style == "parquet":
        x, y, board, seam = _parquet(rng, x, y)
    rings = _rings(rng, style, x + board * 173, y)
    fibre = cloud(rng, CANVAS, 200, 2, stretch=30, falloff=0.7)
    if style == "parquet":
        turned_fibre = np.where(board % 2 == 0, fibre, fibre.T)
        fibre = turned_fibre.astype(np.float32)
    tint = rng.uniform(-0.13, 0.13, 64).astype(np.float32)[board.astype(np.int32) % 64]
    pores = steps(fibre, 1.3, 2.4)
    tone = 0.55 + 0.2 * rings + 0.07 * fibre - 0.25 * pores + tint
    labels = (np.clip(tone, 0, 1) * 255).astype(np.uint8)
    relief = polish(rng, 0.02) * seam
    return Design(f"{style} wood", labels, relief, blended=True, hard=True)


def _rings(rng: Rng, style: str, x: Field, y: Field) -> Field:
    """Late wood and early wood, -1 to 1."""
    warp = cloud(rng, CANVAS, 2.2, 3, stretch=4) * 26
    if style in ("plain sawn", "knotty"):
        # A board cut beside the heart shows long arches.
        middle = CANVAS * float(rng.uniform(0.35, 0.65))
        away = np.hypot((x - middle) * 1.25, (y + 260) * 0.16) + warp
        if style == "knotty":
            for _ in range(4):
                px, py = rng.uniform(100, CANVAS - 100, 2)
                near = np.exp(-(((x - px) / 46) ** 2 + ((y - py) / 66) ** 2))
                away = away + np.float32(120) * near
        pitch = float(rng.uniform(17, 24))
    else:
        away = x + warp * (0.35 if style == "quarter sawn" else 0.7)
        pitch = 9.0 if style == "quarter sawn" else float(rng.uniform(14, 22))
    saw = fraction((away / np.float32(pitch)).astype(np.float32))
    return (1 - 2 * saw**2.2).astype(np.float32)


def _planks(rng: Rng, x: Field, y: Field) -> tuple[Field, Field, Field]:
    width = float(rng.uniform(84, 120))
    column = np.floor(x / np.float32(width))
    shift = rng.uniform(0, 400, 32).astype(np.float32)[column.astype(np.int32) % 32]
    row = np.floor((y + shift) / np.float32(430))
    edge = np.minimum(fraction(x / np.float32(width)) * width, 99)
    end = fraction((y + shift) / np.float32(430)) * 430
    seam = np.where((edge < 2.5) | (end < 2.5), 0.45, 1.0).astype(np.float32)
    return x, (column * 7 + row * 3).astype(np.float32), seam


def _parquet(rng: Rng, x: Field, y: Field) -> tuple[Field, Field, Field, Field]:
    side = float(rng.uniform(120, 170))
    strip = side / 4
    column, row = np.floor(x / np.float32(side)), np.floor(y / np.float32(side))
    upright = (column + row) % 2 == 0
    along = np.where(upright, x, y).astype(np.float32)
    number = np.floor(along / np.float32(strip))
    board = 2 * (number * 5 + column * 3 + row * 11) + np.where(upright, 0, 1)
    edges = [fraction(v / np.float32(side)) * side for v in (x, y)]
    edges.append(fraction(along / np.float32(strip)) * strip)
    near = np.minimum(np.minimum(edges[0], edges[1]), edges[2])
    seam = np.where(near < 2, 0.55, 1.0).astype(np.float32)
    other = np.where(upright, y, x).astype(np.float32)
    return along, other, board.astype(np.float32), seam


def terrazzo(rng: Rng, variant: int) -> Design:
    """Chips of stone in a cement ground, ground flat."""
    gaps = (74.0, 44.0, 118.0, 90.0, 60.0)
    style = ("classic", "fine", "palladiana", "pebble", "speckled")[variant % 5]
    image = Image.new("L", (FINE, FINE), label(0))
    pen = ImageDraw.Draw(image)
    gap = gaps[variant % 5]
    for at in scattered(rng, gap * 0.45, 0.5):
        disc(pen, at, gap * 0.04, label(int(rng.integers(1, 5)), 5))
    for at in scattered(rng, gap, 0.3):
        slot, shade = int(rng.integers(1, 5)), int(rng.integers(PLAIN - 1, PLAIN + 3))
        size = gap * float(rng.uniform(0.18, 0.52))
        points = 14 if style == "pebble" else int(rng.integers(4, 7))
        shape = _chip(rng, size, points, smooth=style == "pebble")
        pen.polygon(turn(shape, at, 0, 1), fill=label(slot, shade))
    relief = polish(rng, 0.02) + 0.012 * cloud(rng, CANVAS, 110, 2)
    return Design(f"{style} terrazzo", np.asarray(image), relief, hard=True)


def _chip(
    rng: Rng, size: float, points: int, *, smooth: bool
) -> list[tuple[float, float]]:
    spread = 0.08 if smooth else 0.3
    angles = np.sort(rng.uniform(0, 2 * np.pi, points))
    if smooth:
        angles = np.linspace(0, 2 * np.pi, points, endpoint=False)
    radii = size * (1 + spread * rng.standard_normal(points).clip(-1.5, 1.5))
    squash = float(rng.uniform(0.6, 1))
    lean = float(rng.uniform(0, np.pi))
    flat = [
        (float(r * np.cos(a)), float(squash * r * np.sin(a)))
        for a, r in zip(angles, radii, strict=True)
    ]
    return turn(flat, (0.0, 0.0), lean, 1)
