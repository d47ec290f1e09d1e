"""The tree that every filter is read to, and what it means."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from lookalike.collections import FieldType, MetadataValue
from lookalike.geo import LATITUDE, LONGITUDE, Box, Circle


class Comparison(StrEnum):
    """How a leaf compares a field with one value."""

    EQ = "$eq"
    GT = "$gt"
    GTE = "$gte"
    LT = "$lt"
    LTE = "$lte"


@dataclass(frozen=True)
class Compare:
    """``field OP value``; on a string[] field, ``$eq`` means "contains".

    Text is compared by code point, which orders UTF-8 as its bytes do.
    """

    field: str
    kind: FieldType
    comparison: Comparison
    value: MetadataValue


@dataclass(frozen=True)
class AnyOf:
    """The field equals (string[]: contains) at least one of the values."""

    field: str
    kind: FieldType
    values: tuple[MetadataValue, ...]


@dataclass(frozen=True)
class AllOf:
    """The string[] field contains every one of the values."""

    field: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Empty:
    """The string[] field is there and has no entries."""

    field: str


@dataclass(frozen=True)
class Prefix:
    """The string field begins with the text, code point by code point."""

    field: str
    text: str


@dataclass(frozen=True)
class Within:
    """The place in the geo field lies in the area, its edge included."""

    field: str
    area: Circle | Box


@dataclass(frozen=True)
class Exists:
    """The field has a value (is neither absent nor null)."""

    field: str


@dataclass(frozen=True)
class And:
    """Every part holds; no parts: true."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class Or:
    """At least one part holds; no parts: false."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class Not:
    """The part does not hold. A leaf on an absent field does not hold."""

    part: Filter


Leaf = Compare | AnyOf | AllOf | Empty | Prefix | Within | Exists
Filter = Leaf | And | Or | Not


def matches(condition: Filter, metadata: Mapping[str, object]) -> bool:
    """Whether an image with this (coerced) metadata satisfies the filter.

    This is what a filter means; every index is held to it.
    """
    match condition:
        case And(parts):
            return all(matches(part, metadata) for part in parts)
        case Or(parts):
            return any(matches(part, metadata) for part in parts)
        case Not(part):
            return not matches(part, metadata)
    stored = metadata.get(condition.field)
    return stored is not None and _leaf_matches(condition, stored)


def is_exact(condition: Filter) -> bool:
    """Whether an index can select exactly the images that satisfy the filter.

    If not (a circle is in it), what an index selects holds all of them and possibly
    others: ask ``matches`` of each.
    """
    match condition:
        case And(parts) | Or(parts):
            return all(is_exact(part) for part in parts)
        case Not(part):
            return is_exact(part)
        case Within(area=Circle()):
            return False
    return True


def _leaf_matches(leaf: Leaf, stored: Any) -> bool:
    entries = stored if isinstance(stored, list) else [stored]
    match leaf:
        case Exists():
            return True
        case AnyOf(values=values):
            return any(value in entries for value in values)
        case AllOf(values=values):
            return all(value in entries for value in values)
        case Empty():
            return not entries
        case Prefix(text=text):
            return bool(stored.startswith(text))
        case Within(area=area):
            return area.contains(stored[LATITUDE], stored[LONGITUDE])
        case Compare(comparison=Comparison.EQ, value=value):
            return value in entries
        case Compare(comparison=comparison, value=value):
            return _ORDERS[comparison](stored, value)


_ORDERS: Mapping[Comparison, Callable[[Any, Any], bool]] = {
    Comparison.GT: operator.gt,
    Comparison.GTE: operator.ge,
    Comparison.LT: operator.lt,
    Comparison.LTE: operator.le,
}
