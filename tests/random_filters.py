"""Random filters and metadata, hostile on purpose, drawn from one small pool.

``random_filter`` makes JSON as a caller would send it, in both spellings and with
nesting, always within the budgets.
"""

from __future__ import annotations

from random import Random
from typing import Any

from lookalike.collections import (
    FieldType,
    GeoPoint,
    Metadata,
    MetadataValue,
    check_metadata,
)
from lookalike.filters import Filter, parse

FIELDS = {
    "text": FieldType.STRING,
    "number": FieldType.INT,
    "ratio": FieldType.FLOAT,
    "flag": FieldType.BOOL,
    "moment": FieldType.DATETIME,
    "tags": FieldType.STRINGS,
    "place": FieldType.GEO,
}

FRAGMENTS = [
    '" or key != "',
    '") or (key != "',
    '" or 1==1 or "',
    '\\" or 1==1 or \\"',
    "x' == 'x",
    '"]) or (key not in ["',
    'f_text != ""',
    '" and p_text == true or key like "%',
    "&&||!",
    "1==1",
    "{x}",
    "$meta",
    '$meta["a"]',
    "; drop collection",
    "*/ --",
    "%s%n${jndi:x}",
]
TEXTS = [
    "",
    "a",
    "A",
    "ab",
    "b",
    " ",
    '"',
    "'",
    "\\",
    '\\"',
    "\\n",
    "\n",
    "\r\n",
    "\t",
    "\b\f\v\x01\x7f",
    "\x85\u2028\u2029",
    "%",
    "_%",
    "a%b",
    "a_b",
    "a\\%",
    "true",
    "null",
    "0",
    "é",
    "e\u0301",
    "\u0301",
    "日本語",
    "😀",
    "👩\u200d👩\u200d👧",
    "\u202e",
    "\u202eabc",
    "שלום",
    "السلام",
    "\ufeff",
    "\ud7ff",
    "\ue000",
    "\uffff",
    "\U0010ffff",
    "\U0010ffffz",
    "a\U0010ffff",
    "a\U0010ffffz",
    "\\u0041",
    *FRAGMENTS,
    "é" * 512,
    "x" * 1024,
    "😀" * 256,
    "x" * 1023 + '"',
]
NUMBERS = [0, 1, -1, 7, 2**31, 2**53, 2**53 + 1, 2**63 - 1, -(2**63) + 1, -(2**63)]
RATIOS = [
    0.0,
    -0.0,
    1.0,
    -1.5,
    0.1,
    1e300,
    -1e300,
    5e-324,
    1e16,
    123456789.125,
    -9.223372036854775808e18,
]
MOMENTS = [
    "0001-01-01T00:00:00.000000Z",
    "1969-12-31T23:59:59.999999Z",
    "1970-01-01T00:00:00.000000Z",
    "2026-01-31T12:00:00.000000Z",
    "2026-01-31T12:00:00.000001Z",
    "9999-12-31T23:59:59.999999Z",
]
SAID_OTHERWISE = [  # the same moments, and a day
    "1970-01-01",
    "1970-01-01T00:00:00",
    "1970-01-01T05:30:00+05:30",
    "1969-12-31T14:29:59.999999-09:30",
    "2026-01-31T13:00:00.000001+01:00",
]
PLACES: list[GeoPoint] = [
    {"lat": lat, "lon": lon}
    for lat, lon in (
        (0.0, 0.0),
        (52.52, 13.405),
        (52.5201, 13.4049),
        (52.555, 13.47),  # beyond 5 km from Berlin, within the box around the circle
        (59.5, 25.0),  # the same of 900 km
        (48.8566, 2.3522),
        (-33.86, 151.21),
        (-17.7, 178.1),
        (-17.7, -179.9),
        (0.0, 180.0),
        (0.0, -180.0),
        (90.0, 25.0),
        (-90.0, -60.0),
        (89.9, 180.0),
        (-89.9, 0.0),
    )
]
RADII = [0.0, 1.0, 20.0, 5_000.0, 900_000.0, 1_234_567, 9e6, 1.5e7, 1.99e7, 1e8]
POOLS: dict[FieldType, list[Any]] = {
    FieldType.STRING: list(TEXTS),
    FieldType.INT: list(NUMBERS),
    FieldType.FLOAT: list(RATIOS),
    FieldType.BOOL: [True, False],
    FieldType.DATETIME: list(MOMENTS),
    FieldType.STRINGS: list(TEXTS),  # its entries
    FieldType.GEO: list(PLACES),
}
SPOKEN = {  # how callers may write them
    **POOLS,
    FieldType.INT: [*NUMBERS, 7.0, -1.0],
    FieldType.FLOAT: [*RATIOS, 0, 1, 2**53],
    FieldType.DATETIME: [*MOMENTS, *SAID_OTHERWISE],
}
ORDERED = ["$gt", "$gte", "$lt", "$lte"]


def random_metadata(random: Random) -> Metadata:
    """Metadata in which each field is absent or null one time in four."""
    made: dict[str, MetadataValue | None] = {}
    for name, kind in FIELDS.items():
        if random.random() < 0.25:
            if random.random() < 0.5:
                made[name] = None
        elif kind is FieldType.STRINGS:
            made[name] = random.sample(TEXTS, random.choice([0, 1, 2, 5]))
        else:
            made[name] = random.choice(POOLS[kind])
    return check_metadata(FIELDS, made)


def random_condition(random: Random, depth: int = 4) -> Filter:
    """The tree of a random filter."""
    parsed = parse(random_filter(random, depth), FIELDS)
    assert parsed is not None
    return parsed


