from __future__ import annotations

import random
from typing import Any

import pytest

from lookalike.collections import FieldType
from lookalike.errors import BadFilter
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
    matches,
    parse,
)
from random_filters import FIELDS, random_condition, random_metadata

TEXT, NUMBER = FieldType.STRING, FieldType.INT


def parsed(raw: object) -> Filter:
    tree = parse(raw, FIELDS)
    assert tree is not None
    return tree


def refused(raw: object) -> BadFilter:
    with pytest.raises(BadFilter) as caught:
        parse(raw, FIELDS)
    return caught.value


def equal(value: str) -> Compare:
    return Compare("text", TEXT, Comparison.EQ, value)


@pytest.mark.parametrize("nothing", [None, {}])
def test_no_filter_is_no_tree(nothing: object) -> None:
    assert parse(nothing, FIELDS) is None


@pytest.mark.parametrize(
    ("raw", "tree"),
    [
        ({"text": "a"}, equal("a")),
        ({"text": {"$eq": "a"}}, equal("a")),
        ({"text": {"$ne": "a"}}, Not(equal("a"))),
        ({"text": ["a", "b"]}, AnyOf("text", TEXT, ("a", "b"))),
        ({"text": {"$in": []}}, AnyOf("text", TEXT, ())),
        ({"text": {"$nin": ["a"]}}, Not(AnyOf("text", TEXT, ("a",)))),
        ({"text": None}, Not(Exists("text"))),
        ({"text": {"$ne": None}}, Not(Not(Exists("text")))),
        (
            {"text": ["a", None]},
            Or((Not(Exists("text")), AnyOf("text", TEXT, ("a",)))),
        ),
        ({"text": {"$exists": True}}, Exists("text")),
        ({"text": {"$exists": False}}, Not(Exists("text"))),
        ({"tags": "red"}, Compare("tags", FieldType.STRINGS, Comparison.EQ, "red")),
        ({"tags": {"$any": ["a"]}}, AnyOf("tags", FieldType.STRINGS, ("a",))),
        ({"tags": {"$all": ["a", "b"]}}, AllOf("tags", ("a", "b"))),
        ({"$not": {"text": "a"}}, Not(equal("a"))),
        ({"$and": []}, And(())),
        ({"$or": [{"text": "a"}, {}]}, Or((equal("a"), And(())))),
        ({"text": "a", "$or": []}, And((equal("a"), Or(())))),
        (
            {"number": {"$gte": 10, "$lt": 50}},
            And(
                (
                    Compare("number", NUMBER, Comparison.GTE, 10),
                    Compare("number", NUMBER, Comparison.LT, 50),
                )
            ),
        ),
    ],
)
def test_a_filter_is_read_to_a_tree(raw: object, tree: Filter) -> None:
    assert parsed(raw) == tree


def test_values_take_their_declared_type() -> None:
    tree = parsed({"ratio": 3, "number": 4.0, "moment": "2026-01-31T13:00:00+01:00"})

    assert isinstance(tree, And)
    values = [part.value for part in tree.parts if isinstance(part, Compare)]
    assert [(type(value), value) for value in values] == [
        (float, 3.0),
        (int, 4),
        (str, "2026-01-31T12:00:00.000000Z"),
    ]


@pytest.mark.parametrize(
    ("raw", "code", "at", "says"),
    [
        ([], "filter_invalid", "", "expected an object"),
        ("text", "filter_invalid", "", "expected an object"),
        ({"$nor": []}, "filter_invalid", "$nor", "$and, $or, $not"),
        ({"text": {"$like": "a"}}, "filter_invalid", "text.$like", "$eq, $ne, $in"),
        ({"text": {"eq": "a"}}, "filter_invalid", "text.eq", "unknown operator"),
        ({"text": {}}, "filter_invalid", "text", "expected an operator"),
        ({"flag": {"$gt": True}}, "filter_invalid", "flag.$gt", "does not apply"),
        ({"tags": {"$lt": "a"}}, "filter_invalid", "tags.$lt", "$any, $all"),
        ({"text": {"$any": ["a"]}}, "filter_invalid", "text.$any", "does not apply"),
        ({"$or": {"text": "a"}}, "filter_invalid", "$or", "a list of objects"),
        ({"$or": ["text"]}, "filter_invalid", "$or[0]", "expected an object"),
        ({"$not": None}, "filter_invalid", "$not", "expected an object"),
        ({"texd": "a"}, "filter_unknown_field", "texd", "did you mean 'text'"),
        ({"number": "1"}, "filter_wrong_type", "number", "declared as int"),
        ({"number": True}, "filter_wrong_type", "number", "declared as int"),
        ({"number": 1.5}, "filter_wrong_type", "number", "declared as int"),
        ({"number": 2**63}, "filter_wrong_type", "number", "declared as int"),
        ({"ratio": float("nan")}, "filter_wrong_type", "ratio", "finite"),
        ({"flag": 1}, "filter_wrong_type", "flag", "declared as bool"),
        ({"moment": "soon"}, "filter_wrong_type", "moment", "RFC 3339"),
        ({"text": "a\0b"}, "filter_wrong_type", "text", "NUL"),
        ({"text": "\ud800"}, "filter_wrong_type", "text", "Unicode"),
        ({"text": "é" * 513}, "filter_wrong_type", "text", "1024 bytes"),
        ({"text": {"$in": "a"}}, "filter_wrong_type", "text.$in", "expected a list"),
        (
            {"text": {"$exists": 1}},
            "filter_wrong_type",
            "text.$exists",
            "true or false",
        ),
        ({"tags": {"$all": [None]}}, "filter_wrong_type", "tags.$all[0]", "string"),
        ({"number": {"$gt": None}}, "filter_wrong_type", "number.$gt", "int"),
        (
            {"$or": [{"text": "a"}, {"number": {"$lt": "x"}}]},
            "filter_wrong_type",
            "$or[1].number.$lt",
            "declared as int",
        ),
    ],
)
def test_a_wrong_filter_is_refused_with_its_place(
    raw: object, code: str, at: str, says: str
) -> None:
    error = refused(raw)

    assert (error.code, error.extra["at"]) == (code, at)
    assert says in error.detail
    assert at in error.detail


