"""The field-first spelling: ``{"category": ["shoes"], "price": {"$lt": 50}}``."""

from __future__ import annotations

from collections.abc import Mapping

from lookalike.collections import FieldType, shorten
from lookalike.filters import qdrant
from lookalike.filters.areas import box, circle, members
from lookalike.filters.reading import (
    Reading,
    bad,
    below,
    boolean,
    conjunction,
    suggestion,
)
from lookalike.filters.tree import (
    AllOf,
    And,
    Compare,
    Comparison,
    Exists,
    Filter,
    Not,
    Or,
    Prefix,
    Within,
)

LOGICAL = ("$and", "$or", "$not")
_EQUALITY = ("$eq", "$ne", "$in", "$nin", "$exists")
_ORDER = ("$gt", "$gte", "$lt", "$lte")
OPERATORS: Mapping[FieldType, tuple[str, ...]] = {
    FieldType.STRING: (*_EQUALITY, *_ORDER, "$prefix"),
    FieldType.INT: (*_EQUALITY, *_ORDER),
    FieldType.FLOAT: (*_EQUALITY, *_ORDER),
    FieldType.DATETIME: (*_EQUALITY, *_ORDER),
    FieldType.BOOL: _EQUALITY,
    FieldType.STRINGS: (*_EQUALITY, "$any", "$all"),
    FieldType.GEO: ("$exists", "$within_radius", "$within_box"),
}
EVERY_OPERATOR = tuple(dict.fromkeys(sum(OPERATORS.values(), ())))
# What others call it, where the spelling alone would suggest something else.
ALIASES = {
    "$like": "$prefix",
    "$regex": "$prefix",
    "$startswith": "$prefix",
    "$contains": "$eq",
    "$nor": "$not",
    "$near": "$within_radius",
    "$geowithin": "$within_box",
}


def read_group(reading: Reading, raw: object, at: str, depth: int) -> Filter:
    """The tree of an object in either spelling: every entry of it holds.

    Raises:
        BadFilter: it cannot be evaluated; see ``filters.parse``.
    """
    reading.check_depth(depth, at)
    if not isinstance(raw, Mapping):
        raise bad(at, f"expected an object of conditions, got {shorten(raw)}")
    if qdrant.is_spelled_so(raw, reading.fields):
        return qdrant.read_group(reading, raw, at, depth)
    if not raw:
        reading.count(at)
    parts = [
        _entry(reading, str(name), value, below(at, str(name)), depth)
        for name, value in raw.items()
    ]
    return conjunction(parts)


def _entry(reading: Reading, name: str, raw: object, at: str, depth: int) -> Filter:
    """One entry of an object: a logical operator, or a field and its condition."""

    def group(part: object, place: str) -> Filter:
        return read_group(reading, part, place, depth + 1)

    match name:
        case "$not":
            return Not(group(raw, at))
        case "$and":
            return And(reading.groups(raw, at, group))
        case "$or":
            return Or(reading.groups(raw, at, group))
    if name.startswith("$"):
        raise bad(at, _misplaced(name))
    reading.kind(name, at, *LOGICAL, *qdrant.CLAUSES)
    return _field(reading, name, raw, at)


def _misplaced(symbol: str) -> str:
    """What is wrong with an operator that stands where a field name is expected."""
    if symbol in EVERY_OPERATOR:
        return f'{symbol} belongs below a field name: {{"FIELD": {{"{symbol}": …}}}}'
    guess = ALIASES.get(symbol.lower(), symbol)
    return (
        f"unknown operator {shorten(symbol)}{suggestion(guess, LOGICAL)}; accepted "
        f"here: {', '.join(LOGICAL)} or a field name"
    )


def _field(reading: Reading, name: str, raw: object, at: str) -> Filter:
    """What is asked of one field: a bare value, a bare list, or operators."""
    if raw is None:
        reading.count(at)
        return Not(Exists(name))
    if not isinstance(raw, Mapping):
        bare = "$in" if isinstance(raw, list) else "$eq"
        return _leaf(reading, name, bare, raw, at)
    if not raw:
        raise bad(at, "expected an operator, got {}")
    return conjunction(
        [
            _leaf(reading, name, str(symbol), value, below(at, str(symbol)))
            for symbol, value in raw.items()
        ]
    )


def _leaf(reading: Reading, name: str, symbol: str, raw: object, at: str) -> Filter:
    """One operator on one field."""
    reading.count(at)
    kind = reading.fields[name]
    if symbol not in OPERATORS[kind]:
        raise bad(at, _inapplicable(symbol, kind))
    match symbol:
        case "$eq":
            return reading.equal(name, raw, at)
        case "$ne":
            return Not(reading.equal(name, raw, at))
        case "$in" | "$any":
            return reading.any_of(name, raw, at, nulls=symbol == "$in")
        case "$nin":
            return Not(reading.any_of(name, raw, at, nulls=True))
        case "$all":
            entries = reading.entries(raw, at)
            return AllOf(name, tuple(str(reading.value(name, *e)) for e in entries))
        case "$exists":
            return Exists(name) if boolean(raw, at) else Not(Exists(name))
        case "$prefix":
            return Prefix(name, str(reading.value(name, raw, at)))
        case "$within_radius" | "$within_box":
            return _within(name, symbol, raw, at)
    return Compare(name, kind, Comparison(symbol), reading.value(name, raw, at))


def _inapplicable(symbol: str, kind: FieldType) -> str:
    accepted = OPERATORS[kind]
    listed = f"accepted on a {kind.value} field: {', '.join(accepted)}"
    if symbol in EVERY_OPERATOR:
        return f"{symbol} does not apply; {listed}"
    guess = ALIASES.get(symbol.lower(), symbol)
    return f"unknown operator {shorten(symbol)}{suggestion(guess, accepted)}; {listed}"


def _within(name: str, symbol: str, raw: object, at: str) -> Filter:
    if symbol == "$within_box":
        south, west, north, east = members(raw, at, "south", "west", "north", "east")
        return Within(name, box(south, west, north, east))
    return Within(name, circle(*members(raw, at, "lat", "lon", "radius_m")))
