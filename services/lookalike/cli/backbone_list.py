"""``lookalike backbone list``: what is here, and what can be fetched."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lookalike.backbones import Backbone, directories, read
from lookalike.backbones.published import PUBLISHED, Published
from lookalike.cli.settings import load
from lookalike.errors import Misconfigured

WIDTH = 160  # of a table that goes to a file or a pipe


def described(backbone: Backbone) -> dict[str, object]:
    """A backbone in the words of its manifest, as ``list --json`` shows it."""
    about = _section(backbone.manifest, "about")
    return {
        "name": backbone.name,
        "version": backbone.version,
        "side": backbone.geometry.side,
        "dimension": backbone.dimension,
        "precision": [backbone.precision, *backbone.variants],
        "fingerprint": backbone.fingerprint,
        "licence": about.get("licence", "not stated"),
        "quality": _quality(_section(about, "quality")),
        "directory": str(backbone.directory),
    }


def fetchable(one: Published) -> dict[str, object]:
    """Public weights, as ``list --json`` shows them."""
    return {
        "name": one.name,
        "architecture": one.architecture,
        "side": one.geometry.side,
        "dimension": one.dimension,
        "megabytes": one.megabytes,
        "imagenet_accuracy": one.accuracy,
        "stored_as": one.default_name,
    }


def _section(values: Mapping[str, object], key: str) -> Mapping[str, object]:
    section = values.get(key)
    return section if isinstance(section, dict) else {}


def _quality(quality: Mapping[str, object]) -> str:
    """The measured quality in a few words."""
    names = {
        "map": "mAP",
        "precision_at_1": "P@1",
        "imagenet_top_1": "ImageNet top-1",
        "explained_variance": "variance kept",
    }
    figures = [
        f"{name} {quality[key]}" for key, name in names.items() if key in quality
    ]
    return ", ".join(figures) or "not measured"


def _here(place: Path) -> tuple[list[Backbone], list[str]]:
    """The backbones that work, and a sentence on each that does not."""
    found, broken = [], []
    for _, directory in sorted(directories([place]).items()):
        try:
            found.append(read(directory))
        except Misconfigured as error:
            broken.append(error.detail)
    return found, broken


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead.")
def list_backbones(as_json: bool) -> None:
    """List the backbones that are here and those that can be fetched."""
    settings = load()
    found, broken = _here(settings.backbones)
    here = [described(backbone) for backbone in found]
    there = [fetchable(one) for one in PUBLISHED.values()]
    if as_json:
        click.echo(json.dumps({"here": here, "fetchable": there, "broken": broken}))
        return
    console = Console(highlight=False, width=None if _is_terminal() else WIDTH)
    for row in here:
        row["precision"] = ", ".join(map(str, row["precision"]))  # type: ignore[call-overload]
        del row["directory"]
    console.print(_grid(f"Here (added ones: {settings.backbones})", here))
    console.print()
    console.print(_grid("To be had with `lookalike backbone fetch NAME`", there))
    for sentence in broken:
        console.print(Text(f"Broken: {sentence}", style="yellow"), soft_wrap=True)


def _is_terminal() -> bool:
    return Console().is_terminal


def _grid(title: str, rows: list[dict[str, object]]) -> Table:
    grid = Table(
        *rows[0] if rows else (),
        title=Text(title),
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for row in rows:
        grid.add_row(*(Text(str(value)) for value in row.values()))
    return grid