def test_an_unknown_field_names_the_nearest_one() -> None:
    error = refused({"$not": {"Numbr": 1}})

    assert error.extra["nearest"] == "number"


def nested(depth: int) -> Any:
    raw: Any = {"text": "a"}
    for _ in range(depth - 1):
        raw = {"$not": raw}
    return raw


@pytest.mark.parametrize(
    ("largest", "too_large"),
    [
        (nested(8), nested(9)),
        ({"$or": [{"text": "a"}] * 100}, {"$or": [{"text": "a"}] * 101}),
        (
            {"$and": [{"$or": [{"text": "a"}] * 50}] * 2},
            {"$and": [{"$or": [{"text": "a"}] * 50}] * 2, "flag": True},
        ),
        ({"text": ["a"] * 1_000}, {"text": ["a"] * 1_001}),
        (
            {"$and": [{"text": ["a"] * 1_000}] * 10},
            {"$and": [{"text": ["a"] * 1_000}] * 10, "number": [1]},
        ),
    ],
)
def test_budgets_are_exact(largest: object, too_large: object) -> None:
    parsed(largest)

    assert refused(too_large).code == "filter_too_large"


def test_a_filter_deeper_than_python_recurses_is_refused() -> None:
    assert refused(nested(5_000)).code == "filter_too_large"


METADATA = {
    "text": "b",
    "number": 7,
    "ratio": -0.0,
    "flag": False,
    "moment": "2026-01-31T12:00:00.000000Z",
    "tags": ["red", "big"],
}


@pytest.mark.parametrize(
    "raw",
    [
        {"text": "b"},
        {"text": {"$gt": "a", "$lte": "b"}},
        {"text": ["x", "b"]},
        {"number": {"$ne": 8}},
        {"ratio": 0},
        {"flag": False},
        {"moment": {"$lt": "2026-02-01"}},
        {"tags": "red"},
        {"tags": ["blue", "big"]},
        {"tags": {"$all": ["red", "big"]}},
        {"tags": {"$all": []}},
        {"tags": {"$nin": ["blue"]}},
        {"$and": []},
        {"$not": {"$or": []}},
    ],
)
def test_metadata_that_satisfies_a_filter(raw: object) -> None:
    assert matches(parsed(raw), METADATA)
    assert not matches(parsed({"$not": raw}), METADATA)


@pytest.mark.parametrize("metadata", [{}, {"text": None, "tags": None}])
@pytest.mark.parametrize(
    ("raw", "holds"),
    [
        ({"text": "a"}, False),
        ({"text": {"$ne": "a"}}, True),
        ({"text": {"$nin": ["a"]}}, True),
        ({"text": {"$lt": "z"}}, False),
        ({"$not": {"text": {"$lt": "z"}}}, True),
        ({"text": None}, True),
        ({"text": {"$exists": False}}, True),
        ({"text": ["a", None]}, True),
        ({"tags": {"$all": []}}, False),
        ({"tags": {"$any": []}}, False),
    ],
)
def test_no_leaf_holds_for_an_absent_field(
    raw: object, holds: bool, metadata: dict[str, object]
) -> None:
    assert matches(parsed(raw), metadata) is holds


def test_a_filter_and_its_negation_split_every_set() -> None:
    source = random.Random(1)

    for _ in range(500):
        condition, metadata = random_condition(source), random_metadata(source)
        assert matches(condition, metadata) is not matches(Not(condition), metadata)
