"""``python -m lookalike.demo``: pictures and lookalikes on screen in minutes."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import click
import platformdirs
from PIL import Image
from rich.console import Console

from lookalike.cli.folders import Picture, walk
from lookalike.cli.ingest import Source, ingest_folder, show_summary
from lookalike.client import Client
from lookalike.demo.server import running_server
from lookalike.demo.swatches import METADATA, write_catalogue
from lookalike.demo.tour import Pick, guide, wrong
from lookalike.errors import BadRequest, LookalikeError
from lookalike.interfaces import ImageId

SWATCHES = 640
SEED = 7
COLLECTION = "swatches"
MOST_TRIED = 20  # pictures that are opened to find one to search from
SHOWN_SWATCH = "stripes/stripes-03-1.jpg"  # what the searches start from
WANTED = "plaid"  # what the second search looks for
PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Exhibition:
    """The pictures of a demo, and the one its searches start from."""

    source: Source
    collection: str
    pick: Pick
    is_swatches: bool


def generated(console: Console, data_dir: Path) -> Exhibition:
    """The catalogue of swatches, made unless it is there from an earlier run."""
    folder = data_dir / f"catalogue-{SWATCHES}-{SEED}"
    table = folder / METADATA
    # The table is written last, so that it stands for a whole catalogue.
    if not table.exists():
        started = time.monotonic()
        with console.status(f"Making {SWATCHES} swatches …"):
            write_catalogue(folder, SWATCHES, SEED)
        took = time.monotonic() - started
        console.print(f"Made {SWATCHES} swatches in {took:.0f} s: {folder}")
    pick = choose(list(walk(folder)), SHOWN_SWATCH, WANTED)
    return Exhibition(Source(folder, table), COLLECTION, pick, True)


def own(folder: Path) -> Exhibition:
    """Someone's own pictures; folders below become categories.

    Raises:
        BadRequest: there is no picture.
    """
    pictures = list(walk(folder))
    if not pictures:
        raise BadRequest(f"There is no picture in {folder}.", code="no_images")
    in_folders = [one for one in pictures if one.category is not None]
    sound = [one for one in (in_folders or pictures)[:MOST_TRIED] if can_open(one.path)]
    if not sound:
        raise BadRequest(
            f"None of the first pictures in {folder} can be opened.",
            code="image_unsupported",
        )
    pick = choose(pictures, sound[0].id)
    source = Source(folder, category_from_folder=pick.category is not None)
    # Another folder gets another collection, since its fields may be others.
    mark = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:6]
    return Exhibition(source, f"pictures-{mark}", pick, False)


def can_open(path: Path) -> bool:
    """Whether a file is a picture that Pillow reads to its end."""
    try:
        with Image.open(path) as picture:
            picture.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False
    return True


def choose(
    pictures: Sequence[Picture], image_id: str, wanted: str | None = None
) -> Pick:
    """What the searches start from, and the category the second one looks in.

    By default that is the largest other category.
    """
    chosen = next(picture for picture in pictures if picture.id == image_id)
    counts = Counter(one.category for one in pictures if one.category is not None)
    others = [name for name, _ in counts.most_common() if name != chosen.category]
    looked_in = wanted or next(iter(others), chosen.category)
    in_wanted = counts[looked_in] if looked_in is not None else 0
    return Pick(ImageId(chosen.id), chosen.path, chosen.category, looked_in, in_wanted)


def present(console: Console, url: str, shown: Exhibition) -> list[str]:
    """Ingest and search; gives back a sentence for everything that is wrong."""
    with Client(url, patience=PATIENCE_SECONDS) as client:
        console.print(f"Ingesting into the collection {shown.collection!r} …")
        report = ingest_folder(client, shown.collection, shown.source, console)
        show_summary(console, report)
        tour = guide(console, client, shown.collection, shown.pick)
    return list(wrong(report, shown.pick, tour, swatches=shown.is_swatches))


def keep_running(console: Console, url: str) -> None:
    """Leave the page to the user, until Ctrl-C."""
    console.print()
    console.rule("The page", align="left", style="cyan")
    console.print(f"Open [bold]{url}[/bold] and click around. Ctrl-C ends the demo.")
    try:
        signal.pause()
    except KeyboardInterrupt:
        console.print("\nThe demo has ended; a second run starts at once.")


@click.command()
@click.option(
    "--images",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Use these pictures instead of generated swatches.",
)
@click.option(
    "--data-dir",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where everything is kept. [default: the user's data folder]",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), help="[default: 8080 or the next free one]"
)
def demo(images: Path | None, data_dir: Path | None, port: int | None) -> None:
    """Show what Lookalike does, on swatches made for it or on pictures of your own.

    With CI=1 it ends by itself, with status 0 only if the results are right, and
    leaves nothing behind.
    """
    if not is_ci():
        home = Path(platformdirs.user_data_dir("lookalike"))
        run(images, data_dir or home / "demo", port)
        return
    with tempfile.TemporaryDirectory(prefix="lookalike-demo-") as scratch:
        problems = run(images, data_dir or Path(scratch), port)
    sys.exit(1 if problems else 0)


def is_ci() -> bool:
    """Whether nobody watches: CI is set to anything but 0 or false."""
    return os.environ.get("CI", "").lower() not in {"", "0", "false"}


def run(images: Path | None, folder: Path, port: int | None) -> list[str]:
    """The demo in this folder; gives back a sentence for everything that is wrong."""
    console = Console(highlight=False)
    shown = own(images) if images is not None else generated(console, folder)
    console.print("Starting the server …")
    with running_server(folder / "server", port) as url:
        problems = present(console, url, shown)
        for problem in problems:
            console.print(f"Not as it should be: {problem}.", style="bold red")
        if is_ci():
            console.print("Checked: all is right." if not problems else "Not right.")
        else:
            keep_running(console, url)
    return problems


def _stop(number: int, _: FrameType | None) -> None:
    """End on SIGTERM as on Ctrl-C, so that the server is stopped, too."""
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the demo; what goes wrong on purpose ends without a traceback."""
    signal.signal(signal.SIGTERM, _stop)
    try:
        demo.main(arguments, prog_name="python -m lookalike.demo", standalone_mode=True)
    except LookalikeError as error:
        click.echo(f"Error: {error.detail}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