def random_filter(random: Random, depth: int = 4) -> dict[str, Any]:
    """A nested filter as JSON, never empty."""
    if random.random() < 0.3:
        return _qdrant(random, depth)
    if depth <= 0 or random.random() < 0.3:
        return _fields(random)
    match random.randrange(4):
        case 0:
            return {"$not": random_filter(random, depth - 1)}
        case 1:
            return {"$and": _parts(random, depth)}
        case 2:
            return {"$or": _parts(random, depth)}
    return {"$or": _parts(random, depth - 1), **_fields(random)}


def _parts(random: Random, depth: int) -> list[dict[str, Any]]:
    count = random.choice([0, 1, 2, 2, 3, 3]) if depth > 0 else 1
    return [random_filter(random, depth - 1) for _ in range(count)]


# --- field-first ---------------------------------------------------------------------


def _fields(random: Random) -> dict[str, Any]:
    names = random.sample(list(FIELDS), random.choice([1, 1, 1, 2]))
    return {name: _asked(random, FIELDS[name]) for name in names}


def _asked(random: Random, kind: FieldType) -> Any:
    if random.random() < 0.05:
        return None
    if kind is FieldType.GEO:
        return dict([_operator(random, kind)])
    match random.randrange(6):
        case 0:
            return random.choice(SPOKEN[kind])
        case 1:
            return _values(random, kind, nulls=True)
    return dict(_operator(random, kind) for _ in range(random.choice([1, 1, 2])))


def _operator(random: Random, kind: FieldType) -> tuple[str, Any]:
    if random.random() < 0.1:
        return "$exists", random.choice([True, False])
    if kind is FieldType.GEO:
        return _area(random)
    special = {FieldType.STRING: ["$prefix"] * 3, FieldType.STRINGS: ["$any", "$all"]}
    symbols = ["$eq", "$ne", "$in", "$nin", *special.get(kind, [])]
    if kind not in (FieldType.BOOL, FieldType.STRINGS):
        symbols += ORDERED
    symbol = random.choice(symbols)
    match symbol:
        case "$in" | "$nin":
            return symbol, _values(random, kind, nulls=True)
        case "$any" | "$all":
            return symbol, _values(random, kind, nulls=False)
        case "$prefix":
            text = random.choice(TEXTS)
            return symbol, text[: random.randint(0, min(4, len(text)))]
        case "$eq" | "$ne" if random.random() < 0.1:
            return symbol, None
    return symbol, random.choice(SPOKEN[kind])


def _values(random: Random, kind: FieldType, *, nulls: bool) -> list[Any]:
    values = [random.choice(SPOKEN[kind]) for _ in range(random.choice([0, 1, 2, 4]))]
    return [*values, None] if nulls and random.random() < 0.1 else values


def _area(random: Random) -> tuple[str, Any]:
    if random.random() < 0.5:
        radius = random.choice(RADII)
        return "$within_radius", {**random.choice(PLACES), "radius_m": radius}
    south, north = sorted(one["lat"] for one in random.choices(PLACES, k=2))
    west, east = (random.choice(PLACES)["lon"] for _ in range(2))
    return "$within_box", {"south": south, "north": north, "west": west, "east": east}


# --- as Qdrant spells it -------------------------------------------------------------


def _qdrant(random: Random, depth: int) -> dict[str, Any]:
    if random.random() < 0.1:
        conditions = [_condition(random, 0) for _ in range(random.randint(0, 3))]
        least = random.randint(0, 3)
        return {"min_should": {"conditions": conditions, "min_count": least}}
    clauses = random.sample(["must", "should", "must_not"], random.choice([1, 1, 2]))
    return {
        clause: [
            _condition(random, depth - 1) for _ in range(random.choice([0, 1, 1, 2]))
        ]
        for clause in clauses
    }


def _condition(random: Random, depth: int) -> dict[str, Any]:
    if depth > 0 and random.random() < 0.3:
        return _qdrant(random, depth)
    name = random.choice(list(FIELDS))
    if random.random() < 0.1:
        return {random.choice(["is_empty", "is_null"]): {"key": name}}
    return {"key": name, **dict([_test(random, FIELDS[name])])}


def _test(random: Random, kind: FieldType) -> tuple[str, Any]:
    if random.random() < 0.1:
        return random.choice(["is_empty", "is_null"]), random.choice([True, False])
    if kind is FieldType.GEO:
        symbol, area = _area(random)
        return _as_qdrant(area) if symbol == "$within_box" else _as_radius(area)
    if kind not in (FieldType.BOOL, FieldType.STRINGS) and random.random() < 0.5:
        bounds = random.sample(ORDERED, random.choice([1, 1, 2]))
        return "range", {each[1:]: random.choice(SPOKEN[kind]) for each in bounds}
    how = random.choice(["value", "any", "except"])
    if how == "value":
        return "match", {how: random.choice(SPOKEN[kind])}
    how = "any" if kind is FieldType.STRINGS else how
    return "match", {how: _values(random, kind, nulls=False)}


def _as_qdrant(area: dict[str, float]) -> tuple[str, Any]:
    return "geo_bounding_box", {
        "top_left": {"lat": area["north"], "lon": area["west"]},
        "bottom_right": {"lat": area["south"], "lon": area["east"]},
    }


def _as_radius(area: dict[str, float]) -> tuple[str, Any]:
    center = {"lat": area["lat"], "lon": area["lon"]}
    return "geo_radius", {"center": center, "radius": area["radius_m"]}
