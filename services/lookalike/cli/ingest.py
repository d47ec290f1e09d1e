"""``lookalike ingest``: a folder of pictures into a collection."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table as Grid
from rich.text import Text

from lookalike.cli import folders
from lookalike.cli.folders import Joined, Picture
from lookalike.cli.uploads import Entry, Known, Report, Uploader
from lookalike.cli.waiting import Waiting
from lookalike.client import DEFAULT_URL, Client, CollectionInfo
from lookalike.collections import Fields, FieldType, check_name, unknown_field
from lookalike.errors import (
    BadMetadata,
    CollectionExists,
    CollectionNotFound,
)

PATIENCE_SECONDS = 120.0  # long enough for a server to be started again
# As long as the server answers that it has enough to do, it works: room comes.
BUSY_PATIENCE_SECONDS = 3_600.0
LISTED_FAILURES = 20
LINE_SECONDS = 5.0  # between lines of progress that is not shown on a terminal
CATEGORY = "category"

FAILED, INTERRUPTED = 1, 130  # exit statuses; what is refused at once ends with 2


@dataclass(frozen=True)
class Source:
    """What to ingest: a folder, and where metadata come from."""

    folder: Path
    table: Path | None = None
    category_from_folder: bool = False
    all_files: bool = False


@dataclass(frozen=True)
class Prepared:
    """A folder made ready for sending, and what is odd about it."""

    collection: CollectionInfo
    entries: Sequence[Entry]
    complaints: Sequence[str]


# --- preparing -----------------------------------------------------------------------


def ensure_collection(client: Client, name: str, fields: Fields) -> CollectionInfo:
    """The collection of this name, created with those fields if there is none.

    Raises:
        BadMetadata: it exists and lacks one of the fields.
    """
    try:
        found = client.collection(name)
    except CollectionNotFound:
        # Another ingest of the same folder may be faster.
        with contextlib.suppress(CollectionExists):
            client.create_collection(name, fields)
        found = client.collection(name)
    for field_name in fields:
        if field_name not in found.fields:
            detail, extra = unknown_field(field_name, found.fields)
            raise BadMetadata(
                f"Collection {name!r} exists and was declared otherwise. {detail}",
                code="metadata_unknown_field",
                extra=extra,
            )
    return found


def prepare(client: Client, collection: str, source: Source) -> Prepared:
    """Find the pictures, read the table, and see to it that the collection is there.

    Raises:
        BadInput: the table cannot be used, or does not fit the collection.
        Unavailable: the server does not answer.
    """
    pictures = [
        picture
        for picture in folders.walk(source.folder, all_files=source.all_files)
        if source.table is None or not _same(picture.path, source.table)
    ]
    table = None if source.table is None else folders.read_table(source.table)
    fields = dict(table.fields) if table is not None else {}
    if source.category_from_folder:
        fields.setdefault(CATEGORY, FieldType.STRING)
    known = ensure_collection(client, collection, fields)
    joined = Joined() if table is None else folders.join(table, pictures)
    is_text = table is not None and table.is_text
    entries = [
        _entry(picture, source, joined.metadata.get(picture.id, {}), known, is_text)
        for picture in pictures
    ]
    return Prepared(known, entries, list(joined.complaints()))


def _same(path: Path, other: Path) -> bool:
    try:
        return path.name == other.name and path.samefile(other)
    except OSError:
        return False


def _entry(
    picture: Picture,
    source: Source,
    row: Mapping[str, object],
    known: CollectionInfo,
    is_text: bool,
) -> Entry:
    metadata = folders.typed(row, known.fields) if is_text else dict(row)
    if source.category_from_folder and picture.category is not None:
        metadata.setdefault(CATEGORY, picture.category)
    return Entry(picture.path, picture.id, metadata)


def ingest_folder(
    client: Client, collection: str, source: Source, console: Console
) -> Report:
    """Take every picture of a folder into a collection, showing progress.

    Raises:
        LookalikeError: nothing could be sent, or the server refused to go on.
        KeyboardInterrupt: someone stopped it; what was sent is being indexed.
    """
    check_name(collection)
    prepared = prepare(client, collection, source)
    for line in prepared.complaints:
        note = Text(f"Note: {line}", style="yellow")
        console.print(note, highlight=False, soft_wrap=True)
    found = prepared.collection
    known = Known(found.fields)
    if any(found.counts.values()):
        known = Known.of(client, collection, found.fields)
    with watcher(console, len(prepared.entries)) as shown:
        return Uploader(client, collection, known, shown).run(prepared.entries)


def patient_client(url: str, console: Console) -> Client:
    """A client that waits for a server which is away or busy, and says so."""
    return Client(
        url,
        patience=PATIENCE_SECONDS,
        busy_patience=BUSY_PATIENCE_SECONDS,
        waiting=Waiting(console),
    )


# --- showing -------------------------------------------------------------------------


class Bars:
    """Two bars on a terminal: what is sent, what is indexed."""

    def __init__(self, console: Console, total: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description:>9}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TaskProgressColumn(show_speed=False),
            TextColumn("{task.fields[rate]:>12}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            console=console,
        )
        self._sent = self._progress.add_task("uploaded", total=total, rate="")
        self._settled = self._progress.add_task("indexed", total=total, rate="")

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def update(self, report: Report) -> None:
        """Move the bars."""
        rate = f"{report.rate:,.0f} images/s"
        self._progress.update(self._sent, completed=report.sent)
        self._progress.update(self._settled, completed=report.settled, rate=rate)


class Lines:
    """A line now and then, for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = time.monotonic() + LINE_SECONDS

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self, report: Report) -> None:
        """Print how things stand, if it is time to."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + LINE_SECONDS
        self._console.print(
            f"{report.sent:,} of {report.total:,} uploaded, "
            f"{report.settled:,} indexed, {len(report.failures):,} failed, "
            f"{report.rate:,.0f} images/s",
            highlight=False,
            soft_wrap=True,
        )


def watcher(console: Console, total: int) -> Bars | Lines:
    """What shows progress on this console."""
    return Bars(console, total) if console.is_terminal else Lines(console)


def show_summary(console: Console, report: Report) -> None:
    """Print what became of the files, and the first failures."""
    failed = len(report.failures)
    console.print(
        f"{report.total:,} images: {report.done:,} done, "
        f"{report.unchanged:,} unchanged, {failed:,} failed, "
        f"{report.superseded:,} superseded in "
        f"{report.seconds:.1f} s ({report.rate:,.0f} images/s)",
        highlight=False,
        style="bold red" if failed else "bold",
        soft_wrap=True,
    )
    if not failed:
        return
    grid = Grid("file", "code", "detail", box=None, pad_edge=False)
    for one in report.failures[:LISTED_FAILURES]:
        # As text, so that brackets in a name are not taken for markup.
        grid.add_row(Text(_shown(one.file)), one.code, Text(one.detail))
    console.print(grid)
    if failed > LISTED_FAILURES:
        console.print(f"… and {failed - LISTED_FAILURES:,} more", highlight=False)


def _shown(name: str) -> str:
    """A file name that a terminal can print, whatever its bytes are."""
    return name.encode("utf-8", "backslashreplace").decode()


def write_failures(file: Path, report: Report) -> None:
    """Write every failure as a line of JSON."""
    lines = (json.dumps(asdict(one)) + "\n" for one in report.failures)
    file.write_text("".join(lines), encoding="utf-8")


# --- the command ---------------------------------------------------------------------


url_option = click.option(
    "--url",
    envvar="LOOKALIKE_URL",
    default=DEFAULT_URL,
    show_default=True,
    show_envvar=True,
    metavar="URL",
    help="Address of the server.",
)


@click.command()
@click.argument(
    "folder",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)
@click.option(
    "--collection", "-c", default="images", show_default=True, help="Where they go."
)
@click.option(
    "--category-from-folder",
    is_flag=True,
    help="The first folder below DIR becomes the category.",
)
@click.option(
    "--metadata",
    "table",
    metavar="FILE.csv|.ndjson",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Metadata of the files: a column `file`, the others are fields.",
)
@click.option("--all-files", is_flag=True, help="Try every file, whatever its name.")
@click.option(
    "--failures",
    "failures_file",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write every failure to this file, as NDJSON.",
)
@url_option
def ingest(
    folder: Path,
    collection: str,
    category_from_folder: bool,
    table: Path | None,
    all_files: bool,
    failures_file: Path | None,
    url: str,
) -> None:
    """Take every picture below DIR into a collection.

    The id of a picture is its path below DIR. Run the same command again at any time:
    what is there already is skipped, what changed is replaced. A server that is busy
    or away for a moment is waited for. Ends with status 1 if any image failed.
    """
    console = Console(stderr=True)
    source = Source(folder, table, category_from_folder, all_files)
    try:
        with patient_client(url, console) as client:
            report = ingest_folder(client, collection, source, console)
    except KeyboardInterrupt:
        click.echo(
            "\nStopped. The server goes on indexing what it has received. Run the same "
            "command again to resume: what is there already is skipped.",
            err=True,
        )
        sys.exit(INTERRUPTED)
    show_summary(Console(highlight=False), report)
    if failures_file is not None:
        write_failures(failures_file, report)
    sys.exit(FAILED if report.failures else 0)
