"""Filters as an attacker would send them: any JSON, valid or not."""

from __future__ import annotations

from random import Random
from typing import Any

from random_filters import FIELDS, FRAGMENTS, TEXTS, random_filter

# What expressions, engines and languages could take for something of their own.
NAMES = [
    "key",
    "gen",
    "vector",
    "f_text",
    "p_text",
    "lat_place",
    "RowID",
    "Timestamp",
    "$meta",
    "__proto__",
    "text ",
    "text\n",
    "text.x",
    "text[0]",
    "text\u0000",
    "t\u0435xt",
    "",
    *FRAGMENTS,
]
OPERATORS = [
    "$where",
    "$expr",
    "$function",
    "$regex",
    "$like",
    "$eq ",
    "==",
    '$eq" or 1==1 or "',
    "$gt$lt",
    "like",
]
VALUES: list[Any] = [
    None,
    True,
    -1,
    2**64,
    10**400,
    1e308,
    float("nan"),
    float("inf"),
    "a\u0000b",
    "\ud800",
    "x" * 5_000,
    [],
    {},
    [[]],
    [None],
    [{}],
    {"$ne": None},
    {"lat": 91, "lon": 0},
    {"$eq": {"$ne": 1}},
    *TEXTS,
]


def hostile_filter(random: Random) -> object:
    """One filter; about half of them can be evaluated, and must mean what they say."""
    match random.randrange(8):
        case 0:
            return random.choice([*FRAGMENTS, *VALUES])
        case 1:
            return {random.choice(NAMES): random.choice(VALUES)}
        case 2:
            asked = {random.choice(OPERATORS): random.choice(VALUES)}
            return {random.choice(list(FIELDS)): asked}
        case 3:
            return _deep(random)
        case 4:
            return _wide(random)
    return _spoilt(random, random_filter(random))


def _deep(random: Random) -> object:
    inner: object = {"text": random.choice(FRAGMENTS)}
    for _ in range(random.choice([3, 7, 8, 50, 2_000])):
        inner = random.choice(
            [{"$not": inner}, {"$or": [inner]}, {"must_not": [inner]}]
        )
    return inner


def _wide(random: Random) -> object:
    values = [random.choice(TEXTS) for _ in range(random.choice([99, 1_000, 1_001]))]
    if random.random() < 0.5:
        return {"text": {random.choice(["$in", "$nin"]): values}}
    return {"$or": [{"text": {"$ne": value}} for value in values[:120]]}


def _spoilt(random: Random, raw: Any) -> Any:
    """The filter with a hostile value, name or part in a few of its places."""
    if random.random() < 0.01:
        return random.choice(VALUES)
    if isinstance(raw, dict):
        return {
            random.choice(NAMES) if random.random() < 0.01 else name: _spoilt(
                random, value
            )
            for name, value in raw.items()
        }
    if isinstance(raw, list):
        return [_spoilt(random, part) for part in raw]
    if isinstance(raw, str) and random.random() < 0.3:
        return random.choice(FRAGMENTS)
    return raw
