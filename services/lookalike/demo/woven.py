"""Patterns made by threads: stripes, plaid, chevron, herringbone and their kin."""

from __future__ import annotations

import numpy as np

from lookalike.demo.design import (
    CANVAS,
    FINE,
    Design,
    Labels,
    fraction,
    plane,
    surface,
    turned,
    twill,
    wool,
)
from lookalike.demo.noise import Field, cloud
from lookalike.demo.palettes import PLAIN, label

Rng = np.random.Generator
Bands = list[tuple[float, int]]  # width in pixels of the canvas, label

TICKS = 4  # entries to a pixel in the table of a stripe profile


def _profile(bands: Bands) -> tuple[Labels, float]:
    """A table of labels along a repeat, and the repeat's length in pixels."""
    parts = [np.full(max(1, round(w * TICKS)), lab, np.uint8) for w, lab in bands]
    table = np.concatenate(parts)
    return table, len(table) / TICKS


def _along(places: Field, bands: Bands) -> Labels:
    table, _ = _profile(bands)
    index = (places * TICKS).astype(np.int32) % len(table)
    taken: Labels = table[index]
    return taken


def _stripe_bands(rng: Rng, style: str) -> Bands:
    wide = float(rng.uniform(20, 46))
    match style:
        case "awning":
            return [(wide, label(0)), (wide, label(1))]
        case "ticking":
            thin = float(rng.uniform(3, 5))
            group = [(thin, label(1)), (thin, label(0))] * 3
            return [(wide * 0.9, label(0)), *group, (wide * 0.3, label(2))]
        case "pinstripe":
            return [(wide * 0.7, label(0)), (2.2, label(1))]
        case "serape":
            slots = [0, 2, 3, 1, 4, 0, 3, 2, 4, 1, 0, 0]
            widths = rng.uniform(5, 34, len(slots))
            shades = rng.integers(PLAIN - 1, PLAIN + 2, len(slots))
            return [
                (float(w), label(s, int(shade)))
                for w, s, shade in zip(widths, slots, shades, strict=True)
            ]
        case _:  # regimental: a broad ground, a band with edges
            edge = float(rng.uniform(4, 8))
            return [
                (wide * 1.7, label(0)),
                (edge, label(3)),
                (wide * 0.8, label(2)),
                (edge, label(3)),
                (wide * 0.5, label(0)),
                (edge * 0.8, label(1)),
            ]


def stripes(rng: Rng, variant: int) -> Design:
    """Bands of colour, side by side."""
    style = ("awning", "ticking", "serape", "regimental", "pinstripe")[variant % 5]
    angle = {"regimental": 45.0, "serape": 90.0}.get(style, 0.0)
    across, along = turned(angle + float(rng.uniform(-3, 3)), FINE)
    wobble = cloud(rng, CANVAS, 9, 2).repeat(2, 0).repeat(2, 1)
    places = across + along * 0 + 0.8 * wobble
    labels = _along(places + 4 * CANVAS, _stripe_bands(rng, style))
    return Design(style, labels, surface(rng))


def _sett(rng: Rng, style: str) -> Bands:
    wide = float(rng.uniform(26, 40))
    match style:
        case "gingham":
            return [(wide * 0.8, label(1)), (wide * 0.8, label(0))]
        case "windowpane":
            return [(wide * 3, label(0)), (4, label(1)), (5, label(0)), (4, label(1))]
        case "madras":
            slots = [0, 1, 3, 1, 2, 4, 1, 0, 2, 3]
            widths = rng.uniform(8, 30, len(slots))
            return [(float(w), label(s)) for w, s in zip(widths, slots, strict=True)]
        case "buffalo":
            return [(wide * 1.5, label(0)), (wide * 1.5, label(2, 1))]
        case _:  # tartan: a sequence and its mirror image
            half: Bands = [
                (wide, label(0)),
                (7, label(2)),
                (8, label(0)),
                (wide * 0.9, label(2)),
                (4, label(3)),
                (wide * 0.4, label(4)),
                (4, label(1)),
            ]
            return half + half[::-1]


def plaid(rng: Rng, variant: int) -> Design:
    """The same bands lengthwise and crosswise, mixed thread by thread."""
    style = ("tartan", "gingham", "windowpane", "madras", "buffalo")[variant % 5]
    x, y = turned(float(rng.choice([0, 0, 45])), FINE)
    bands = _sett(rng, style)
    shift = np.float32(8 * CANVAS)
    warp = _along(x + shift + 0 * y, bands)
    weft = _along(y + shift + 0 * x, bands)
    thread = float(rng.uniform(1.8, 2.6))
    over = fraction((x + y) / np.float32(2 * thread)) < 0.5
    return Design(style, np.where(over, warp, weft), twill(rng, thread, 0.07))


