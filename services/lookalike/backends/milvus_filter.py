"""Filters as Milvus expressions that mean the same on every engine.

Nothing is ever NULL in the index: an absent field stores a default beside a flag that
says so. Engines disagree on NULL, on ``not`` and on constants, so negation is pushed
down to the leaves, everything stands in parentheses and no constant is compared.
Nor is ``like`` used, whose wildcards and escapes differ: what begins with a text lies
between two texts. A circle becomes a box around it (under a negation, one within it),
so that the rows selected hold all that are wanted.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import NamedTuple

from lookalike.collections import FieldType, MetadataValue, epoch_microseconds
from lookalike.filters import (
    AllOf,
    And,
    AnyOf,
    Compare,
    Comparison,
    Empty,
    Exists,
    Filter,
    Leaf,
    Not,
    Or,
    Prefix,
    Within,
)
from lookalike.geo import Box, Circle, Span

KEY = "key"  # the primary key: 32 hex characters, never empty
EVERYTHING = f'({KEY} != "")'
NOTHING = f'({KEY} == "")'
LAST_CODE_POINT = 0x10FFFF
SURROGATES = range(0xD800, 0xE000)  # no text holds these
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


def latitude_field(name: str) -> str:
    """The field of the index that holds a geo field's latitude in degrees."""
    return f"lat_{name}"


def longitude_field(name: str) -> str:
    """The field of the index that holds its longitude, the antimeridian as -180."""
    return f"lon_{name}"


def presence_field(name: str) -> str:
    """The field of the index that says whether a declared field has a value."""
    return f"p_{name}"


def compile_filter(condition: Filter) -> str:
    """The expression that selects the rows that satisfy the filter.

    It selects others too only where ``filters.is_exact`` says so.
    """
    return _compile(condition, wanted=True).text


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


class _Expression(NamedTuple):
    """An expression in parentheses, ordered by how deep its joins are nested."""

    depth: int
    order: int  # among those that are joined
    text: str


def _compile(condition: Filter, *, wanted: bool) -> _Expression:
    """Rows for which the condition's truth is as wanted."""
    match condition:
        case Not(part):
            return _compile(part, wanted=not wanted)
        case And(parts):
            return _join(parts, wanted, conjunction=wanted)
        case Or(parts):
            return _join(parts, wanted, conjunction=not wanted)
    return _Expression(0, 0, _compile_leaf(condition, wanted))


def _join(parts: Sequence[Filter], wanted: bool, *, conjunction: bool) -> _Expression:
    """The parts, two by two, the shallowest first.

    A server reads ``a or b or c`` as one inside the other, and nothing that is nested
    more than 100 messages deep, two for each (protobuf's limit): 50 conditions in a
    row would fail.
    """
    word = "and" if conjunction else "or"
    joined = [
        _compile(part, wanted=wanted)._replace(order=order)
        for order, part in enumerate(parts)
    ]
    heapq.heapify(joined)
    while len(joined) > 1:
        left, right = heapq.heappop(joined), heapq.heappop(joined)
        order = right.order + len(parts)
        text = f"({left.text} {word} {right.text})"
        heapq.heappush(joined, _Expression(right.depth + 1, order, text))
    if joined:
        return joined[0]
    return _Expression(0, 0, EVERYTHING if conjunction else NOTHING)


def _compile_leaf(condition: Leaf, wanted: bool) -> str:
    present = f"({presence_field(condition.field)} == {literal(wanted)})"
    if isinstance(condition, Exists):
        return present
    test = _leaf(condition, wanted)
    if test in (EVERYTHING, NOTHING):
        return _with_constant(present, test, wanted)
    return f"({present} and {test})" if wanted else f"({present} or {test})"


def _with_constant(present: str, test: str, wanted: bool) -> str:
    if wanted:  # present and test
        return present if test == EVERYTHING else NOTHING
    return EVERYTHING if test == EVERYTHING else present  # absent or test


def _leaf(leaf: Leaf, wanted: bool) -> str:
    """The test of a value that is there."""
    field = value_field(leaf.field)
    match leaf:
        case Exists():
            return EVERYTHING if wanted else NOTHING
        case Empty():
            return f"(array_length({field}) {'==' if wanted else '!='} 0)"
        case Prefix(text=text):
            return _begins(field, text, wanted)
        case Within(area=area):
            return _within(leaf.field, area, wanted)
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


def _begins(field: str, text: str, wanted: bool) -> str:
    """What begins with a text, in the order of code points, as engines compare."""
    if not text:
        return EVERYTHING if wanted else NOTHING
    end = _after_all(text)
    since = _compare(field, Comparison.GTE, text, wanted)
    if end is None:
        return since
    until = _compare(field, Comparison.LT, end, wanted)
    return f"({since} {'and' if wanted else 'or'} {until})"


def _after_all(text: str) -> str | None:
    """The least text after all that begin with this one, if there is any."""
    kept = text.rstrip(chr(LAST_CODE_POINT))
    if not kept:
        return None
    code = ord(kept[-1]) + 1
    return kept[:-1] + chr(SURROGATES.stop if code in SURROGATES else code)


def _within(name: str, area: Box | Circle, wanted: bool) -> str:
    if isinstance(area, Circle):
        area = area.outer() if wanted else area.inner()
    latitude = _between(latitude_field(name), (area.south, area.north), wanted)
    if not area.spans:
        return NOTHING if wanted else EVERYTHING
    spans = [_between(longitude_field(name), span, wanted) for span in area.spans]
    if wanted:
        return f"({latitude} and ({' or '.join(spans)}))"
    return f"({latitude} or ({' and '.join(spans)}))"


def _between(field: str, span: Span, wanted: bool) -> str:
    low = _compare(field, Comparison.GTE, span[0], wanted)
    high = _compare(field, Comparison.LTE, span[1], wanted)
    return f"({low} {'and' if wanted else 'or'} {high})"


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
    single = {v for v in values if isinstance(v, bool) or v == SMALLEST}
    tests = [_compare(field, Comparison.EQ, value, wanted) for value in sorted(single)]
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
