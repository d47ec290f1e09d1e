"""Embedders of one backbone side by side: do they agree, and how fast are they."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lookalike.backbones.parity import MIN_COSINE, MIN_OVERLAP, Parity, compare
from lookalike.interfaces import Embedder, Pixels

TIMED = 32  # pictures in a round of timing
ROUNDS = 5


@dataclass(frozen=True)
class Contender:
    """How one embedder did beside the reference."""

    name: str
    parity: Parity
    speed: float  # images a second, of the reference's


def compared(
    reference: Embedder, others: Mapping[str, Embedder], pixels: Pixels
) -> list[Contender]:
    """Each embedder's vectors and speed beside the reference's.

    Speeds are medians of rounds in turns, so that whatever else the machine does
    meets all of them alike.
    """
    expected = reference.embed(pixels)
    parities = {
        name: compare(expected, other.embed(pixels)) for name, other in others.items()
    }
    seconds = _seconds([reference, *others.values()], pixels[:TIMED])
    return [
        Contender(name, parity, seconds[0] / mine)
        for (name, parity), mine in zip(parities.items(), seconds[1:], strict=True)
    ]


def _seconds(embedders: Sequence[Embedder], pixels: Pixels) -> list[float]:
    """Median seconds that each embedder takes for these pictures."""
    taken: list[list[float]] = [[] for _ in embedders]
    for _ in range(ROUNDS):
        for times, embedder in zip(taken, embedders, strict=True):
            started = time.perf_counter()
            embedder.embed(pixels)
            times.append(time.perf_counter() - started)
    return [statistics.median(times) for times in taken]


def show(console: Console, reference: str, contenders: Sequence[Contender]) -> None:
    """Print one row for each, below the one that all are measured by."""
    columns = ("", "cosine mean", "least", "top-10 overlap", "speed", "")
    grid = Table(*columns, box=None, pad_edge=False)
    grid.add_row(reference, "", "", "", "1.00 x", "reference")
    for one in contenders:
        parity = one.parity
        style = "green" if parity.passes else "bold red"
        grid.add_row(
            one.name,
            f"{parity.cosine_mean:.5f}",
            f"{parity.cosine_min:.5f}",
            f"{parity.overlap:.3f}",
            f"{one.speed:.2f} x",
            Text("ok" if parity.passes else "too far", style=style),
        )
    console.print(grid)


def shortfall(contenders: Sequence[Contender]) -> str:
    """A sentence on those that are too far from the reference; empty if none is."""
    failed = [one for one in contenders if not one.parity.passes]
    if not failed:
        return ""
    figures = ", ".join(
        f"{one.name}: {one.parity.cosine_mean:.4f} and {one.parity.overlap:.3f}"
        for one in failed
    )
    return (
        f"needed are a mean cosine of {MIN_COSINE} and a top-10 overlap of "
        f"{MIN_OVERLAP}; {figures}"
    )
