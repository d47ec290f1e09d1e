"""Knitwear: rows of V-shaped stitches, with what is knitted into them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lookalike.demo.design import CANVAS, Design, fraction, plane
from lookalike.demo.noise import Field, cloud
from lookalike.demo.palettes import PLAIN, label

Rng = np.random.Generator
Chart = npt.NDArray[np.int64]  # [rows, columns] of labels, one to a stitch

STYLES = ("fair isle", "chunky", "ribbed", "striped knit", "heathered")


def knit(rng: Rng, variant: int) -> Design:
    """A hand-knitted piece."""
    style = STYLES[variant % 5]
    wide = {"chunky": 34.0, "ribbed": 20.0}.get(style, float(rng.uniform(13, 17)))
    tall = wide * 0.82
    x, y = plane()
    sway = cloud(rng, CANVAS, 5, 2)
    column = ((x + 1.5 * sway) / np.float32(wide)).astype(np.float32)
    half = np.abs(fraction(column) - np.float32(0.5)) * 2  # 0 in the middle of a V
    row = ((y + 1.2 * sway) / np.float32(tall) + np.float32(0.75) * half).astype(
        np.float32
    )
    stitch = _chart(rng, style)[
        row.astype(np.int32) % 96, np.floor(column).astype(np.int32) % 96
    ]
    relief = _yarn(rng, fraction(row), half, wide)
    if style == "ribbed":
        rib = np.cos(x * np.float32(np.pi / (wide * 2)))
        relief = relief * (1 + np.float32(0.22) * rib)
    labels = np.broadcast_to(stitch, (CANVAS, CANVAS)).astype(np.uint8)
    return Design(style, labels, relief.astype(np.float32))


def _yarn(rng: Rng, across: Field, half: Field, wide: float) -> Field:
    """Light on round strands, dark between them, a twist and some fuzz."""
    round_ = np.sqrt(np.clip(1 - (2 * across - 1) ** 2, 0.02, 1))
    seam = 1 - np.float32(0.35) * np.exp(-(half**2) * 60)
    edge = 1 - np.float32(0.35) * np.exp(-((1 - half) ** 2) * 60)
    twist = np.sin((across * 2.2 + half * wide / 7) * np.float32(2 * np.pi))
    fuzz = cloud(rng, CANVAS, 170, 2, falloff=0.7)
    relief = (0.5 + 0.62 * round_) * seam * edge
    return (relief * (1 + 0.06 * twist + 0.07 * fuzz)).astype(np.float32)


def _chart(rng: Rng, style: str) -> Chart:
    chart = np.full((96, 96), label(0), np.int64)
    if style == "striped knit":
        slots = rng.permutation([0, 1, 0, 2, 3, 0, 4, 1])
        chart[:] = label(0, 0) + PLAIN
        for band, slot in enumerate(slots):
            chart[band * 12 : band * 12 + 12] = label(int(slot))
    elif style == "heathered":
        flecks = rng.random((96, 96))
        chart += rng.integers(-1, 2, (96, 96))
        chart[flecks < 0.2] = label(4)
        chart[flecks < 0.06] = label(1)
    elif style == "fair isle":
        _fair_isle(rng, chart)
    elif style == "chunky":
        chart += rng.integers(-1, 1, (96, 1))
    return chart


def _fair_isle(rng: Rng, chart: Chart) -> None:
    top = 0
    slots = [1, 3, 2, 4]
    while top < 96:
        tall = int(rng.integers(5, 12))
        motif = rng.random((tall, 4)) < 0.5
        motif = np.concatenate([motif, motif[:, ::-1]], axis=1)  # mirrored: woolly
        motif = np.concatenate([motif, motif[::-1]], axis=0)[:tall]
        slot = slots[int(rng.integers(4))]
        band = np.tile(motif, (1, 12))[: 96 - top]
        chart[top : top + tall][band] = label(slot)
        top += tall
        chart[top : top + 1] = label(slots[int(rng.integers(4))])
        top += 1 + int(rng.integers(1, 3))
