"""Qdrant's spelling: ``{"must": [{"key": "price", "range": {"lt": 50}}]}``.

As there, an empty ``must`` or ``must_not`` holds, an empty ``should`` does not, a
test of a string[] asks whether any entry satisfies it, and ``except`` does not hold
for an absent field. Two things differ: null and absent are one thing here, so that
``is_null`` holds for absent fields too; and a condition has one test, because Qdrant
takes several as alternatives, which reads like the opposite.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

from lookalike.collections import Fields, FieldType, shorten
from lookalike.filters.areas import box, circle, known, members
from lookalike.filters.reading import (
    Entry,
    Reading,
    bad,
    below,
    boolean,
    conjunction,
)
from lookalike.filters.tree import (
    And,
    Compare,
    Comparison,
    Empty,
    Exists,
    Filter,
    Not,
    Or,
    Within,
)

CLAUSES = ("must", "should", "must_not", "min_should")
_TESTS = ("match", "range", "geo_radius", "geo_bounding_box", "is_empty", "is_null")
_MATCHES = ("value", "any", "except")
_RANGE = {f"{symbol.value[1:]}": symbol for symbol in Comparison if symbol != "$eq"}
_ORDERED = (FieldType.STRING, FieldType.INT, FieldType.FLOAT, FieldType.DATETIME)
# What Qdrant has and Lookalike has not, and what there is instead.
_NO_TEXT = "there is no search in texts; the field-first spelling has $prefix"
_LACKING_MATCHES = {"text": _NO_TEXT, "text_any": _NO_TEXT, "phrase": _NO_TEXT}
_LACKING_TESTS = {
    "geo_polygon": "there are geo_radius and geo_bounding_box",
    "values_count": "there is is_empty",
}
_LACKING_CONDITIONS = {
    "has_id": "a filter tests metadata; declare a field that holds what you select by",
    "has_vector": "every image has one vector",
    "nested": "fields are not nested",
}


def is_spelled_so(raw: Mapping[object, object], fields: Fields) -> bool:
    """Whether an object is in Qdrant's spelling; names of declared fields are not."""
    return any(name in raw and name not in fields for name in CLAUSES)


def read_group(
    reading: Reading, raw: Mapping[object, object], at: str, depth: int
) -> Filter:
    """The tree of a filter in Qdrant's spelling: every clause of it holds.

    Raises:
        BadFilter: it cannot be evaluated; see ``filters.parse``.
    """
    reading.check_depth(depth, at)
    for name in raw:
        if name not in CLAUSES:
            raise bad(
                below(at, str(name)),
                f"one object is spelled either like Qdrant's ({', '.join(CLAUSES)}) "
                f"or field-first; {shorten(name)} is not of Qdrant's",
            )
    parts = [
        _clause(reading, str(name), value, below(at, str(name)), depth)
        for name, value in raw.items()
        if value is not None
    ]
    if not parts:
        reading.count(at)
    return conjunction(parts)


def _clause(reading: Reading, name: str, raw: object, at: str, depth: int) -> Filter:
    if name == "min_should":
        return _min_should(reading, raw, at, depth)
    parts = _conditions(reading, raw, at, depth)
    match name:
        case "must":
            return And(parts)
        case "should":
            return Or(parts)
    return Not(Or(parts))


def _conditions(
    reading: Reading, raw: object, at: str, depth: int
) -> tuple[Filter, ...]:
    """The conditions of a clause: a list, or a single one."""
    if isinstance(raw, Mapping):
        return (_condition(reading, raw, at, depth),)
    return reading.groups(
        raw, at, lambda part, place: _condition(reading, part, place, depth)
    )


def _min_should(reading: Reading, raw: object, at: str, depth: int) -> Filter:
    """At least so many conditions hold: one of all selections of that many does."""
    conditions, (least, place) = members(raw, at, "conditions", "min_count")
    if isinstance(least, bool) or not isinstance(least, int) or least < 0:
        problem = f"expected a count from 0, got {shorten(least)}"
        raise bad(place, problem, "filter_wrong_type")
    before = reading.conditions
    parts = _conditions(reading, *conditions, depth)
    if least == 0:
        return And(())
    if least > len(parts):
        return Or(())
    each_is_written = math.comb(len(parts) - 1, least - 1)
    reading.count(at, (each_is_written - 1) * (reading.conditions - before))
    chosen = itertools.combinations(parts, least)
    return Or(tuple(conjunction(list(some)) for some in chosen))


