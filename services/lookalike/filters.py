"""The filter language: typed, field-first JSON, parsed to a tree."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from lookalike.collections import (
    Fields,
    FieldType,
    MetadataValue,
    coerce,
    shorten,
    unknown_field,
)
from lookalike.errors import BadFilter, BadMetadata


class Comparison(StrEnum):
    """How a leaf compares a field with one value."""

    EQ = "$eq"
    GT = "$gt"
    GTE = "$gte"
    LT = "$lt"
    LTE = "$lte"


@dataclass(frozen=True)
class Compare:
    """``field OP value``; on a string[] field, ``$eq`` means "contains"."""

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


Filter = Compare | AnyOf | AllOf | Exists | And | Or | Not

MAX_DEPTH = 8
MAX_CONDITIONS = 100
MAX_VALUES = 1_000  # in one list
MAX_ALL_VALUES = 10_000  # in all lists; with 1 KiB each it still fits one message

LOGICAL = ("$and", "$or", "$not")
_EQUALITY = ("$eq", "$ne", "$in", "$nin", "$exists")
_ORDER = ("$gt", "$gte", "$lt", "$lte")
OPERATORS: Mapping[FieldType, tuple[str, ...]] = {
    FieldType.STRING: (*_EQUALITY, *_ORDER),
    FieldType.INT: (*_EQUALITY, *_ORDER),
    FieldType.FLOAT: (*_EQUALITY, *_ORDER),
    FieldType.DATETIME: (*_EQUALITY, *_ORDER),
    FieldType.BOOL: _EQUALITY,
    FieldType.STRINGS: (*_EQUALITY, "$any", "$all"),
}
EVERY_OPERATOR = (*_EQUALITY, *_ORDER, "$any", "$all")


def parse(raw: object, fields: Fields) -> Filter | None:
    """The tree of a filter in JSON, every value coerced to its declared type.

    Gives None for ``{}`` and null: everything matches.

    Raises:
        BadFilter: ``filter_invalid``, ``filter_unknown_field`` (the nearest is named),
            ``filter_wrong_type`` or ``filter_too_large``; ``extra["at"]`` says where,
            such as ``$or[1].price.$lt``.
    """
    if raw is None or raw == {}:
        return None
    return _Parser(fields).group(raw, "", depth=1)


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


def _leaf_matches(leaf: Compare | AnyOf | AllOf | Exists, stored: object) -> bool:
    entries = stored if isinstance(stored, list) else [stored]
    match leaf:
        case Exists():
            return True
        case AnyOf(values=values):
            return any(value in entries for value in values)
        case AllOf(values=values):
            return all(value in entries for value in values)
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


class _Parser:
    """Reads one filter; counts what it has read against the budgets."""

    def __init__(self, fields: Fields) -> None:
        self.fields = fields
        self.conditions = 0
        self.values = 0

    def group(self, raw: object, at: str, depth: int) -> Filter:
        """An object: every entry holds."""
        if depth > MAX_DEPTH:
            raise _bad(at, f"nested deeper than {MAX_DEPTH}", "filter_too_large")
        if not isinstance(raw, Mapping):
            raise _bad(at, f"expected an object of conditions, got {shorten(raw)}")
        parts = [
            self.entry(str(name), value, _below(at, str(name)), depth)
            for name, value in raw.items()
        ]
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def entry(self, name: str, value: object, at: str, depth: int) -> Filter:
        """One entry of an object: a logical operator, or a field and its condition."""
        match name:
            case "$not":
                return Not(self.group(value, at, depth + 1))
            case "$and":
                return And(self.groups(value, at, depth))
            case "$or":
                return Or(self.groups(value, at, depth))
        if name.startswith("$"):
            raise _bad(
                at,
                f"unknown operator {shorten(name)}; accepted here: "
                f"{', '.join(LOGICAL)} or a field name",
            )
        if name not in self.fields:
            detail, extra = unknown_field(name, self.fields)
            raise _bad(at, detail, "filter_unknown_field", extra)
        return self.field(name, value, at)

    def groups(self, raw: object, at: str, depth: int) -> tuple[Filter, ...]:
        """The list of objects below ``$and`` and ``$or``."""
        if not isinstance(raw, list):
            raise _bad(at, f"expected a list of objects, got {shorten(raw)}")
        if len(raw) > MAX_CONDITIONS:
            raise _bad(at, f"more than {MAX_CONDITIONS} entries", "filter_too_large")
        return tuple(
            self.group(part, f"{at}[{place}]", depth + 1)
            for place, part in enumerate(raw)
        )

    def field(self, name: str, raw: object, at: str) -> Filter:
        """What is asked of one field: a bare value, a bare list, or operators."""
        if not isinstance(raw, Mapping):
            bare = "$in" if isinstance(raw, list) else "$eq"
            return self.leaf(name, bare, raw, at)
        if not raw:
            raise _bad(at, "expected an operator, got {}")
        parts = [
            self.leaf(name, str(symbol), value, _below(at, str(symbol)))
            for symbol, value in raw.items()
        ]
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def leaf(self, name: str, symbol: str, raw: object, at: str) -> Filter:
        """One operator on one field."""
        self.conditions += 1
        if self.conditions > MAX_CONDITIONS:
            raise _bad(at, f"more than {MAX_CONDITIONS} conditions", "filter_too_large")
        kind = self.fields[name]
        if symbol not in OPERATORS[kind]:
            known = symbol in EVERY_OPERATOR
            problem = f"{symbol} does not apply" if known else "unknown operator"
            raise _bad(
                at,
                f"{problem if known else f'{problem} {shorten(symbol)}'}; accepted on "
                f"a {kind.value} field: {', '.join(OPERATORS[kind])}",
            )
        match symbol:
            case "$eq":
                return self.equal(name, kind, raw, at)
            case "$ne":
                return Not(self.equal(name, kind, raw, at))
            case "$in" | "$any":
                return self.any_of(name, kind, raw, at, nulls=symbol == "$in")
            case "$nin":
                return Not(self.any_of(name, kind, raw, at, nulls=True))
            case "$all":
                values = [
                    self.value(name, kind, *entry) for entry in self.entries(raw, at)
                ]
                return AllOf(name, tuple(str(value) for value in values))
            case "$exists":
                if not isinstance(raw, bool):
                    problem = f"expected true or false, got {shorten(raw)}"
                    raise _bad(at, problem, "filter_wrong_type")
                return Exists(name) if raw else Not(Exists(name))
        value = self.value(name, kind, raw, at)
        return Compare(name, kind, Comparison(symbol), value)

    def equal(self, name: str, kind: FieldType, raw: object, at: str) -> Filter:
        """``$eq``; null means that the field is absent."""
        if raw is None:
            return Not(Exists(name))
        return Compare(name, kind, Comparison.EQ, self.value(name, kind, raw, at))

    def any_of(
        self, name: str, kind: FieldType, raw: object, at: str, *, nulls: bool
    ) -> Filter:
        """``$in`` and ``$any``; a null in the list means that the field is absent."""
        entries = self.entries(raw, at)
        present = [entry for entry in entries if not (nulls and entry[0] is None)]
        leaf = AnyOf(
            name, kind, tuple(self.value(name, kind, *entry) for entry in present)
        )
        return leaf if len(present) == len(entries) else Or((Not(Exists(name)), leaf))

    def entries(self, raw: object, at: str) -> list[tuple[object, str]]:
        """The entries of a list, each with its place."""
        if not isinstance(raw, list):
            raise _bad(at, f"expected a list, got {shorten(raw)}", "filter_wrong_type")
        self.values += len(raw)
        if len(raw) > MAX_VALUES:
            raise _bad(at, f"more than {MAX_VALUES} values", "filter_too_large")
        if self.values > MAX_ALL_VALUES:
            problem = f"more than {MAX_ALL_VALUES} values in all lists"
            raise _bad(at, problem, "filter_too_large")
        return [(value, f"{at}[{place}]") for place, value in enumerate(raw)]

    def value(self, name: str, kind: FieldType, raw: object, at: str) -> MetadataValue:
        """One value of the declared type; of a string[], one entry."""
        one = FieldType.STRING if kind is FieldType.STRINGS else kind
        try:
            return coerce(name, one, raw)
        except BadMetadata as error:
            raise _bad(at, error.detail, "filter_wrong_type", error.extra) from None


def _below(at: str, name: str) -> str:
    name = name if len(name) <= 80 else name[:77] + "..."
    return f"{at}.{name}" if at else name


def _bad(
    at: str,
    problem: str,
    code: str = "filter_invalid",
    extra: Mapping[str, object] | None = None,
) -> BadFilter:
    where = f"Filter, at {at}: " if at else "Filter: "
    end = "" if problem.endswith(".") else "."
    return BadFilter(
        f"{where}{problem}{end}", code=code, extra={**(extra or {}), "at": at}
    )
