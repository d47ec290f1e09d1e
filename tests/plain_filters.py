"""What a filter in JSON means, said a second time, without a tree.

Written from the documentation and as plainly as possible, so that a mistake in the
parsers or in ``filters.matches`` is not made twice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

from lookalike.collections import FieldType

Row = Mapping[str, Any]
CLAUSES = {"must", "should", "must_not", "min_should"}


def holds(raw: Mapping[str, Any], row: Row, fields: Mapping[str, FieldType]) -> bool:
    """Whether a row of coerced metadata satisfies a valid filter."""
    if CLAUSES & set(raw):
        return _qdrant(raw, row, fields)
    return all(_entry(name, asked, row, fields) for name, asked in raw.items())


def _entry(name: str, asked: Any, row: Row, fields: Mapping[str, FieldType]) -> bool:
    match name:
        case "$and":
            return all(holds(part, row, fields) for part in asked)
        case "$or":
            return any(holds(part, row, fields) for part in asked)
        case "$not":
            return not holds(asked, row, fields)
    kind, stored = fields[name], row.get(name)
    if isinstance(asked, dict):
        return all(_test(kind, stored, op, value) for op, value in asked.items())
    return _test(kind, stored, "$in" if isinstance(asked, list) else "$eq", asked)


def _test(kind: FieldType, stored: Any, symbol: str, value: Any) -> bool:
    match symbol:
        case "$ne":
            return not _test(kind, stored, "$eq", value)
        case "$nin":
            return not _test(kind, stored, "$in", value)
        case "$in":
            return any(_test(kind, stored, "$eq", one) for one in value)
        case "$exists":
            return (stored is not None) == bool(value)
        case "$eq" if value is None:
            return stored is None
    return stored is not None and _present(kind, stored, symbol, value)


def _present(kind: FieldType, stored: Any, symbol: str, value: Any) -> bool:
    match symbol:
        case "$eq" if kind is FieldType.STRINGS:
            return value in stored
        case "$any":
            return bool(set(value) & set(stored))
        case "$all":
            return set(value) <= set(stored)
        case "$prefix":
            return bool(stored[: len(value)] == value)
        case "$within_radius":
            away = _apart(stored, value)
            return bool(away <= value["radius_m"])
        case "$within_box":
            return _in_box(stored, value)
    if kind is FieldType.DATETIME:
        stored, value = _moment(stored), _moment(value)
    order = (stored > value) - (stored < value)
    return bool(
        {
            "$eq": order == 0,
            "$gt": order > 0,
            "$gte": order >= 0,
            "$lt": order < 0,
            "$lte": order <= 0,
        }[symbol]
    )


def _qdrant(raw: Mapping[str, Any], row: Row, fields: Mapping[str, FieldType]) -> bool:
    def true(conditions: list[Any]) -> int:
        return sum(_condition(one, row, fields) for one in conditions)

    if "must" in raw and true(raw["must"]) < len(raw["must"]):
        return False
    if "should" in raw and true(raw["should"]) == 0:
        return False
    if "must_not" in raw and true(raw["must_not"]) > 0:
        return False
    if "min_should" in raw:
        enough = raw["min_should"]
        return bool(true(enough["conditions"]) >= enough["min_count"])
    return True


def _condition(raw: Any, row: Row, fields: Mapping[str, FieldType]) -> bool:
    if CLAUSES & set(raw):
        return _qdrant(raw, row, fields)
    if "key" not in raw:
        ((how, asked),) = raw.items()
        return _is_missing(how, row.get(asked["key"]))
    kind, stored = fields[raw["key"]], row.get(raw["key"])
    ((how, asked),) = ((each, value) for each, value in raw.items() if each != "key")
    match how:
        case "is_empty" | "is_null":
            return bool(_is_missing(how, stored) == asked)
        case "range":
            return all(_test(kind, stored, f"${op}", asked[op]) for op in asked)
        case "geo_radius":
            area = {**asked["center"], "radius_m": asked["radius"]}
            return _test(kind, stored, "$within_radius", area)
        case "geo_bounding_box":
            north_west, south_east = asked["top_left"], asked["bottom_right"]
            area = {"north": north_west["lat"], "west": north_west["lon"]}
            area |= {"south": south_east["lat"], "east": south_east["lon"]}
            return _test(kind, stored, "$within_box", area)
    ((which, value),) = asked.items()
    if which == "value":
        return _test(kind, stored, "$eq", value)
    found = _test(kind, stored, "$in", value)
    return found if which == "any" else stored is not None and not found


def _is_missing(how: str, stored: Any) -> bool:
    return stored is None or (how == "is_empty" and stored == [])


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _apart(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Metres along the sphere, from the straight line through it."""
    straight = math.dist(_on_unit_sphere(one), _on_unit_sphere(other))
    return 2 * 6_371_008.8 * math.asin(min(1.0, straight / 2))


def _on_unit_sphere(place: Mapping[str, float]) -> tuple[float, float, float]:
    lat, lon = math.radians(place["lat"]), math.radians(place["lon"] % 360)
    parallel = math.cos(lat)
    return parallel * math.cos(lon), parallel * math.sin(lon), math.sin(lat)


def _in_box(place: Mapping[str, float], box: Mapping[str, float]) -> bool:
    """Going east from the western edge, the place comes before the eastern edge."""
    if not box["south"] <= place["lat"] <= box["north"]:
        return False
    if (box["west"], box["east"]) == (-180.0, 180.0):
        return True
    west, east, lon = (Fraction(n) for n in (box["west"], box["east"], place["lon"]))
    return bool((lon - west) % 360 <= (east - west) % 360)
