"""Filters as Milvus expressions that mean the same on every engine.

Nothing is ever NULL in the index: an absent field stores a default beside a flag that
says so. Engines disagree on NULL, on ``not`` and on constants, so negation is pushed
down to the leaves, everything stands in parentheses and no constant is compared.
"""

from __future__ import annotations

from collections.abc import Sequence

from lookalike.collections import FieldType, MetadataValue, epoch_microseconds
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

KEY = "key"  # the primary key: 32 hex characters, never empty
EVERYTHING = f'({KEY} != "")'
NOTHING = f'({KEY} == "")'
SMALLEST = -(2**63)  # servers read its digits before its sign, and overflow

_POSITIVE = {
    Comparison.EQ: "==",
    Comparison.GT: ">",
    Comparison.GTE: ">=",
    Comparison.LT: "<",
    Comparison.LTE: "<=",
}
_NEGATIVE = {
    Comparison.EQ: "!=",
    Comparison.GT: "<=",
    Comparison.GTE: "<",
    Comparison.LT: ">=",
    Comparison.LTE: ">",
}
_ESCAPES = str.maketrans(
    {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
)


def value_field(name: str) -> str:
    """The field of the index that holds a declared field's value."""
    return f"f_{name}"


def presence_field(name: str) -> str:
    """The field of the index that says whether a declared field has a value."""
    return f"p_{name}"


def compile_filter(condition: Filter) -> str:
    """The expression that selects exactly the rows that satisfy the filter."""
    return _compile(condition, wanted=True)


def literal(value: MetadataValue) -> str:
    """A value as the engines read it; the only way for text into an expression.

    Text has only the five escapes that every engine knows; the rest is raw UTF-8.
    """
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return f'"{value.translate(_ESCAPES)}"'
        case int():
            return str(value)
        case float():
            digits, _, exponent = repr(value).partition("e")
            digits = digits if "." in digits else f"{digits}.0"
            return f"{digits}e{exponent}" if exponent else digits
    raise TypeError(f"no literal for {type(value).__name__}")


def stored(kind: FieldType, value: MetadataValue) -> MetadataValue:
    """A value of a declared type as the index stores and compares it."""
    if kind is FieldType.DATETIME and isinstance(value, str):
        return epoch_microseconds(value)
    if isinstance(value, float):
        return value + 0.0  # -0.0 becomes 0.0, which Lite would tell apart in a list
    return value


def _compile(condition: Filter, *, wanted: bool) -> str:
    """Rows for which the condition's truth is as wanted."""
    match condition:
        case Not(part):
            return _compile(part, wanted=not wanted)
        case And(parts):
            return _join(parts, wanted, conjunction=wanted)
        case Or(parts):
            return _join(parts, wanted, conjunction=not wanted)
    present = f"({presence_field(condition.field)} == {literal(wanted)})"
    if isinstance(condition, Exists):
        return present
    test = _leaf(condition, wanted)
    if test in (EVERYTHING, NOTHING):
        return _with_constant(present, test, wanted)
    return f"({present} and {test})" if wanted else f"({present} or {test})"


def _join(parts: Sequence[Filter], wanted: bool, *, conjunction: bool) -> str:
    if not parts:
        return EVERYTHING if conjunction else NOTHING
    word = " and " if conjunction else " or "
    return f"({word.join(_compile(part, wanted=wanted) for part in parts)})"


def _with_constant(present: str, test: str, wanted: bool) -> str:
    if wanted:  # present and test
        return present if test == EVERYTHING else NOTHING
    return EVERYTHING if test == EVERYTHING else present  # absent or test


def _leaf(leaf: Compare | AnyOf | AllOf, wanted: bool) -> str:
    """The test of a value that is there."""
    field = value_field(leaf.field)
    match leaf:
        case AllOf(values=values):
            return _contains("all", field, values, wanted)
        case AnyOf(kind=FieldType.STRINGS, values=values):
            return _contains("any", field, values, wanted)
        case AnyOf(kind=kind, values=values):
            return _one_of(field, [stored(kind, value) for value in values], wanted)
        case Compare(kind=FieldType.STRINGS, value=value):
            return _contains("any", field, (value,), wanted)
        case Compare(kind=kind, comparison=comparison, value=value):
            return _compare(field, comparison, stored(kind, value), wanted)


def _contains(
    mode: str, field: str, values: Sequence[MetadataValue], wanted: bool
) -> str:
    if not values:
        return EVERYTHING if (mode == "all") is wanted else NOTHING
    entries = ", ".join(literal(value) for value in values)
    test = f"(array_contains_{mode}({field}, [{entries}]))"
    return test if wanted else f"(not {test})"


def _one_of(field: str, values: Sequence[MetadataValue], wanted: bool) -> str:
    if not values:
        return NOTHING if wanted else EVERYTHING
    listed = [v for v in values if not (isinstance(v, bool) or v == SMALLEST)]
    single = [v for v in values if isinstance(v, bool) or v == SMALLEST]
    tests = [_compare(field, Comparison.EQ, value, wanted) for value in single]
    if listed:
        word = "in" if wanted else "not in"
        entries = ", ".join(literal(value) for value in listed)
        tests.append(f"({field} {word} [{entries}])")
    return f"({(' or ' if wanted else ' and ').join(tests)})"


def _compare(
    field: str, comparison: Comparison, value: MetadataValue, wanted: bool
) -> str:
    if isinstance(value, int) and value == SMALLEST:
        return _compare_smallest(field, comparison, wanted)
    symbol = (_POSITIVE if wanted else _NEGATIVE)[comparison]
    return f"({field} {symbol} {literal(value)})"


def _compare_smallest(field: str, comparison: Comparison, wanted: bool) -> str:
    """A comparison with -2**63, which no engine but Lite can read."""
    equal = comparison in (Comparison.EQ, Comparison.LTE)
    if equal or comparison is Comparison.GT:
        symbol = "<" if equal is wanted else ">="
        return f"({field} {symbol} {SMALLEST + 1})"
    always = comparison is Comparison.GTE
    return EVERYTHING if always is wanted else NOTHING
