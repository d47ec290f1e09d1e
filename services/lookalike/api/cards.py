"""Pictures of the page's grid, and the addresses they lead to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlencode

from lookalike.api import addresses
from lookalike.collections import Collection, Fields, FieldType, MetadataValue
from lookalike.geo import LATITUDE, LONGITUDE
from lookalike.interfaces import Image
from lookalike.results import Match

STEP = 24  # pictures at first and with each "more"; fills 2, 3, 4 and 6 columns
MOST = 240
THUMBNAIL_SIDE = 320  # pixels
RESERVED = frozenset({"collection", "id", "image", "limit"})


@dataclass(frozen=True)
class Asked:
    """What the address or the form asks for, not yet checked."""

    collection: str = ""
    image_id: str = ""
    picked: Mapping[str, str] = field(default_factory=dict)  # field name to value
    limit: int = STEP


@dataclass(frozen=True)
class Card:
    """One picture of the grid."""

    label: str  # what it is called in words: its metadata, or else its id
    image_id: str
    search_url: str
    thumbnail_url: str
    original_url: str
    facts: str
    score: float | None = None

    @property
    def percent(self) -> str:
        """The length of the score's bar."""
        return f"{100 * min(1.0, max(0.0, self.score or 0.0)):.1f}%"


def read(values: Mapping[str, str]) -> Asked:
    """What an address's arguments or a form's fields ask for."""
    limit = values.get("limit", "")
    is_number = limit.isascii() and limit.isdigit() and len(limit) < 5
    return Asked(
        collection=values.get("collection", ""),
        image_id=values.get("id", ""),
        picked={
            name: value
            for name, value in values.items()
            if value and name not in RESERVED
        },
        limit=min(MOST, max(1, int(limit))) if is_number else STEP,
    )


def address(asked: Asked) -> str:
    """The page's address that asks for this."""
    arguments = {
        "collection": asked.collection,
        "id": asked.image_id,
        **asked.picked,
        "limit": "" if asked.limit == STEP else str(asked.limit),
    }
    text = urlencode({name: value for name, value in arguments.items() if value})
    return f"/?{text}" if text else "/"


def cards(
    shown: Iterable[Image | Match], collection: Collection, asked: Asked
) -> list[Card]:
    """Cards of images or matches; each leads to a search from its image."""
    return [_card(one, collection, asked) for one in shown]


def _card(one: Image | Match, collection: Collection, asked: Asked) -> Card:
    image = one.image if isinstance(one, Match) else one
    facts = describe(image, collection.fields)
    thumbnail = addresses.thumbnail(collection.name, image.id)
    return Card(
        label=facts or image.id,
        image_id=image.id,
        search_url=address(replace(asked, image_id=image.id, limit=STEP)),
        thumbnail_url=f"{thumbnail}?side={THUMBNAIL_SIDE}",
        original_url=addresses.original(collection.name, image.id),
        facts=facts,
        score=one.score if isinstance(one, Match) else None,
    )


def describe(image: Image, fields: Fields) -> str:
    """An image's metadata as one line, in the order its collection declares."""
    names = sorted(fields, key=lambda name: name != "category")
    words = [
        _word(name, fields[name], image.metadata[name])
        for name in names
        if name in image.metadata
    ]
    return " · ".join(word for word in words if word)


def _word(name: str, kind: FieldType, value: MetadataValue) -> str:
    plain = name.replace("_", " ")
    match value:
        case bool():
            return plain if value else f"not {plain}"
        case int() | float():
            return f"{plain} {value:,.10g}"
        case list():
            return ", ".join(value)
        case dict():
            return f"{plain} {value[LATITUDE]:.5g}, {value[LONGITUDE]:.5g}"
    return value[:10] if kind is FieldType.DATETIME else value
