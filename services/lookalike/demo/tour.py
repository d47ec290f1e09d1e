"""Three searches that show what Lookalike does, and whether the answers are right."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps
from rich.console import Console

from lookalike.answers import Answer, SearchOptions
from lookalike.cli.search import show_answer
from lookalike.cli.uploads import Report
from lookalike.client import Client
from lookalike.interfaces import ImageId

ASKED = 10  # matches of each search
ALTERED_RANK = 3  # the original of a changed copy is found this high


@dataclass(frozen=True)
class Pick:
    """The picture the searches start from."""

    id: ImageId
    path: Path
    category: str | None  # None: the pictures have no categories
    wanted: str | None = None  # another category, to look for its likes in
    in_wanted: int = 0  # how many pictures that has


@dataclass(frozen=True)
class Tour:
    """The answers of the three searches; the second needs categories."""

    by_picture: Answer
    in_category: Answer | None
    by_id: Answer


def altered(path: Path) -> bytes:
    """A copy of a picture, cropped to 80 % of each side, mirrored, encoded again."""
    with Image.open(path) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")
    width, height = image.size
    cropped = image.crop((width // 10, height // 10, width * 9 // 10, height * 9 // 10))
    file = io.BytesIO()
    ImageOps.mirror(cropped).save(file, "JPEG", quality=75)
    return file.getvalue()


def guide(console: Console, client: Client, collection: str, pick: Pick) -> Tour:
    """Do the three searches and show each with what to look at."""
    copy = altered(pick.path)
    _title(console, "1", f"By picture: {pick.id}, cropped, mirrored, encoded again")
    by_picture = client.search_by_image(collection, copy, SearchOptions(limit=ASKED))
    show_answer(console, by_picture)
    _hint(console, f"The original, {pick.id}, should be at the top.")
    in_category = None
    if pick.wanted is not None:
        condition = {"category": pick.wanted}
        _title(console, "2", f"The same picture, with the filter {condition}")
        in_category = client.search_by_image(
            collection, copy, SearchOptions(condition, ASKED)
        )
        show_answer(console, in_category)
        _hint(console, f"Every match is {pick.wanted}, the closest there is.")
    _title(console, "3", f"By id: more like {pick.id}")
    by_id = client.search_by_id(collection, pick.id, SearchOptions(limit=ASKED))
    show_answer(console, by_id)
    _hint(console, "The picture itself is left out; its relatives come first.")
    return Tour(by_picture, in_category, by_id)


def _title(console: Console, number: str, text: str) -> None:
    console.print()
    console.rule(f"Search {number}", align="left", style="cyan")
    console.print(text, style="bold", markup=False, highlight=False)


def _hint(console: Console, text: str) -> None:
    console.print(f"-> {text}", style="green", markup=False, highlight=False)


def wrong(report: Report, pick: Pick, tour: Tour, *, swatches: bool) -> Iterator[str]:
    """A sentence for everything that is not as it should be.

    Whether relatives come first is only known of the generated swatches.
    """
    if report.failures or report.settled != report.total:
        yield (
            f"{len(report.failures)} of {report.total} images failed, "
            f"{report.total - report.settled} never ended"
        )
    if pick.id not in _ids(tour.by_picture)[:ALTERED_RANK]:
        yield f"the original of the changed copy is not in the first {ALTERED_RANK}"
    if tour.in_category is not None:
        yield from _wrong_categories(pick, tour.in_category)
    if pick.id in _ids(tour.by_id):
        yield "the search by id found the picture itself"
    if swatches:
        found = Counter(match.metadata.get("category") for match in tour.by_id.matches)
        if found[pick.category] * 2 <= ASKED:
            yield f"only {found[pick.category]} of {ASKED} relatives share the category"


def _wrong_categories(pick: Pick, answer: Answer) -> Iterator[str]:
    others = [
        match.id
        for match in answer.matches
        if match.metadata.get("category") != pick.wanted
    ]
    if others:
        yield f"the filtered search found other categories: {others}"
    expected = min(ASKED, pick.in_wanted)
    if len(answer.matches) != expected:
        yield f"the filtered search found {len(answer.matches)}, not {expected}"


def _ids(answer: Answer) -> Sequence[ImageId]:
    return [match.id for match in answer.matches]
