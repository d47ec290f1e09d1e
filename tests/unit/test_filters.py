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
    Prefix,
    Within,
    is_exact,
    matches,
    parse,
)
from lookalike.geo import Box, Circle
from plain_filters import holds
from random_filters import FIELDS, random_condition, random_filter, random_metadata

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


def box(**sides: float) -> dict[str, float]:
    return sides


def around(**circle: object) -> dict[str, object]:
    return {"place": {"$within_radius": circle}}


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
        ({"text": {"$prefix": "50%_\\"}}, Prefix("text", "50%_\\")),
        ({"place": None}, Not(Exists("place"))),
        (
            {"place": {"$within_radius": {"lat": 1, "lon": -2, "radius_m": 5}}},
            Within("place", Circle(1.0, -2.0, 5.0)),
        ),
        (
            {"place": {"$within_box": box(south=-1, west=170, north=1, east=-170)}},
            Within("place", Box(-1.0, 1.0, ((170.0, 180.0), (-180.0, -170.0)))),
        ),
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
        ({"$an": []}, "filter_invalid", "$an", "did you mean '$and'?"),
        ({"$lt": 5}, "filter_invalid", "$lt", "belongs below a field name"),
        ({"and": []}, "filter_unknown_field", "and", "did you mean '$and'?"),
        ({"must-not": []}, "filter_unknown_field", "must-not", "mean 'must_not'?"),
        ({"number": {"$gre": 5}}, "filter_invalid", "number.$gre", "mean '$gte'?"),
        ({"text": {"$like": "a"}}, "filter_invalid", "text.$like", "mean '$prefix'?"),
        ({"text": {"$Regex": "a"}}, "filter_invalid", "text.$Regex", "mean '$prefix'?"),
        ({"tags": {"$prefix": "a"}}, "filter_invalid", "tags.$prefix", "not apply"),
        ({"number": {"$prefix": "1"}}, "filter_invalid", "number.$prefix", "not apply"),
        ({"text": {"$prefix": 1}}, "filter_wrong_type", "text.$prefix", "string"),
        ({"place": 5}, "filter_invalid", "place", "$eq does not apply"),
        (
            {"place": {"lat": 1, "lon": 2}},
            "filter_invalid",
            "place.lat",
            "$exists, $within_radius, $within_box",
        ),
        (
            {"place": {"$within_radius": [1, 2, 3]}},
            "filter_wrong_type",
            "place.$within_radius",
            "an object of lat, lon, radius_m",
        ),
        (
            around(lat=1, lon=2),
            "filter_invalid",
            "place.$within_radius",
            "radius_m is missing",
        ),
        (
            around(lat=1, lon=2, radius=3),
            "filter_invalid",
            "place.$within_radius.radius",
            "did you mean 'radius_m'?",
        ),
        (
            around(lat=91, lon=2, radius_m=3),
            "filter_wrong_type",
            "place.$within_radius.lat",
            "-90 to 90",
        ),
        (
            around(lat=1, lon=True, radius_m=3),
            "filter_wrong_type",
            "place.$within_radius.lon",
            "-180 to 180",
        ),
        (
            around(lat=1, lon=2, radius_m=-3),
            "filter_wrong_type",
            "place.$within_radius.radius_m",
            "metres",
        ),
        (
            around(lat=1, lon=2, radius_m=float("nan")),
            "filter_wrong_type",
            "place.$within_radius.radius_m",
            "metres",
        ),
        (
            {"place": {"$within_box": box(south=2, west=0, north=1, east=1)}},
            "filter_invalid",
            "place.$within_box.north",
            "south of the southern edge",
        ),
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
        (
            {"$and": [{"$or": [{}] * 50}, {"$and": [{"$or": []}] * 50}]},
            {"$and": [{"$or": [{}] * 50}, {"$and": [{"$or": []}] * 50}], "flag": True},
        ),
        ({"text": ["a"] * 1_000}, {"text": ["a"] * 1_001}),
        (
            {"text": ["a" * 1_024] * 512, "tags": ["é" * 512] * 512},
            {"text": ["a" * 1_024] * 512, "tags": [*["é" * 512] * 512, "a"]},
        ),
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
    "place": {"lat": 52.52, "lon": 13.405},
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
        {"text": {"$prefix": ""}},
        {"text": {"$prefix": "b"}},
        {"moment": {"$lte": "2026-01-31T14:00:00+02:00"}},
        {"moment": {"$gt": "2026-01-31T13:59:59.999999+02:00"}},
        around(lat=52.5, lon=13.4, radius_m=3_000),
        {"place": {"$within_box": box(south=52.52, west=13, north=53, east=13.405)}},
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
        ({"text": {"$prefix": ""}}, False),
        (around(lat=0, lon=0, radius_m=1e8), False),
        ({"$not": around(lat=0, lon=0, radius_m=1e8)}, True),
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


def test_a_tree_means_what_the_filter_says() -> None:
    source = random.Random(2)
    rows = [random_metadata(source) for _ in range(40)]

    for _ in range(1_000):
        raw = random_filter(source)
        tree = parsed(raw)
        assert [matches(tree, row) for row in rows] == [
            holds(raw, row, FIELDS) for row in rows
        ], raw


@pytest.mark.parametrize(
    ("raw", "is_it"),
    [
        ({"text": "a"}, True),
        ({"place": {"$within_box": box(south=0, west=0, north=1, east=1)}}, True),
        (around(lat=1, lon=2, radius_m=3), False),
        ({"$not": {"$or": [{"text": "a"}, around(lat=1, lon=2, radius_m=3)]}}, False),
        ({"$and": [{"text": "a"}, {"$not": {"number": 1}}]}, True),
    ],
)
def test_only_a_circle_makes_a_filter_inexact(raw: object, is_it: bool) -> None:
    assert is_exact(parsed(raw)) is is_it
