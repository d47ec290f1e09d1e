"""``lookalike search``: what looks like this picture?"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lookalike.answers import Answer, Example, Facet, Query, SearchOptions
from lookalike.cli.ingest import url_option
from lookalike.client import Client
from lookalike.errors import BadQuery

STORED = "id:"  # before the id of a stored image
PAGE = 1_000  # matches asked for at once
REASONS = {
    "collection": "there are no more images",
    "filter": "no more satisfy the filter",
    "groups": "there are no more groups",
    "min_score": "all others score lower",
    "depth": "too much had to be left out",
}


def only_collection(client: Client) -> str:
    """The name of the one collection that there is.

    Raises:
        BadQuery: there is none, or several, which are named.
    """
    found = [collection.name for collection in client.collections()]
    if len(found) == 1:
        return found[0]
    if not found:
        raise BadQuery(
            "There is no collection yet; `lookalike ingest DIR` makes one.",
            code="collection_not_found",
        )
    raise BadQuery(
        f"There are {len(found)} collections: {', '.join(found)}. Name one with "
        f"--collection.",
        code="collection_unnamed",
    )


def results_table(answer: Answer, width: int) -> Table:
    """The matches of an answer, with the metadata that fits beside them."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("#", justify="right", style="dim")
    grid.add_column("score", justify="right")
    grid.add_column("id", overflow="fold")
    names = _columns(answer, width)
    for name in names:
        grid.add_column(name, overflow="fold")
    for rank, match in enumerate(answer.matches, start=1):
        cells = [_cell(match.metadata.get(name)) for name in names]
        grid.add_row(str(rank), f"{match.score:.4f}", Text(match.id), *cells)
    return grid


def _columns(answer: Answer, width: int) -> list[str]:
    """The metadata fields there is room for; there is always room for one."""
    left = width - len("10") - len("0.1234") - 4
    left -= max(len(match.id) for match in answer.matches)
    chosen: list[str] = []
    for name in sorted({name for match in answer.matches for name in match.metadata}):
        cells = [_cell(match.metadata.get(name)).cell_len for match in answer.matches]
        left -= max(len(name), *cells) + 2
        if chosen and left < 0:
            break
        chosen.append(name)
    return chosen


def _cell(value: object) -> Text:
    """A metadata value; never read as markup."""
    if value is None:
        return Text("")
    if isinstance(value, list):
        return Text(", ".join(map(str, value)))
    return Text(f"{value:g}" if isinstance(value, float) else str(value))


def timings(answer: Answer) -> str:
    """Where the time of a search went, in one line."""
    parts = [
        f"{name} {spent:.1f} ms"
        for name, spent in answer.took_ms.items()
        if name != "total"
    ]
    total = answer.took_ms.get("total", sum(answer.took_ms.values()))
    return f"{total:.1f} ms in the server: {', '.join(parts)}"


def show_answer(console: Console, answer: Answer) -> None:
    """Print the matches of an answer and where its time went."""
    if answer.matches:
        console.print(results_table(answer, console.width))
    else:
        console.print("No match.")
    for name, facet in answer.facets.items():
        console.print()
        console.print(facets_table(name, facet))
    note = "" if answer.complete else f" (fewer than asked for{_why(answer)})"
    console.print(
        f"{len(answer.matches)} matches{note}; {timings(answer)}",
        style="dim",
        highlight=False,
        soft_wrap=True,
    )


