"""Printed patterns: dots, flowers, paisley and tiles, drawn motif by motif."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image, ImageDraw

from lookalike.demo.design import FINE, Design, surface, velvet
from lookalike.demo.palettes import PLAIN, label

Rng = np.random.Generator
Point = tuple[float, float]
Pen = ImageDraw.ImageDraw


def _printed(
    style: str, rng: Rng, draw: Callable[[Pen], None], ground: int = PLAIN
) -> Design:
    image = Image.new("L", (FINE, FINE), ground)
    draw(ImageDraw.Draw(image))
    return Design(style, np.asarray(image), surface(rng))


def scattered(rng: Rng, gap: float, jitter: float) -> Iterator[Point]:
    """Places about ``gap`` apart that cover the canvas, in a half-drop repeat."""
    for column in range(-1, int(FINE / gap) + 2):
        for row in range(-1, int(FINE / gap) + 2):
            shift = rng.uniform(-jitter, jitter, 2) * gap
            drop = 0.5 * (column % 2)
            yield (
                float(column * gap + shift[0]),
                float((row + drop) * gap + shift[1]),
            )


def turn(points: list[Point], at: Point, angle: float, size: float) -> list[Point]:
    """A shape, turned, sized and put in its place."""
    cosine, sine = np.cos(angle) * size, np.sin(angle) * size
    return [
        (at[0] + x * cosine - y * sine, at[1] + x * sine + y * cosine)
        for x, y in points
    ]


def disc(pen: Pen, at: Point, radius: float, ink: int) -> None:
    """A filled circle."""
    x, y = at
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink)


# --- dots ----------------------------------------------------------------------------


def dots(rng: Rng, variant: int) -> Design:
    """Spots, regular or strewn."""
    style = ("polka dots", "confetti", "pin dots", "ring dots", "brush dots")
    name = style[variant % 5]
    gap = float(rng.uniform(105, 150)) * (0.45 if name == "pin dots" else 1)
    jitter = {"confetti": 0.42, "brush dots": 0.15}.get(name, 0.0)

    def draw(pen: Pen) -> None:
        for at in scattered(rng, gap * (0.55 if name == "confetti" else 1), jitter):
            _dot(pen, rng, name, at, gap)

    return _printed(name, rng, draw)


def _dot(pen: Pen, rng: Rng, name: str, at: Point, gap: float) -> None:
    match name:
        case "confetti":
            slot = int(rng.integers(1, 5))
            disc(pen, at, gap * float(rng.uniform(0.07, 0.2)), label(slot))
        case "ring dots":
            disc(pen, at, gap * 0.4, label(1))
            disc(pen, at, gap * 0.28, label(0))
            disc(pen, at, gap * 0.15, label(3))
        case "brush dots":
            angles = np.linspace(0, 2 * np.pi, 18, endpoint=False)
            radii = gap * 0.3 * (1 + 0.14 * rng.standard_normal(18))
            shape = [
                (float(r * np.cos(a)), float(r * np.sin(a) * 0.85))
                for a, r in zip(angles, radii, strict=True)
            ]
            ink = label(1, int(rng.integers(PLAIN - 1, PLAIN + 2)))
            pen.polygon(turn(shape, at, float(rng.uniform(0, 6)), 1), fill=ink)
        case _:
            disc(pen, at, gap * (0.3 if name == "polka dots" else 0.2), label(1))


# --- flowers -------------------------------------------------------------------------

LEAF: list[Point] = [
    (float(t), float(w * 0.26 * np.sin(np.pi * t) ** 0.8))
    for w, line in ((1, np.linspace(0, 1, 10)), (-1, np.linspace(1, 0, 10)))
    for t in line
]


def _petal(plump: float) -> list[Point]:
    line = np.linspace(0, np.pi, 12)
    upper = [(float(0.5 - 0.5 * np.cos(t)), float(plump * np.sin(t))) for t in line]
    tip = [(x**0.75, y) for x, y in upper]
    return tip + [(x, -y) for x, y in reversed(tip)]


def _flower(pen: Pen, rng: Rng, at: Point, size: float, slot: int, petals: int) -> None:
    start = float(rng.uniform(0, 2 * np.pi))
    plump = 1.5 / petals + 0.06
    for ring, (reach, shade) in enumerate(((1.0, PLAIN - 1), (0.97, PLAIN))):
        for petal in range(petals):
            angle = start + 2 * np.pi * petal / petals + 0.04 * ring
            shape = _petal(plump * (1.0 if ring == 0 else 0.86))
            pen.polygon(turn(shape, at, angle, size * reach), fill=label(slot, shade))
    for petal in range(petals):
        angle = start + 2 * np.pi * petal / petals + 0.04
        shape = _petal(plump * 0.4)
        pen.polygon(turn(shape, at, angle, size * 0.62), fill=label(slot, PLAIN + 2))
    disc(pen, at, size * 0.22, label(3, PLAIN - 1))
    disc(pen, at, size * 0.15, label(3, PLAIN + 1))


def _spray(pen: Pen, rng: Rng, at: Point, size: float, leaves: int) -> None:
    for angle in rng.uniform(0, 2 * np.pi, leaves):
        far = size * float(rng.uniform(1.3, 1.7))
        pen.polygon(turn(LEAF, at, float(angle), far), fill=label(4, PLAIN - 1))
        rib = turn([(0.05, 0.0), (0.9, 0.0)], at, float(angle), far)
        pen.line(rib, fill=label(4, PLAIN + 1), width=3)


def floral(rng: Rng, variant: int) -> Design:
    """Flowers and leaves, tossed over the ground."""
    style = ("peony", "ditsy", "daisy", "trailing vine", "folk flower")[variant % 5]

    def draw(pen: Pen) -> None:
        if style == "trailing vine":
            _vines(pen, rng)
            return
        size = {"peony": 118.0, "ditsy": 30.0, "daisy": 66.0}.get(style, 84.0)
        gap = size * (3.4 if style == "ditsy" else 2.55)
        petals = {"peony": 8, "ditsy": 5, "daisy": 13}.get(style, 6)
        places = list(scattered(rng, gap, 0.2))
        for at in places:
            _spray(pen, rng, at, size, 3 if style != "daisy" else 2)
        for at in places:
            slot = int(rng.choice([1, 2] if style != "daisy" else [1]))
            grown = size * float(rng.uniform(0.8, 1.12))
            _flower(pen, rng, at, grown, slot, petals)
            if style == "peony":
                _flower(pen, rng, at, grown * 0.6, slot, petals - 2)
        if style == "folk flower":
            for at in scattered(rng, gap / 2, 0.3):
                disc(pen, at, 7, label(3))

    return _printed(style, rng, draw)


def _vines(pen: Pen, rng: Rng) -> None:
    gap = 205
    for left in range(-gap, FINE + gap, gap):
        phase = float(rng.uniform(0, 6))
        stem = [
            (left + 46 * float(np.sin(y / 105 + phase)), float(y))
            for y in range(-40, FINE + 40, 12)
        ]
        pen.line(stem, fill=label(4, PLAIN - 1), width=9, joint="curve")
        for step, at in enumerate(stem[::5]):
            side = 1 if step % 2 else -1
            angle = float(rng.uniform(0.3, 0.9)) * side + (0 if side > 0 else np.pi)
            pen.polygon(turn(LEAF, at, angle, 84), fill=label(4, PLAIN))
        for at in stem[2::11]:
            near = (at[0] + float(rng.uniform(-18, 18)), at[1])
            _flower(pen, rng, near, 46, int(rng.integers(1, 3)), 5)


# --- paisley -------------------------------------------------------------------------


def _teardrop() -> list[Point]:
    """A round belly on a spine that narrows and curls to one side."""
    line = np.linspace(0, 1, 26)
    wide = 0.55 * np.sin(np.pi * line**0.62).clip(0) ** 0.75 * (1 - 0.25 * line)
    heading = 2.3 * line**1.6
    x = np.cumsum(np.sin(heading)) * (1.85 / 26)
    y = 0.72 - np.cumsum(np.cos(heading)) * (1.85 / 26)
    away_x, away_y = np.cos(heading) * wide, np.sin(heading) * wide
    right = zip(x + away_x, y + away_y, strict=True)
    left = zip((x - away_x)[::-1], (y - away_y)[::-1], strict=True)
    return [(float(a - 0.1), float(b)) for a, b in (*right, *left)]


TEARDROP = _teardrop()


def _paisley(pen: Pen, at: Point, angle: float, size: float, lead: int) -> None:
    inks = [label(lead, 3), label(1, 5), label(lead, 4), label(3), label(lead, 2)]
    for ink, part in zip(inks, (1.0, 0.9, 0.8, 0.5, 0.38), strict=True):
        pen.polygon(turn(TEARDROP, at, angle, size * part), fill=ink)
    for place in turn(TEARDROP, at, angle, size * 0.65)[::3]:
        disc(pen, place, size * 0.04, label(1, 5))
    belly = turn(TEARDROP, at, angle, size * 1.14)
    for place in (belly[:18] + belly[-18:])[::2]:
        disc(pen, place, size * 0.045, label(lead, 4))
    centre = turn([(0.05, 0.2)], at, angle, size)[0]
    for petal in range(6):
        pen.polygon(
            turn(_petal(0.3), centre, petal * np.pi / 3, size * 0.2), fill=label(1)
        )
    disc(pen, centre, size * 0.05, label(3, 2))


def paisley(rng: Rng, variant: int) -> Design:
    """Bent teardrops, each with a garden inside."""
    style = ("tossed", "bandana", "little", "grand", "row")[variant % 5]
    size = (120.0, 100.0, 58.0, 190.0, 105.0)[variant % 5]

    def draw(pen: Pen) -> None:
        gap = size * 1.8
        for step, at in enumerate(scattered(rng, gap, 0.08)):
            angle = float(rng.uniform(0, 6.3))
            if style in ("row", "bandana"):
                angle = np.pi * (step % 2) + 0.2
            lead = 2 if style == "little" or rng.random() < 0.55 else 4
            _paisley(pen, at, angle, size * 0.85, lead)
        for at in scattered(rng, gap * 0.5, 0.1):
            if style != "grand":
                disc(pen, at, size * 0.05, label(3))

    return _printed(f"{style} paisley", rng, draw)


# --- tiles ---------------------------------------------------------------------------


def _scales(pen: Pen, size: float) -> None:
    for row in range(int(FINE / size * 2) + 4):
        for column in range(-1, int(FINE / size / 2) + 2):
            at = ((column * 2 + row % 2) * size, (row - 1) * size * 0.62)
            rings = ((1, 2), (0.86, 0), (0.6, 1), (0.46, 0), (0.22, 3))
            for part, slot in rings:
                disc(pen, at, size * part, label(slot))


def _hexagons(pen: Pen, rng: Rng, size: float) -> None:
    corners = [(np.cos(a), np.sin(a)) for a in np.arange(6) * np.pi / 3]
    shape = [(float(x), float(y)) for x, y in corners]
    for column in range(-1, int(FINE / size / 1.5) + 2):
        for row in range(-1, int(FINE / size / 1.73) + 2):
            at = (column * 1.5 * size, (row + 0.5 * (column % 2)) * 1.732 * size)
            slot = int(rng.choice([0, 0, 1, 2, 3, 4]))
            pen.polygon(turn(shape, at, 0, size), fill=label(1, 6))
            pen.polygon(turn(shape, at, 0, size * 0.92), fill=label(slot))
            pen.polygon(turn(shape, at, 0, size * 0.5), fill=label(slot, 5))


def _cubes(pen: Pen, size: float) -> None:
    ring = [(np.cos(a), np.sin(a)) for a in np.arange(6) * np.pi / 3 + np.pi / 6]
    corners = [(float(x), float(y)) for x, y in ring]
    middle = (0.0, 0.0)
    for column in range(-1, int(FINE / size / 1.73) + 2):
        for row in range(-1, int(FINE / size / 1.5) + 2):
            at = ((column + 0.5 * (row % 2)) * 1.732 * size, row * 1.5 * size)
            for face, ink in ((0, label(0)), (2, label(1)), (4, label(2))):
                side = [corners[(face + k) % 6] for k in range(3)]
                pen.polygon(turn([middle, *side], at, 0, size), fill=ink)


def _trellis(pen: Pen, size: float) -> None:
    for column in range(-1, int(FINE / size) + 2):
        for row in range(-1, int(FINE / size) + 2):
            x, y = column * size, row * size
            for part, ink in ((0.62, label(1)), (0.5, label(0)), (0.2, label(3))):
                reach = size * part
                bent = 0.32 * reach
                pen.polygon(
                    [
                        (x, y - reach),
                        (x + bent, y - bent),
                        (x + reach, y),
                        (x + bent, y + bent),
                        (x, y + reach),
                        (x - bent, y + bent),
                        (x - reach, y),
                        (x - bent, y - bent),
                    ],
                    fill=ink,
                )


def _triangles(pen: Pen, rng: Rng, size: float) -> None:
    for row in range(int(FINE / size) + 2):
        for column in range(-1, int(FINE / size) * 2 + 4):
            x, y = column * size / 2, row * size
            tip = 1 if (column + row) % 2 else 0
            slot = int(rng.choice([0, 1, 2, 3, 4], p=[0.4, 0.25, 0.15, 0.1, 0.1]))
            pen.polygon(
                [
                    (x, y + size * (1 - tip)),
                    (x + size, y + size * (1 - tip)),
                    (x + size / 2, y + size * tip),
                ],
                fill=label(slot),
            )


def geometric(rng: Rng, variant: int) -> Design:
    """Shapes that fit together."""
    style = ("fish scale", "hexagon", "tumbling blocks", "star trellis", "triangles")
    size = float(rng.uniform(70, 100))

    def draw(pen: Pen) -> None:
        match variant % 5:
            case 0:
                _scales(pen, size)
            case 1:
                _hexagons(pen, rng, size * 0.8)
            case 2:
                _cubes(pen, size)
            case 3:
                _trellis(pen, size * 1.6)
            case _:
                _triangles(pen, rng, size * 1.2)

    return _printed(style[variant % 5], rng, draw)


# --- damask --------------------------------------------------------------------------


def damask(rng: Rng, variant: int) -> Design:
    """Great leafy ornaments, tone on tone."""
    style = ("brocade", "medallion", "acanthus", "pomegranate", "lattice")[variant % 5]
    slot, shade = ((0, 2), (1, 4), (0, 3), (3, 4), (4, 4))[variant % 5]
    ground = label(0, 6 if slot == 0 else PLAIN)  # tone on tone needs two tones
    size = float(rng.uniform(150, 210))
    leaves = sorted(rng.uniform(0.35, 2.6, 4))
    reaches = rng.uniform(0.6, 1.1, 4)

    def draw(pen: Pen) -> None:
        for at in scattered(rng, size * 1.75, 0):
            _ornament(pen, at, size, leaves, reaches, (label(slot, shade), ground))

    printed = _printed(f"{style} damask", rng, draw, ground)
    return Design(printed.style, printed.labels, velvet(rng, 0.05))


def _ornament(
    pen: Pen,
    at: Point,
    size: float,
    leaves: list[float],
    reaches: np.ndarray[tuple[int], np.dtype[np.float64]],
    inks: tuple[int, int],
) -> None:
    ink, ground = inks
    pen.polygon(turn(_petal(0.24), at, -np.pi / 2, size), fill=ink)
    pen.polygon(turn(_petal(0.16), at, np.pi / 2, size * 0.9), fill=ink)
    for angle, reach in zip(leaves, reaches, strict=True):
        for side in (1, -1):
            heading = -np.pi / 2 + side * angle
            pen.polygon(turn(_petal(0.17), at, heading, size * reach), fill=ink)
            tip = turn([(1.0, 0.0)], at, heading, size * reach)[0]
            curl = heading + side * 1.5
            pen.polygon(turn(_petal(0.28), tip, curl, size * 0.36), fill=ink)
            disc(pen, tip, size * 0.06, ink)
            vein = turn([(0.12, 0.0), (0.8, 0.0)], at, heading, size * reach)
            pen.line(vein, fill=ground, width=4)
    disc(pen, at, size * 0.17, ground)
    disc(pen, at, size * 0.11, ink)
