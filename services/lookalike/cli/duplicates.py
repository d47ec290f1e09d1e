"""``lookalike duplicates``: which images of a collection are copies of each other."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any

import click

from lookalike.cli.ingest import url_option
from lookalike.client import Client

TIERS = ["exact", "near", "similar"]


@click.command()
@click.argument("collection")
@click.option(
    "--tier",
    type=click.Choice(TIERS),
    default="near",
    show_default=True,
    help="exact: the same bytes; near: also the same picture; similar: also alike.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0.5, 1),
    help="Least similarity, instead of the usual one of the tier.",
)
@click.option(
    "--limit",
    "-n",
    type=click.IntRange(min=1),
    help="Most groups to show; default: all.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a group.")
@url_option
def duplicates(
    collection: str,
    tier: str,
    threshold: float | None,
    limit: int | None,
    as_json: bool,
    url: str,
) -> None:
    """Show groups of images of COLLECTION that are duplicates.

    Each group is an image and those that are duplicates of it, with how alike they are.
    """
    count = 0
    with Client(url) as client:
        groups = client.duplicates(collection, tier, threshold)
        for group in itertools.islice(groups, limit):
            count += 1
            click.echo(json.dumps(group) if as_json else _lines(group))
    if not as_json:
        click.echo(f"{count} groups" if count != 1 else "1 group")


def _lines(group: Mapping[str, Any]) -> str:
    """A group for people to read, a line each image."""
    first, *others = group["members"]
    lines = [first["image"]["id"]]
    for one in others:
        lines.append(
            f"  {one['similarity']:.3f}  {one['tier']:<7}  {one['image']['id']}"
        )
    if group["more"]:
        lines.append("  and maybe more")
    return "\n".join(lines)