def _condition(reading: Reading, raw: object, at: str, depth: int) -> Filter:
    """A test of a field, or a filter inside the filter."""
    if not isinstance(raw, Mapping):
        raise bad(at, f"expected an object, got {shorten(raw)}")
    if any(name in raw for name in CLAUSES):
        return read_group(reading, raw, at, depth + 1)
    reading.count(at)
    if "key" in raw:
        return _field(reading, raw, at)
    for name in raw:
        _refuse_lacking(str(name), _LACKING_CONDITIONS, at)
        if name in ("is_empty", "is_null"):
            known(raw, at, [str(name)])
            ((key, place),) = members(raw[name], below(at, str(name)), "key")
            return _absent(reading, str(name), _name(reading, key, place))
        if name in reading.fields or str(name).startswith("$"):
            raise bad(
                below(at, str(name)),
                "a field-first condition cannot stand inside one of Qdrant's; "
                f'here it is {{"key": {shorten(name)}, "match": …}}',
            )
    names = ("key", "is_empty", "is_null", *CLAUSES)
    known(raw, at, names)
    raise bad(at, f"expected a condition with one of {', '.join(names)}")


def _field(reading: Reading, raw: Mapping[object, object], at: str) -> Filter:
    """One test of one field."""
    name = _name(reading, raw["key"], below(at, "key"))
    asked = {str(each): value for each, value in raw.items() if value is not None}
    del asked["key"]
    for each in asked:
        _refuse_lacking(each, _LACKING_TESTS, at)
    known(asked, at, _TESTS)
    if len(asked) != 1:
        raise bad(
            at, f"expected one of {', '.join(_TESTS)} beside key, got {len(asked)}"
        )
    ((test, value),) = asked.items()
    return _tested(reading, name, test, (value, below(at, test)))


def _tested(reading: Reading, name: str, test: str, asked: Entry) -> Filter:
    raw, at = asked
    kind = reading.fields[name]
    is_place = kind is FieldType.GEO
    if (
        (test == "match" and is_place)
        or (test == "range" and kind not in _ORDERED)
        or (test.startswith("geo_") and not is_place)
    ):
        raise bad(at, f"{test} does not apply to a {kind.value} field")
    match test:
        case "match":
            return _match(reading, name, raw, at)
        case "range":
            return _range(reading, name, raw, at)
        case "geo_radius":
            center, radius = members(raw, at, "center", "radius")
            lat, lon = members(*center, "lat", "lon")
            return Within(name, circle(lat, lon, radius))
        case "geo_bounding_box":
            top_left, bottom_right = members(raw, at, "top_left", "bottom_right")
            north, west = members(*top_left, "lat", "lon")
            south, east = members(*bottom_right, "lat", "lon")
            return Within(name, box(south, west, north, east))
    absent = _absent(reading, test, name)
    return absent if boolean(raw, at) else Not(absent)


def _match(reading: Reading, name: str, raw: object, at: str) -> Filter:
    if isinstance(raw, Mapping):
        for each in raw:
            _refuse_lacking(str(each), _LACKING_MATCHES, at)
        known(raw, at, _MATCHES)
    if not isinstance(raw, Mapping) or len(raw) != 1:
        raise bad(at, f"expected an object with one of {', '.join(_MATCHES)}")
    ((how, value),) = raw.items()
    place = below(at, str(how))
    match how:
        case "value":
            one = reading.value(name, value, place)
            return Compare(name, reading.fields[name], Comparison.EQ, one)
        case "any":
            return reading.any_of(name, value, place, nulls=False)
    if reading.fields[name] is FieldType.STRINGS:
        raise bad(
            place,
            "except does not apply to a string[] field; must_not with match any "
            "selects what has none of the entries",
        )
    listed = reading.any_of(name, value, place, nulls=False)
    return And((Exists(name), Not(listed)))


def _range(reading: Reading, name: str, raw: object, at: str) -> Filter:
    if not isinstance(raw, Mapping):
        raise bad(at, f"expected an object of {', '.join(_RANGE)}; got {shorten(raw)}")
    known(raw, at, _RANGE)
    bounds = {str(each): value for each, value in raw.items() if value is not None}
    if not bounds:
        raise bad(at, f"expected at least one of {', '.join(_RANGE)}")
    reading.count(at, len(bounds) - 1)
    kind = reading.fields[name]
    return conjunction(
        [
            Compare(name, kind, _RANGE[each], reading.value(name, value, place))
            for each, value in bounds.items()
            for place in [below(at, each)]
        ]
    )


def _absent(reading: Reading, test: str, name: str) -> Filter:
    """The field is null or not there; ``is_empty`` also asks for empty lists."""
    absent = Not(Exists(name))
    if test == "is_null" or reading.fields[name] is not FieldType.STRINGS:
        return absent
    return Or((absent, Empty(name)))


def _name(reading: Reading, key: object, at: str) -> str:
    if not isinstance(key, str):
        raise bad(at, f"expected the name of a field, got {shorten(key)}")
    reading.kind(key, at)
    return key


def _refuse_lacking(name: str, lacking: Mapping[str, str], at: str) -> None:
    if name in lacking:
        raise bad(below(at, name), f"{name} is not supported: {lacking[name]}")
