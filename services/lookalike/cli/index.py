"""``lookalike index``: which vector index suits, and what it costs."""

from __future__ import annotations

import json
from dataclasses import asdict

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lookalike.cli import Commands
from lookalike.cli.ingest import url_option
from lookalike.client import Client
from lookalike.collections import IndexKind
from lookalike.index_advice import SOURCES, Advice, advise
from lookalike.interfaces import ImageState

COMMANDS = {"advise": "lookalike.cli.index:advise_command"}
PIPED_WIDTH = 1_000  # columns
UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


@click.group(cls=Commands, table=COMMANDS)
def index() -> None:
    """Choose how the vectors of a collection are indexed."""


@click.command("advise")
@click.argument("collection", required=False)
@click.option(
    "--images",
    type=click.IntRange(min=1),
    help="How many there are going to be.  [default: those of COLLECTION]",
)
@click.option(
    "--dimension",
    type=click.IntRange(min=1),
    help="Numbers in a vector.  [default: that of COLLECTION]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@url_option
def advise_command(
    collection: str | None,
    images: int | None,
    dimension: int | None,
    as_json: bool,
    url: str,
) -> None:
    """Say which index suits COLLECTION, or so many images, and what each one costs.

    The index is chosen when a collection is created.
    """
    has: IndexKind | None = None
    if collection is not None:
        with Client(url) as client:
            found = client.collection(collection)
        has = found.index.kind
        images = images or max(1, found.counts.get(ImageState.INDEXED, 0))
        dimension = dimension or found.dimension
    if images is None or dimension is None:
        raise click.UsageError(
            "Name a collection, or give --images and --dimension; the bundled "
            "backbone's vectors have 512 numbers."
        )
    advice = advise(images, dimension)
    if as_json:
        click.echo(json.dumps(asdict(advice) | {"formulas": SOURCES}, indent=2))
        return
    if collection is not None:
        kind = "automatic" if has is None else has.value
        click.echo(f"{collection} was created with index type {kind}.")
    _show(advice)


def _show(advice: Advice) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PIPED_WIDTH)
    click.echo(f"{advice.images:,} images, vectors of {advice.dimension:,} numbers.")
    click.echo(f"Suits: {advice.reason}\n")
    grid = Table(box=None, pad_edge=False)
    for title in ("type", "memory", "disk", "recall@10", "building", "a search reads"):
        grid.add_column(title, overflow="fold")
    for cost in advice.costs:
        memory = size(cost.memory) + (
            " GPU" if cost.kind is IndexKind.GPU_CAGRA else ""
        )
        disk = size(cost.disk) if cost.disk else ""
        cells = [cost.kind.value, memory, disk, cost.recall, cost.build, cost.search]
        grid.add_row(*(Text(cell) for cell in cells))
    console.print(grid)
    click.echo("\nA row's key, generation and metadata come on top of the memory.")
    for name, source in SOURCES.items():
        of = [cost.kind.value for cost in advice.costs if name in cost.sources]
        click.echo(f"{', '.join(of)}: {source}.")


def size(amount: int) -> str:
    """Bytes as people write them, such as ``2.1 GB``."""
    value, unit = float(amount), 0
    while value >= 999.5 and unit < len(UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.0f} {UNITS[unit]}" if value >= 10 else f"{value:.1f} {UNITS[unit]}"
