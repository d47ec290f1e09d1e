from __future__ import annotations

from typing import Any

import pytest

from lookalike.collections import FieldType
from lookalike.errors import BadFilter
from lookalike.filters import Filter, matches, parse
from random_filters import FIELDS

HOUSES: list[dict[str, Any]] = [
    {"text": "small", "number": 1, "tags": ["red", "old"], "flag": True},
    {"text": "tall", "number": 2, "tags": [], "ratio": 0.5},
    {"text": "smart", "moment": "2026-01-31T12:00:00.000000Z", "tags": ["old"]},
    {"number": 4, "place": {"lat": 52.52, "lon": 13.405}},
]


def parsed(raw: object) -> Filter:
    tree = parse(raw, FIELDS)
    assert tree is not None
    return tree


def refused(raw: object) -> BadFilter:
    with pytest.raises(BadFilter) as caught:
        parse(raw, FIELDS)
    return caught.value


def asks(name: str, **asked: object) -> dict[str, object]:
    return {"key": name, **asked}


def value(name: str, wanted: object) -> dict[str, object]:
    return {"key": name, "match": {"value": wanted}}


SMALL, TALL, SMART = (value("text", word) for word in ("small", "tall", "smart"))
OLD = value("tags", "old")
BERLIN = {"lat": 52.5, "lon": 13.4}
EUROPE = {"top_left": {"lat": 70, "lon": -10}, "bottom_right": {"lat": 35, "lon": 40}}


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        ({"must": [SMALL]}, [0]),
        ({"must": SMALL}, [0]),
        ({"must": []}, [0, 1, 2, 3]),
        ({"should": [SMALL, TALL]}, [0, 1]),
        ({"should": []}, []),
        ({"must_not": [SMALL, TALL]}, [2, 3]),
        ({"must_not": []}, [0, 1, 2, 3]),
        ({"must": [OLD], "should": [SMALL, TALL]}, [0]),
        ({"must": [OLD], "must_not": [SMALL], "should": None}, [2]),
        ({"must": None}, [0, 1, 2, 3]),
        ({"must": [{"should": [SMALL, SMART]}, {"must_not": [SMALL]}]}, [2]),
        ({"must": [asks("text", match={"any": ["small", "x"]})]}, [0]),
        ({"must": [asks("text", match={"except": ["small", "x"]})]}, [1, 2]),
        ({"must": [asks("tags", match={"any": ["red", "x"]})]}, [0]),
        ({"must": [value("flag", True)]}, [0]),
        ({"must": [asks("number", range={"gte": 2, "lt": 4})]}, [1]),
        ({"must": [asks("number", range={"gt": 2, "lt": None})]}, [3]),
        ({"must": [asks("ratio", range={"lte": 0.5})]}, [1]),
        ({"must": [asks("moment", range={"gt": "2026-01-31T12:59:59+01:00"})]}, [2]),
        ({"must": [{"is_null": {"key": "number"}}]}, [2]),
        ({"must": [{"is_empty": {"key": "number"}}]}, [2]),
        ({"must": [{"is_null": {"key": "tags"}}]}, [3]),
        ({"must": [{"is_empty": {"key": "tags"}}]}, [1, 3]),
        ({"must_not": [{"is_empty": {"key": "tags"}}]}, [0, 2]),
        ({"must": [asks("tags", is_empty=True)]}, [1, 3]),
        ({"must": [asks("tags", is_null=False)]}, [0, 1, 2]),
        (
            {"must": [asks("place", geo_radius={"center": BERLIN, "radius": 3_000})]},
            [3],
        ),
        ({"must": [asks("place", geo_radius={"center": BERLIN, "radius": 1})]}, []),
        ({"must": [asks("place", geo_bounding_box=EUROPE)]}, [3]),
        ({"min_should": {"conditions": [SMALL, OLD, TALL], "min_count": 2}}, [0]),
        ({"min_should": {"conditions": [SMALL, OLD, TALL], "min_count": 1}}, [0, 1, 2]),
        ({"min_should": {"conditions": [SMALL], "min_count": 0}}, [0, 1, 2, 3]),
        ({"min_should": {"conditions": [SMALL], "min_count": 2}}, []),
        ({"$or": [{"must": [SMALL]}, {"text": "tall"}]}, [0, 1]),
        ({"$not": {"should": [SMALL, TALL]}}, [2, 3]),
    ],
)
def test_a_filter_of_qdrants_selects_what_it_does_there(
    raw: object, found: list[int]
) -> None:
    tree = parsed(raw)

    assert [n for n, house in enumerate(HOUSES) if matches(tree, house)] == found


@pytest.mark.parametrize(
    ("raw", "same"),
    [
        ({"must": [SMALL]}, {"$and": [{"text": "small"}]}),
        ({"should": [SMALL, OLD]}, {"$or": [{"text": "small"}, {"tags": "old"}]}),
        (
            {"must": [asks("number", range={"gte": 1, "lt": 5})]},
            {"$and": [{"number": {"$gte": 1, "$lt": 5}}]},
        ),
        (
            {"must_not": [{"is_null": {"key": "text"}}]},
            {"$not": {"$or": [{"text": None}]}},
        ),
    ],
)
def test_both_spellings_are_read_to_one_tree(raw: object, same: object) -> None:
    assert parsed(raw) == parsed(same)


