"""``lookalike verify``: does the index hold what the ledger says?"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lookalike import logs
from lookalike.cli.settings import load
from lookalike.collections import DEFAULT_TEAM
from lookalike.config import Settings
from lookalike.errors import CollectionNotFound
from lookalike.interfaces import WorkId
from lookalike.verify import Report, Ring

if TYPE_CHECKING:
    from lookalike.bootstrap import Backends

COLUMNS = ("checked", "missing", "stale", "ghosts", "repaired", "originals_missing")
EXPLAINED = {
    "missing": "images that are not in the index, so that no search finds them",
    "stale": "index rows that are not of the newest state of their image",
    "ghosts": "index rows of deleted images; no search shows them",
    "originals_missing": "images whose file is gone; ingest them again",
}

Connect = Callable[[Settings], "Backends"]
Reports = dict[str, Report]  # by collection


def verify_all(
    settings: Settings,
    name: str | None,
    *,
    repair: bool,
    connect: Connect | None = None,
) -> tuple[Reports, bool]:
    """Verify one collection or all; also whether work is left for a worker.

    Where there is no other process that could work, repairs are done here.

    Raises:
        CollectionNotFound: there is none of that name.
        Misconfigured: `lookalike up` runs on this data.
        Unavailable: a part does not answer.
    """
    from lookalike import bootstrap, embedded
    from lookalike.verify import verify

    embedded.check_index(settings)
    reports: Reports = {}
    with contextlib.ExitStack() as closing:
        if settings.is_embedded_index:
            closing.enter_context(embedded.only_process(settings))
        parts = (connect or bootstrap.connect)(settings)
        closing.callback(parts.close)
        ledger = parts.ledger
        if name is not None:
            collections = [ledger.collection(DEFAULT_TEAM, name)]
        else:
            collections = ledger.collections(DEFAULT_TEAM)
        ring = _ring(parts) if repair else None
        for collection in collections:
            try:
                report = verify(ledger, parts.index, parts.blobs, collection, ring)
            except CollectionNotFound:
                continue  # deleted meanwhile
            reports[collection.name] = report
        return reports, repair and ledger.has_pending()


def _ring(parts: Backends) -> Ring:
    """What is done about work for repairs."""
    from lookalike import ingest

    size = parts.settings.chunk_images
    if not parts.settings.is_embedded_index:
        return partial(ingest.ring, parts.queue, chunk_images=size)

    def work(ids: Sequence[WorkId]) -> None:
        for start in range(0, len(ids), size):
            parts.index_images(ids[start : start + size])

    return work


def show(console: Console, reports: Reports) -> None:
    """Print the reports as a table, and below it what the words mean."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("collection", overflow="fold")
    for column in COLUMNS:
        grid.add_column(column.replace("_", " "), justify="right")
    for name, report in reports.items():
        counts = (getattr(report, column) for column in COLUMNS)
        grid.add_row(Text(name), *(f"{count:,}" for count in counts))
    console.print(grid)
    for column, meaning in EXPLAINED.items():
        if any(getattr(report, column) for report in reports.values()):
            console.print(Text(f"{column.replace('_', ' ')}: {meaning}"))
    for name, report in reports.items():
        if report.without_original:
            ids = ", ".join(map(repr, report.without_original))
            rest = report.originals_missing - len(report.without_original)
            more = f" and {rest:,} more" if rest else ""
            console.print(Text(f"originals missing in {name}: {ids}{more}"))


def as_json(reports: Reports) -> str:
    """The reports for programs."""
    listed = [
        {"collection": name, **asdict(report)} for name, report in reports.items()
    ]
    return json.dumps({"collections": listed, "remaining": _remaining(reports)})


def _remaining(reports: Reports) -> int:
    return sum(report.remaining for report in reports.values())


def conclusion(reports: Reports, *, repair: bool, waits: bool) -> str:
    """How it stands, in one line."""
    count = _remaining(reports)
    problems = f"{count:,} problem{'' if count == 1 else 's'}"
    remain = f"{problems} remain{'s' if count == 1 else ''}."
    if not any(one.differences or one.originals_missing for one in reports.values()):
        return "The index holds what the ledger says."
    if not repair and any(one.differences for one in reports.values()):
        return f"{problems}. `lookalike verify --repair` mends the index."
    return f"{remain} Repairs wait for a worker." if waits else remain


@click.command()
@click.option(
    "-c", "--collection", metavar="NAME", help="Only this one.  [default: all]"
)
@click.option("--repair", is_flag=True, help="Put right what can be put right.")
@click.option("--json", "in_json", is_flag=True, help="Print JSON for programs.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where everything is kept. [default: the user's data folder]",
)
def verify(
    collection: str | None, repair: bool, in_json: bool, data_dir: Path | None
) -> None:
    """Compare the index with the ledger, image by image, both ways.

    Ends with status 1 if anything differs and is not repaired. A server does this by
    itself once a day, and repairs what it finds.
    """
    settings = load(data_dir=data_dir)
    logs.configure(settings.log_level)
    reports, waits = verify_all(settings, collection, repair=repair)
    if in_json:
        click.echo(as_json(reports))
    else:
        show(Console(highlight=False), reports)
        click.echo(conclusion(reports, repair=repair, waits=waits))
    sys.exit(1 if _remaining(reports) else 0)