def houndstooth(rng: Rng, variant: int) -> Design:
    """Broken checks: four dark threads, four light, in a two-by-two twill."""
    x, y = turned(float(rng.uniform(-2, 2)), FINE)
    thread = (3.2, 5.5, 8.5, 2.4, 6.5)[variant % 5] * float(rng.uniform(0.9, 1.1))
    column = np.floor((x + 4 * CANVAS) / np.float32(thread)).astype(np.int32)
    row = np.floor((y + 4 * CANVAS) / np.float32(thread)).astype(np.int32)
    warp, weft = column % 8 < 4, row % 8 < 4
    if variant % 5 == 3:  # glen check: blocks of fine and of broad checks
        warp = np.where(column // 48 % 2 == 0, warp, column % 4 < 2)
        weft = np.where(row // 48 % 2 == 0, weft, row % 4 < 2)
    dark = np.where((column + row) % 4 < 2, warp, weft)
    labels = np.where(dark, label(0), label(1)).astype(np.uint8)
    if variant % 5 in (3, 4):  # an overcheck in a third colour
        lines = (column % 96 < 2) | (row % 96 < 2)
        labels[lines & dark] = label(3)
    style = ("dogtooth", "houndstooth", "giant check", "glen check", "overcheck")
    return Design(style[variant % 5], labels, wool(rng, 0.07))


def chevron(rng: Rng, variant: int) -> Design:
    """Stripes that zigzag."""
    style = ("zigzag", "flame stitch", "fine chevron", "missoni", "broken chevron")
    name = style[variant % 5]
    x, y = plane(FINE)
    period = float(rng.uniform(60, 110)) * (0.5 if name == "fine chevron" else 1)
    wave = np.abs(fraction(x / np.float32(period)) - np.float32(0.5)) * 2
    reach = period * float(rng.uniform(0.4, 0.75))
    if name == "missoni":
        wave = 0.5 - 0.5 * np.cos(2 * np.pi * x / np.float32(period))
    places = y + wave.astype(np.float32) * np.float32(reach)
    if name == "broken chevron":
        places = places + np.float32(reach * 0.5) * (
            np.floor(x / np.float32(period)) % 2
        )
    wide = period * float(rng.uniform(0.2, 0.32))
    bands: Bands = [(wide, label(0)), (wide, label(1))]
    if name in ("flame stitch", "missoni"):
        steps = [(0, 2), (0, 4), (2, 4), (2, 6), (1, 4), (3, 4), (3, 2), (4, 4)]
        bands = [(wide * 0.6, label(slot, shade)) for slot, shade in steps]
    elif name == "broken chevron":
        bands = [(wide, label(0)), (wide * 0.4, label(3)), (wide * 0.7, label(1))]
    return Design(name, _along(places + 4 * CANVAS, bands), surface(rng))


def herringbone(rng: Rng, variant: int) -> Design:
    """Columns of slanting yarns that change direction."""
    width = (26.0, 44.0, 16.0, 34.0, 60.0)[variant % 5]
    pitch = (8.0, 12.0, 5.0, 9.0, 16.0)[variant % 5] * float(rng.uniform(0.9, 1.15))
    x, y = turned(float(rng.uniform(-4, 4)), FINE)
    column = np.floor((x + 4 * CANVAS) / np.float32(width))
    slant = np.where(column % 2 == 0, x, -x)
    yarn = (y + slant + 8 * CANVAS) / np.float32(pitch)
    light = fraction(yarn) < np.float32(rng.uniform(0.42, 0.55))
    tint = rng.integers(PLAIN - 1, PLAIN + 2, 4096)[yarn.astype(np.int32) % 4096]
    slot = (1, 1, 2, 4, 1)[variant % 5]
    labels = np.where(light, label(slot, 0) + tint, label(0, 0) + tint)
    if variant % 5 == 3:
        labels = np.where(light & (column % 6 == 0), label(3, 0) + tint, labels)
    style = ("classic", "broad", "fine", "striped", "blanket")[variant % 5]
    return Design(f"{style} herringbone", labels.astype(np.uint8), wool(rng, 0.11))
