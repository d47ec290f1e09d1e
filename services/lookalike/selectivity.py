"""Filters that keep a wanted share of a collection, made from what its images have."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from lookalike.collections import Fields, FieldType, Metadata, MetadataValue
from lookalike.filters import And, AnyOf, Compare, Comparison, Filter, matches

ORDERED = (FieldType.INT, FieldType.FLOAT, FieldType.DATETIME)
NAMED = (FieldType.STRING, FieldType.STRINGS, FieldType.INT, FieldType.BOOL)
TRIES = 24  # for each filter
LEAST_SAMPLED = 1_000  # images, to see what a filter keeps
LEAST_KEPT = 50  # of those, by the filter
NEAR = 1.6  # a share is near another if neither is more than so many times the other


def conditions(
    metadata: Sequence[Metadata],
    fields: Fields,
    share: float,
    count: int,
    rng: random.Random,
) -> list[Filter]:
    """At most ``count`` filters, each of which keeps about that share of the images.

    Ranges of ordered fields, choices of values, and two of these at once; none if the
    images have nothing by which so many can be told from the others.

    Args:
        metadata: of a random sample of the images.
        fields: that the collection declares.
        share: 0 to 1.
        count: of filters.
        rng: decides which.
    """
    found: list[Filter] = []
    # A large share shows in a few images.
    metadata = metadata[: max(LEAST_SAMPLED, round(LEAST_KEPT / share))]
    for place in range(TRIES * count):
        # A single field is tried first.
        made = _one(metadata, fields, share, rng)
        if place % 2:
            other = _one(metadata, fields, share**0.5, rng)
            made = _one(metadata, fields, share**0.5, rng)
            made = And((made, other)) if made and other else None
        if made is None or made in found:
            continue
        kept = sum(matches(made, one) for one in metadata) / len(metadata)
        if share / NEAR <= kept <= share * NEAR:
            found.append(made)
        if len(found) == count:
            break
    return found


def _one(
    metadata: Sequence[Metadata], fields: Fields, share: float, rng: random.Random
) -> Filter | None:
    usable = [name for name, kind in fields.items() if kind in {*ORDERED, *NAMED}]
    if not usable or not metadata:
        return None
    name = rng.choice(sorted(usable))
    kind = fields[name]
    values = [one[name] for one in metadata if name in one]
    if not values:
        return None
    ways = [way for way, kinds in _WAYS.items() if kind in kinds]
    wanted = max(1, round(share * len(metadata)))
    if rng.choice(ways) == "range":
        return _range(name, kind, values, wanted, rng)
    return _choice(name, kind, values, wanted, rng)


_WAYS = {"range": ORDERED, "choice": NAMED}


def _range(
    name: str,
    kind: FieldType,
    values: Sequence[MetadataValue],
    wanted: int,
    rng: random.Random,
) -> Filter:
    """A range of neighbouring values that about so many images have."""
    ordered = sorted(values, key=_key)
    wanted = min(wanted, len(ordered))
    start = rng.randint(0, len(ordered) - wanted)
    low, high = ordered[start], ordered[start + wanted - 1]
    return And(
        (
            Compare(name, kind, Comparison.GTE, low),
            Compare(name, kind, Comparison.LTE, high),
        )
    )


def _key(value: MetadataValue) -> tuple[float, str]:
    """In the order that a filter compares by: numbers, or text by code point."""
    return (0.0, value) if isinstance(value, str) else (float(str(value)), "")


def _choice(
    name: str,
    kind: FieldType,
    values: Sequence[MetadataValue],
    wanted: int,
    rng: random.Random,
) -> Filter:
    """Values that together about so many images have."""
    entries: list[MetadataValue] = []
    for value in values:
        entries += value if isinstance(value, list) else [value]
    counts = Counter(entries)
    order = sorted(counts, key=str)
    rng.shuffle(order)
    chosen: list[MetadataValue] = []
    left = wanted
    for value in order:
        if left > 0 and counts[value] <= left * NEAR and len(chosen) < 100:
            chosen.append(value)
            left -= counts[value]
    return AnyOf(name, kind, tuple(chosen))


def described(condition: Filter | None) -> str:
    """A filter made here in a few words."""
    match condition:
        case None:
            return "no filter"
        case And((Compare(name, value=low), Compare(other, value=high))) if (
            name == other
        ):
            return f"{name} from {low} to {high}"
        case And(parts):
            return " and ".join(described(part) for part in parts)
        case AnyOf(name, values=values):
            shown = ", ".join(map(str, values[:3]))
            more = f" and {len(values) - 3} more" if len(values) > 3 else ""
            return f"{name} among {shown}{more}"
    return str(condition)
