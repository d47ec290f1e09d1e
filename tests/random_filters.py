"""Random filters and metadata, hostile on purpose, drawn from one small pool."""

from __future__ import annotations

from random import Random

from lookalike.collections import FieldType, Metadata, MetadataValue
from lookalike.filters import (
    AllOf,
    And,
    AnyOf,
    Compare,
    Comparison,
    Exists,
    Filter,
    Not,
    Or,
)

FIELDS = {
    "text": FieldType.STRING,
    "number": FieldType.INT,
    "ratio": FieldType.FLOAT,
    "flag": FieldType.BOOL,
    "moment": FieldType.DATETIME,
    "tags": FieldType.STRINGS,
}

TEXTS = [
    "",
    "a",
    "A",
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
    "%",
    "_%",
    "a%b",
    "{x}",
    "$meta",
    "true",
    "null",
    "0",
    "é",
    "e\u0301",
    "日本語",
    "😀",
    "\u202e",
    "\ufeff",
    '" or key != "',
    '") or (key != "',
    "x' == 'x",
    "\\u0041",
    "&&||!",
    "é" * 512,
    "x" * 1024,
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
    "2026-01-31T12:00:00.000001Z",
    "9999-12-31T23:59:59.999999Z",
]
POOLS: dict[FieldType, list[MetadataValue]] = {
    FieldType.STRING: list(TEXTS),
    FieldType.INT: list(NUMBERS),
    FieldType.FLOAT: list(RATIOS),
    FieldType.BOOL: [True, False],
    FieldType.DATETIME: list(MOMENTS),
    FieldType.STRINGS: list(TEXTS),  # its entries
}
ORDERED = [Comparison.GT, Comparison.GTE, Comparison.LT, Comparison.LTE]


def random_metadata(random: Random) -> Metadata:
    """Metadata in which each field is absent one time in four."""
    made: Metadata = {}
    for name, kind in FIELDS.items():
        if random.random() < 0.25:
            continue
        if kind is FieldType.STRINGS:
            made[name] = random.sample(TEXTS, random.choice([0, 1, 2, 5]))
        else:
            made[name] = random.choice(POOLS[kind])
    return made


def random_condition(random: Random, depth: int = 4) -> Filter:
    """A nested filter such as ``parse`` could have made."""
    if depth == 0 or random.random() < 0.3:
        return _random_leaf(random)
    match random.randrange(3):
        case 0:
            return Not(random_condition(random, depth - 1))
        case 1:
            return And(_random_parts(random, depth))
    return Or(_random_parts(random, depth))


def _random_parts(random: Random, depth: int) -> tuple[Filter, ...]:
    count = random.choice([0, 1, 2, 2, 3, 3])
    return tuple(random_condition(random, depth - 1) for _ in range(count))


def _random_leaf(random: Random) -> Filter:
    name = random.choice(list(FIELDS))
    kind = FIELDS[name]
    pool = POOLS[kind]
    values = tuple(random.choice(pool) for _ in range(random.choice([0, 1, 2, 4])))
    match random.randrange(4):
        case 0:
            return Exists(name)
        case 1:
            return AnyOf(name, kind, values)
        case 2 if kind is FieldType.STRINGS:
            return AllOf(name, tuple(str(value) for value in values))
        case 2 if kind is not FieldType.BOOL:
            return Compare(name, kind, random.choice(ORDERED), random.choice(pool))
    return Compare(name, kind, Comparison.EQ, random.choice(pool))
