"""What the page shows: pickers, pictures and words, ready to be rendered."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from lookalike import catalogue, filters, images
from lookalike.api.cards import MOST, STEP, Asked, Card, cards
from lookalike.api.context import Context
from lookalike.api.overviews import MAIN_FIELD, Overview, Overviews, spread
from lookalike.collections import Collection, Fields, FieldType, Team
from lookalike.errors import CollectionNotFound, LookalikeError
from lookalike.ingest import check_image_id
from lookalike.interfaces import Image, ImageId, ImageState
from lookalike.results import Found, Want

QUERY_SIDE = 320  # pixels; the uploaded picture travels inside the page at this size
SHORT, LONG = 14, 26  # choices shown at once, of any field and of the main one


@dataclass(frozen=True)
class Choice:
    """One value that can be picked."""

    value: str
    label: str
    is_current: bool
    count: int | None = None


@dataclass(frozen=True)
class Picker:
    """A row of choices of which one holds."""

    name: str
    label: str
    current: str
    choices: Sequence[Choice]

    @property
    def is_short(self) -> bool:
        """Whether all choices are shown at once, rather than in a list to open."""
        return len(self.choices) <= (LONG if self.name == MAIN_FIELD else SHORT)


@dataclass(frozen=True)
class Query:
    """The picture that was searched with."""

    source: str  # an address, or a data: URI of an uploaded picture
    card: Card | None = None  # None for an uploaded picture


@dataclass(frozen=True)
class Page:
    """Everything the template needs."""

    collection: Collection | None = None
    pickers: Sequence[Picker] = ()
    counts: Mapping[ImageState, int] = field(default_factory=dict)
    is_filtered: bool = False
    query: Query | None = None
    found: Found | None = None
    cards: Sequence[Card] = ()
    next_limit: int | None = None
    error: LookalikeError | None = None
    max_image_bytes: int = 0

    @property
    def total(self) -> int:
        """How many images the collection has, in whatever state."""
        return sum(self.counts.values())

    @property
    def indexed(self) -> int:
        """How many images can be found."""
        return self.counts.get(ImageState.INDEXED, 0)

    @property
    def pending(self) -> int:
        """How many images are on their way in."""
        return self.counts.get(ImageState.PENDING, 0)

    @property
    def failed(self) -> int:
        """How many images could not be read."""
        return self.counts.get(ImageState.FAILED, 0)

    @property
    def milliseconds(self) -> int:
        """How long the search took."""
        if self.found is None:
            return 0
        timing = self.found.timing
        return max(1, round(timing.decode + timing.embed + timing.search))


def compose(
    context: Context,
    overviews: Overviews,
    team: Team,
    asked: Asked,
    picture: bytes | None = None,
) -> Page:
    """The page that answers; what was wrong with the question is its ``error``.

    Raises:
        LedgerUnavailable: without the ledger there is nothing to show.
    """
    ledger = context.backends.ledger
    collections = ledger.collections(team)
    counts = {one.name: ledger.image_counts(one) for one in collections}
    current = _current(collections, counts, asked.collection)
    page = Page(max_image_bytes=context.limits.max_bytes)
    if current is None:
        return replace(page, error=_unknown(asked))
    if asked.collection and asked.collection != current.name:
        page = replace(page, error=_unknown(asked))
        asked = Asked()
    overview = overviews.of(ledger, current, counts[current.name])
    asked = replace(
        asked, collection=current.name, picked=_declared(current.fields, asked.picked)
    )
    page = replace(
        page,
        collection=current,
        counts=counts[current.name],
        pickers=_pickers(collections, counts, overview, asked),
        is_filtered=bool(asked.picked),
    )
    return _fill(page, context, overview, current, asked, picture)


def _current(
    collections: Sequence[Collection],
    counts: Mapping[str, Mapping[ImageState, int]],
    wanted: str,
) -> Collection | None:
    """The collection asked for, or else the one with most images."""
    by_name = {one.name: one for one in collections}
    if wanted in by_name:
        return by_name[wanted]
    return max(
        collections, key=lambda one: sum(counts[one.name].values()), default=None
    )


def _unknown(asked: Asked) -> LookalikeError | None:
    if not asked.collection:
        return None
    return CollectionNotFound(f"There is no collection {asked.collection[:100]!r}.")


def _declared(fields: Fields, picked: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in picked.items()
        if fields.get(name) is FieldType.STRING
    }


def _pickers(
    collections: Sequence[Collection],
    counts: Mapping[str, Mapping[ImageState, int]],
    overview: Overview,
    asked: Asked,
) -> list[Picker]:
    pickers = [_field_picker(name, overview, asked) for name in overview.values]
    # A filter that came by address stays visible, so that it can be taken away.
    pickers += [
        _field_picker(name, overview, asked)
        for name in asked.picked
        if name not in overview.values
    ]
    if len(collections) > 1:
        choices = [
            Choice(
                one.name,
                one.name,
                is_current=one.name == asked.collection,
                count=sum(counts[one.name].values()),
            )
            for one in collections
        ]
        pickers.insert(0, Picker("collection", "Collection", asked.collection, choices))
    return pickers


def _field_picker(name: str, overview: Overview, asked: Asked) -> Picker:
    current = asked.picked.get(name, "")
    values = list(overview.values.get(name, ()))
    if current and current not in values:
        values.append(current)
    choices = [Choice("", "All", is_current=not current)]
    choices += [Choice(value, value, is_current=value == current) for value in values]
    return Picker(name, name.replace("_", " ").capitalize(), current, choices)


def _fill(
    page: Page,
    context: Context,
    overview: Overview,
    collection: Collection,
    asked: Asked,
    picture: bytes | None,
) -> Page:
    try:
        condition = filters.parse(dict(asked.picked), collection.fields)
        if picture is None and not asked.image_id:
            samples = _samples(context, overview, collection, condition)
            return replace(page, cards=cards(samples, collection, asked))
        if picture is not None:
            page = replace(page, query=_uploaded(context, picture))
        else:
            page = replace(page, query=_stored(context, collection, asked))
        want = Want(min(asked.limit, context.backends.settings.max_limit), condition)
        found = _search(context, collection, asked, picture, want)
    except LookalikeError as error:
        # A picture that cannot be read should not take the way on with it.
        plain = replace(asked, image_id="", picked={})
        shown = cards(overview.sample, collection, plain)
        return replace(page, cards=shown, error=error)
    has_more = found.next_cursor is not None and asked.limit < MOST
    return replace(
        page,
        found=found,
        cards=cards(found.matches, collection, asked),
        next_limit=min(MOST, asked.limit + STEP) if has_more else None,
    )


def _search(
    context: Context,
    collection: Collection,
    asked: Asked,
    picture: bytes | None,
    want: Want,
) -> Found:
    if picture is not None:
        return context.searcher.by_image(collection, picture, want)
    return context.searcher.by_id(collection, ImageId(asked.image_id), want)


def _samples(
    context: Context,
    overview: Overview,
    collection: Collection,
    condition: filters.Filter | None,
) -> Sequence[Image]:
    if condition is None:
        return overview.sample
    page, _ = catalogue.scroll(
        context.backends.ledger, collection, condition, None, MOST
    )
    return spread([one for one in page if one.state is ImageState.INDEXED], STEP)


def _uploaded(context: Context, picture: bytes) -> Query:
    with context.decoders:
        small = images.thumbnail(picture, QUERY_SIDE, context.limits)
    kind = "webp" if small.startswith(b"RIFF") else "jpeg"
    return Query(f"data:image/{kind};base64,{base64.b64encode(small).decode()}")


def _stored(context: Context, collection: Collection, asked: Asked) -> Query:
    image = context.backends.ledger.image(collection, check_image_id(asked.image_id))
    (card,) = cards([image], collection, asked)
    return Query(card.thumbnail_url, card)
