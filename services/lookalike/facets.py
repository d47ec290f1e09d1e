"""Use case: how many images have which value of a field."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lookalike.collections import (
    Collection,
    FieldType,
    MetadataValue,
    unknown_field,
)
from lookalike.errors import BadQuery
from lookalike.filters import Filter, matches
from lookalike.interfaces import Ledger

MAX_FACETS = 10  # fields at once
MAX_VALUES = 1_000  # told of one field
COUNTED = tuple(kind for kind in FieldType if kind is not FieldType.GEO)

Countable = str | int | float | bool


@dataclass(frozen=True)
class Facet:
    """What images have in one field.

    Attributes:
        values: the most frequent values, each with how many images have it, most
            first and then by value; an image counts once for each entry of a list.
        distinct: how many values there are.
        missing: how many images have no value.
    """

    values: Sequence[tuple[Countable, int]]
    distinct: int
    missing: int


@dataclass(frozen=True)
class Facets:
    """What images that satisfy a filter have, and how many they are."""

    images: int
    fields: Mapping[str, Facet]


def check_facets(collection: Collection, fields: Sequence[str]) -> None:
    """Return if values of these fields can be counted.

    Raises:
        BadQuery: ``query_unknown_field``, ``query_wrong_type`` or ``query_invalid``.
    """
    if len(fields) > MAX_FACETS:
        raise BadQuery(
            f"At most {MAX_FACETS} fields are counted at once; got {len(fields)}.",
            extra={"limit": MAX_FACETS},
        )
    for name in fields:
        if name not in collection.fields:
            detail, extra = unknown_field(name, collection.fields)
            raise BadQuery(detail, code="query_unknown_field", extra=extra)
        kind = collection.fields[name]
        if kind not in COUNTED:
            raise BadQuery(
                f"Field {name!r} is {kind.value}, whose values are not counted; "
                f"accepted are {', '.join(COUNTED)}.",
                code="query_wrong_type",
                extra={"field": name, "accepted": list(COUNTED)},
            )


def count_facets(
    ledger: Ledger,
    collection: Collection,
    fields: Sequence[str],
    condition: Filter | None = None,
    limit: int = 20,
) -> Facets:
    """Count, exactly, the values of fields among images that satisfy a filter.

    Counted are the images a search can find. The time grows with the number of
    different metadata in the collection.

    Raises:
        BadQuery: as ``check_facets``; ``limit_invalid``.
    """
    check_facets(collection, fields)
    if not 1 <= limit <= MAX_VALUES:
        raise BadQuery(
            f"A limit of facets is 1 to {MAX_VALUES}; got {limit}.",
            code="limit_invalid",
            extra={"limit": MAX_VALUES},
        )
    counters: dict[str, Counter[Countable]] = {name: Counter() for name in fields}
    missing = Counter[str]()
    images = 0
    for metadata, count in ledger.metadata_counts(collection):
        if condition is not None and not matches(condition, metadata):
            continue
        images += count
        for name, counter in counters.items():
            value = metadata.get(name)
            if value is None:
                missing[name] += count
            for one in _entries(value):
                counter[one] += count
    return Facets(
        images,
        {
            name: Facet(_most(counter, limit), len(counter), missing[name])
            for name, counter in counters.items()
        },
    )


def _entries(value: MetadataValue | None) -> set[Countable]:
    """The values an image counts for."""
    if value is None or isinstance(value, dict):
        return set()
    return set(value) if isinstance(value, list) else {value}


def _most(counter: Counter[Countable], limit: int) -> tuple[tuple[Countable, int], ...]:
    # Values of one field are of one type, so they can be compared.
    ordered = sorted(counter.items(), key=lambda each: (-each[1], each[0]))
    return tuple(ordered[:limit])
