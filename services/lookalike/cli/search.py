"""``lookalike search``: what looks like this picture?"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lookalike.cli.ingest import url_option
from lookalike.client import Answer, Client, SearchOptions
from lookalike.errors import BadQuery


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
    note = "" if answer.complete else " (fewer than asked for)"
    console.print(
        f"{len(answer.matches)} matches{note}; {timings(answer)}",
        style="dim",
        highlight=False,
        soft_wrap=True,
    )


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


@click.command()
@click.argument("image")
@click.option("--collection", "-c", help="Where to look. [default: the only one]")
@click.option("--filter", "-f", "condition", metavar="JSON", help="Which to consider.")
@click.option(
    "--limit", "-k", default=10, show_default=True, help="Most matches to show."
)
@click.option("--min-score", type=float, help="Least similarity, -1 to 1.")
@click.option("--id", "by_id", is_flag=True, help="IMAGE is the id of a stored image.")
@click.option("--json", "as_json", is_flag=True, help="Print the server's answer.")
@url_option
def search(
    image: str,
    collection: str | None,
    condition: str | None,
    limit: int,
    min_score: float | None,
    by_id: bool,
    as_json: bool,
    url: str,
) -> None:
    """Find what looks like the picture in the file IMAGE ("-": standard input)."""
    options = SearchOptions(read_filter(condition), limit, min_score)
    with Client(url) as client:
        if by_id:
            name = collection or only_collection(client)
            answer = client.search_by_id(name, image, options)
        else:
            data = read_image(image)
            name = collection or only_collection(client)
            answer = client.search_by_image(name, data, options)
    if as_json:
        click.echo(json.dumps(answer.document, ensure_ascii=False, indent=2))
    else:
        show_answer(Console(), answer)
