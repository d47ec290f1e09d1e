"""What a collection holds, for the page: values to pick from, pictures to start at."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from lookalike import catalogue
from lookalike.collections import Collection, CollectionUid, Fields, FieldType
from lookalike.interfaces import Image, ImageId, ImageState, Ledger

SCAN_PAGE = 1_000
SCAN_PAGES = 5  # a page view looks at no more images than this times the above
MAX_AGE = 60.0  # seconds
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
    """Remembers overviews for a minute, or until the collection's counts change."""

    def __init__(self) -> None:
        self._kept: dict[CollectionUid, tuple[float, Counts, Overview]] = {}

    def of(self, ledger: Ledger, collection: Collection, counts: Counts) -> Overview:
        """The overview of a collection with these counts."""
        now = time.monotonic()
        made, before, overview = self._kept.get(collection.uid, (0.0, {}, Overview()))
        if made and before == counts and now - made < MAX_AGE:
            return overview
        overview = look(ledger, collection)
        if len(self._kept) >= MAX_KEPT:
            self._kept.clear()
        self._kept[collection.uid] = (now, counts, overview)
        return overview


def look(ledger: Ledger, collection: Collection) -> Overview:
    """The overview of the first 5,000 images."""
    seen: list[Image] = []
    after: ImageId | None = None
    for _ in range(SCAN_PAGES):
        page, after = catalogue.scroll(ledger, collection, None, after, SCAN_PAGE)
        seen += page
        if after is None:
            break
    findable = [image for image in seen if image.state is ImageState.INDEXED]
    return Overview(_values(collection.fields, seen), spread(findable, SAMPLE))


def spread(images: Sequence[Element], limit: int) -> list[Element]:
    """At most ``limit`` of them, evenly from first to last.

    Ids often start with a folder, so that neighbours are of one kind.
    """
    if len(images) <= limit:
        return list(images)
    return [images[place * len(images) // limit] for place in range(limit)]


def _values(fields: Fields, images: Sequence[Image]) -> dict[str, list[str]]:
    names = [name for name, kind in fields.items() if kind is FieldType.STRING]
    names.sort(key=lambda name: name != MAIN_FIELD)
    picked: dict[str, list[str]] = {}
    for name in names:
        values = {str(one.metadata[name]) for one in images if one.metadata.get(name)}
        is_main = name == MAIN_FIELD
        if len(values) < 2 or len(values) > (
            MAX_MAIN_VALUES if is_main else MAX_VALUES
        ):
            continue
        picked[name] = sorted(values, key=lambda value: (value.casefold(), value))
        if len(picked) == MAX_PICKERS:
            break
    return picked