def facets_table(name: str, facet: Facet) -> Table:
    """How many images have which value of a field."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column(name, overflow="fold")
    grid.add_column("images", justify="right")
    for value, count in facet.values:
        grid.add_row(_cell(value), str(count))
    more = facet.distinct - len(facet.values)
    if more > 0:
        grid.add_row(Text(f"{more} more", style="dim"), "")
    if facet.missing:
        grid.add_row(Text("none", style="dim"), str(facet.missing))
    return grid


def _why(answer: Answer) -> str:
    return f": {REASONS[answer.because]}" if answer.because in REASONS else ""


def read_filter(text: str | None) -> object:
    """The filter in an option, parsed.

    Raises:
        BadQuery: it is not JSON.
    """
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise BadQuery(
            f"--filter is not JSON ({error}); an example: "
            '\'{"category": "shoes", "price": {"$lt": 50}}\'.',
            code="filter_invalid",
        ) from None


def read_image(path: str) -> bytes:
    """The bytes of a picture, ``-`` for standard input.

    Raises:
        BadQuery: it cannot be read.
    """
    try:
        if path == "-":
            return sys.stdin.buffer.read()
        return Path(path).read_bytes()
    except OSError as error:
        raise BadQuery(
            f"{path} cannot be read: {error.strerror}. To search from an image that "
            f"is in the collection, add --id.",
            code="file_unreadable",
        ) from error


def example(text: str, crop: Sequence[float] | None = None) -> Example:
    """The example of an option: ``id:NAME`` is a stored image, all else a file.

    Raises:
        BadQuery: the file cannot be read.
    """
    if text.startswith(STORED):
        return Example(id=text.removeprefix(STORED), crop=crop)
    return Example(image=read_image(text), crop=crop)


def read_crop(text: str | None) -> list[float] | None:
    """The four numbers of an option.

    Raises:
        BadQuery: they are no numbers.
    """
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise BadQuery(
            f"--crop is x0,y0,x1,y1 as fractions of the picture, such as "
            f"0.25,0,0.75,0.5; got {text[:40]!r}.",
            code="crop_invalid",
        ) from None


def search_up_to(
    client: Client, collection: str, query: Query, options: SearchOptions, limit: int
) -> Answer:
    """As many matches as wanted, from as many pages as that takes.

    Raises:
        BadInput: what the server refused.
    """
    first = replace(options, limit=min(limit, PAGE) if limit > 0 else limit)
    answer = client.search(collection, query, first)
    while answer.next_cursor is not None and len(answer.matches) < limit:
        left = min(limit - len(answer.matches), PAGE)
        later = replace(options, limit=left, facets=())
        page = client.search(collection, None, later, answer.next_cursor)
        answer = answer.followed_by(page)
    return answer


@click.command()
@click.argument("image")
@click.option("--collection", "-c", help="Where to look. [default: the only one]")
@click.option("--filter", "-f", "condition", metavar="JSON", help="Which to consider.")
@click.option(
    "--limit", "-k", default=10, show_default=True, help="Most matches to show."
)
@click.option("--min-score", type=float, help="Least similarity, -1 to 1.")
@click.option("--id", "by_id", is_flag=True, help="IMAGE is the id of a stored image.")
@click.option(
    "--also", multiple=True, metavar="IMAGE", help="Another one to look for; repeat it."
)
@click.option(
    "--not", "avoid", multiple=True, metavar="IMAGE", help="One to avoid; repeat it."
)
@click.option("--crop", metavar="X0,Y0,X1,Y1", help="The part of IMAGE that counts.")
@click.option("--group-by", metavar="FIELD", help="Show each of its values once.")
@click.option("--diversity", type=float, default=0.0, help="0 to 1: unlike each other.")
@click.option("--collapse", is_flag=True, help="Show near duplicates as one.")
@click.option(
    "--facet", "facets", multiple=True, metavar="FIELD", help="Count its values."
)
@click.option("--json", "as_json", is_flag=True, help="Print the server's answer.")
@url_option
def search(
    image: str,
    collection: str | None,
    by_id: bool,
    also: Sequence[str],
    avoid: Sequence[str],
    crop: str | None,
    as_json: bool,
    url: str,
    **rest: Any,
) -> None:
    """Find what looks like the picture in the file IMAGE ("-": standard input).

    With --also and --not an image is a file, or id:NAME for a stored image.
    """
    options = _options(**rest)
    with Client(url) as client:
        first = STORED + image if by_id else image
        query = Query(
            [example(first, read_crop(crop)), *map(example, also)],
            [example(one) for one in avoid],
        )
        name = collection or only_collection(client)
        answer = search_up_to(client, name, query, options, options.limit)
    if as_json:
        click.echo(json.dumps(answer.document, ensure_ascii=False, indent=2))
    else:
        show_answer(Console(), answer)


def _options(
    condition: str | None,
    limit: int,
    min_score: float | None,
    group_by: str | None,
    diversity: float,
    collapse: bool,
    facets: Sequence[str],
) -> SearchOptions:
    return SearchOptions(
        read_filter(condition),
        limit,
        min_score,
        group_by=group_by,
        diversity=diversity,
        collapse_duplicates=collapse,
        facets=facets,
    )