@pytest.mark.parametrize(
    ("raw", "code", "at", "says"),
    [
        ({"must": [SMALL], "text": "a"}, "filter_invalid", "text", "either like"),
        ({"$or": [], "must": []}, "filter_invalid", "$or", "either like Qdrant's"),
        (
            {"must": [{"text": "small"}]},
            "filter_invalid",
            "must[0].text",
            "a field-first condition cannot stand inside one of Qdrant's",
        ),
        ({"must": [{"$or": []}]}, "filter_invalid", "must[0].$or", "field-first"),
        ({"must": ["text"]}, "filter_invalid", "must[0]", "expected an object"),
        ({"must": "text"}, "filter_invalid", "must", "a list of objects"),
        ({"must": [{}]}, "filter_invalid", "must[0]", "one of key, is_empty"),
        ({"must": [{"kez": 1}]}, "filter_invalid", "must[0].kez", "mean 'key'?"),
        (
            {"must": [value("texd", "a")]},
            "filter_unknown_field",
            "must[0].key",
            "did you mean 'text'?",
        ),
        ({"must": [{"key": 1}]}, "filter_invalid", "must[0].key", "name of a field"),
        ({"must": [{"key": "text"}]}, "filter_invalid", "must[0]", "got 0"),
        (
            {"must": [asks("text", match={"value": "a"}, is_null=True)]},
            "filter_invalid",
            "must[0]",
            "one of match, range",
        ),
        (
            {"must": [asks("text", match={"text": "a"})]},
            "filter_invalid",
            "must[0].match.text",
            "there is no search in texts",
        ),
        (
            {"must": [asks("text", match="a")]},
            "filter_invalid",
            "must[0].match",
            "one of value, any, except",
        ),
        (
            {"must": [asks("text", match={"vale": "a"})]},
            "filter_invalid",
            "must[0].match.vale",
            "did you mean 'value'?",
        ),
        (
            {"must": [asks("tags", match={"except": ["a"]})]},
            "filter_invalid",
            "must[0].match.except",
            "must_not with match any",
        ),
        (
            {"must": [value("number", "1")]},
            "filter_wrong_type",
            "must[0].match.value",
            "declared as int",
        ),
        (
            {"must": [value("text", None)]},
            "filter_wrong_type",
            "must[0].match.value",
            "declared as string",
        ),
        (
            {"must": [asks("number", match={"any": 1})]},
            "filter_wrong_type",
            "must[0].match.any",
            "expected a list",
        ),
        (
            {"must": [asks("flag", range={"gt": 1})]},
            "filter_invalid",
            "must[0].range",
            "range does not apply to a bool field",
        ),
        (
            {"must": [asks("number", range={"$gt": 1})]},
            "filter_invalid",
            "must[0].range.$gt",
            "did you mean 'gt'?",
        ),
        (
            {"must": [asks("number", range={})]},
            "filter_invalid",
            "must[0].range",
            "at least one of gt",
        ),
        (
            {"must": [asks("number", range={"gt": "x"})]},
            "filter_wrong_type",
            "must[0].range.gt",
            "declared as int",
        ),
        (
            {"must": [asks("text", geo_radius={})]},
            "filter_invalid",
            "must[0].geo_radius",
            "does not apply to a string field",
        ),
        (
            {"must": [value("place", 1)]},
            "filter_invalid",
            "must[0].match",
            "match does not apply to a geo field",
        ),
        (
            {"must": [asks("place", geo_radius={"center": {"lat": 1}, "radius": 1})]},
            "filter_invalid",
            "must[0].geo_radius.center",
            "lon is missing",
        ),
        (
            {"must": [asks("place", geo_polygon={})]},
            "filter_invalid",
            "must[0].geo_polygon",
            "geo_bounding_box",
        ),
        (
            {"must": [asks("tags", values_count={"gt": 1})]},
            "filter_invalid",
            "must[0].values_count",
            "is_empty",
        ),
        ({"must": [{"has_id": [1]}]}, "filter_invalid", "must[0].has_id", "metadata"),
        ({"must": [{"nested": {}}]}, "filter_invalid", "must[0].nested", "not nested"),
        (
            {"must": [asks("tags", is_empty=1)]},
            "filter_wrong_type",
            "must[0].is_empty",
            "true or false",
        ),
        (
            {"min_should": {"conditions": [], "min_count": True}},
            "filter_wrong_type",
            "min_should.min_count",
            "a count from 0",
        ),
        ({"min_should": [SMALL]}, "filter_wrong_type", "min_should", "min_count"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_with_its_place(
    raw: object, code: str, at: str, says: str
) -> None:
    error = refused(raw)

    assert (error.code, error.extra["at"]) == (code, at)
    assert says in error.detail


def nested(depth: int) -> dict[str, Any]:
    raw: dict[str, Any] = {"must": [SMALL]}
    for _ in range(depth - 1):
        raw = {"must_not": [raw]}
    return raw


def at_least(count: int, among: int) -> dict[str, Any]:
    return {"min_should": {"conditions": [SMALL] * among, "min_count": count}}


@pytest.mark.parametrize(
    ("largest", "too_large"),
    [
        (nested(8), nested(9)),
        ({"must": [SMALL] * 100}, {"must": [SMALL] * 101}),
        (
            {"must": [asks("number", range={"gt": 1, "lt": 2})] * 50},
            {"must": [*[asks("number", range={"gt": 1, "lt": 2})] * 50, SMALL]},
        ),
        (at_least(1, among=100), at_least(2, among=11)),
        (at_least(2, among=10), at_least(50, among=100)),
        (at_least(100, among=100), at_least(4, among=8)),
    ],
)
def test_the_budgets_hold_for_qdrants_spelling(
    largest: object, too_large: object
) -> None:
    parsed(largest)

    assert refused(too_large).code == "filter_too_large"


def test_a_declared_field_is_no_clause() -> None:
    fields = {"must": FieldType.STRING, "should": FieldType.INT}

    tree = parse({"must": "a", "should": [1, 2]}, fields)

    assert tree is not None
    assert matches(tree, {"must": "a", "should": 2})
    assert not matches(tree, {"must": "b", "should": 2})
