"""What a collection holds, for the page: values to pick from, pictures to start at."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from lookalike import catalogue
from lookalike.collections import Collection, CollectionUid, FieldType
from lookalike.facets import MAX_FACETS, count_facets
from lookalike.interfaces import Image, ImageId, ImageState, Ledger

SCAN_PAGE = 1_000
SCAN_PAGES = 5  # a page view looks at no more images than this times the above
MAX_AGE = 60.0  # seconds
SLOW = 0.1  # seconds; what takes longer is used for ten times as long, come what may
MAX_KEPT = 64  # collections
SAMPLE = 24
MAIN_FIELD = "category"
MAX_MAIN_VALUES = 200
MAX_VALUES = 40  # of any other field; more are no longer a quick choice
MAX_PICKERS = 2

Element = TypeVar("Element")
Counts = Mapping[ImageState, int]


@dataclass(frozen=True)
class Overview:
    """Values worth picking, by field, and images spread over the collection."""

    values: Mapping[str, Sequence[str]] = field(default_factory=dict)
    sample: Sequence[Image] = ()


class Overviews:
    """Remembers overviews for a minute, or until the collection's counts change.

    One of a large collection is used a little longer, or else every view of the page
    would count again while images come in.
    """

    def __init__(self) -> None:
        self._kept: dict[CollectionUid, _Kept] = {}

    def of(self, ledger: Ledger, collection: Collection, counts: Counts) -> Overview:
        """The overview of a collection with these counts."""
        now = time.monotonic()
        kept = self._kept.get(collection.uid)
        if kept is not None and kept.is_fresh(counts, now):
            return kept.overview
        overview = look(ledger, collection)
        ended = time.monotonic()
        if len(self._kept) >= MAX_KEPT:
            self._kept.clear()
        self._kept[collection.uid] = _Kept(overview, counts, now, ended - now)
        return overview


@dataclass(frozen=True)
class _Kept:
    """An overview, of which counts, when it was made, and how long that took."""

    overview: Overview
    counts: Counts
    made: float
    took: float

    def is_fresh(self, counts: Counts, now: float) -> bool:
        age = now - self.made
        if self.took > SLOW and age < 10 * self.took:
            return True
        return self.counts == counts and age < MAX_AGE


def look(ledger: Ledger, collection: Collection) -> Overview:
    """The overview of a collection: values of all images, pictures of the first 5,000.

    Values are of the images that a search finds, so that each leads to some.
    """
    seen: list[Image] = []
    after: ImageId | None = None
    for _ in range(SCAN_PAGES):
        page, after = catalogue.scroll(ledger, collection, None, after, SCAN_PAGE)
        seen += page
        if after is None:
            break
    findable = [image for image in seen if image.state is ImageState.INDEXED]
    return Overview(_values(ledger, collection), spread(findable, SAMPLE))


def spread(images: Sequence[Element], limit: int) -> list[Element]:
    """At most ``limit`` of them, evenly from first to last.

    Ids often start with a folder, so that neighbours are of one kind.
    """
    if len(images) <= limit:
        return list(images)
    return [images[place * len(images) // limit] for place in range(limit)]


def _values(ledger: Ledger, collection: Collection) -> dict[str, list[str]]:
    declared = collection.fields.items()
    names = [name for name, kind in declared if kind is FieldType.STRING]
    names.sort(key=lambda name: name != MAIN_FIELD)
    counted = count_facets(
        ledger, collection, names[:MAX_FACETS], limit=MAX_MAIN_VALUES
    )
    picked: dict[str, list[str]] = {}
    for name, facet in counted.fields.items():
        values = [str(value) for value, _ in facet.values if value]
        most = MAX_MAIN_VALUES if name == MAIN_FIELD else MAX_VALUES
        if not 2 <= len(values) <= facet.distinct <= most:
            continue
        picked[name] = sorted(values, key=lambda value: (value.casefold(), value))
        if len(picked) == MAX_PICKERS:
            break
    return picked
