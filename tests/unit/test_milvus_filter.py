from __future__ import annotations

import ast
import itertools
import math
import random
import re
from typing import Any

import pytest

from lookalike.backends.milvus_filter import (
    EVERYTHING,
    NOTHING,
    compile_filter,
    literal,
    stored,
)
from lookalike.collections import FieldType
from lookalike.filters import Not, Within, parse
from lookalike.geo import Box, Circle
from random_filters import FIELDS, NUMBERS, RATIOS, TEXTS, random_condition

TONGA = {"south": -22, "west": 175, "north": -15, "east": -173}
STRING = re.compile(r'"(?:[^"\\\n\r]|\\["\\nrt])*"')


def compiled(raw: object) -> str:
    tree = parse(raw, FIELDS)
    assert tree is not None
    return compile_filter(tree)


@pytest.mark.parametrize(
    ("raw", "expression"),
    [
        ({"text": "a"}, '((p_text == true) and (f_text == "a"))'),
        ({"text": {"$ne": "a"}}, '((p_text == false) or (f_text != "a"))'),
        ({"text": ["a", "b"]}, '((p_text == true) and ((f_text in ["a", "b"])))'),
        ({"number": {"$nin": [1]}}, "((p_number == false) or ((f_number not in [1])))"),
        ({"ratio": {"$gte": 2}}, "((p_ratio == true) and (f_ratio >= 2.0))"),
        ({"$not": {"ratio": {"$gte": 2}}}, "((p_ratio == false) or (f_ratio < 2.0))"),
        ({"flag": True}, "((p_flag == true) and (f_flag == true))"),
        ({"flag": [True]}, "((p_flag == true) and ((f_flag == true)))"),
        ({"flag": {"$exists": False}}, "(p_flag == false)"),
        ({"moment": "1970-01-01"}, "((p_moment == true) and (f_moment == 0))"),
        ({"text": []}, NOTHING),
        ({"text": {"$nin": []}}, EVERYTHING),
        ({"tags": {"$all": []}}, "(p_tags == true)"),
        ({"$not": {"tags": {"$all": []}}}, "(p_tags == false)"),
        (
            {"text": {"$prefix": "a"}},
            '((p_text == true) and ((f_text >= "a") and (f_text < "b")))',
        ),
        (
            {"$not": {"text": {"$prefix": "a"}}},
            '((p_text == false) or ((f_text < "a") or (f_text >= "b")))',
        ),
        ({"text": {"$prefix": ""}}, "(p_text == true)"),
        ({"$not": {"text": {"$prefix": ""}}}, "(p_text == false)"),
        (
            {"must": [{"key": "tags", "is_empty": True}]},
            "((p_tags == false) or ((p_tags == true) and (array_length(f_tags) == 0)))",
        ),
        (
            {"place": {"$within_box": TONGA}},
            "((p_place == true) and "
            "(((lat_place >= -22.0) and (lat_place <= -15.0)) and "
            "(((lon_place >= 175.0) and (lon_place <= 180.0)) or "
            "((lon_place >= -180.0) and (lon_place <= -173.0)))))",
        ),
        (
            {"$not": {"place": {"$within_box": TONGA}}},
            "((p_place == false) or "
            "(((lat_place < -22.0) or (lat_place > -15.0)) or "
            "(((lon_place < 175.0) or (lon_place > 180.0)) and "
            "((lon_place < -180.0) or (lon_place > -173.0)))))",
        ),
        ({"$and": []}, EVERYTHING),
        ({"$not": {"$and": []}}, NOTHING),
        (
            {"tags": {"$all": ["a", "b"]}},
            '((p_tags == true) and (array_contains_all(f_tags, ["a", "b"])))',
        ),
        (
            {"$not": {"$or": [{"flag": True}, {"tags": "a"}]}},
            "(((p_flag == false) or (f_flag != true)) and "
            '((p_tags == false) or (not (array_contains_any(f_tags, ["a"])))))',
        ),
    ],
)
def test_a_filter_becomes_an_expression(raw: object, expression: str) -> None:
    assert compiled(raw) == expression


@pytest.mark.parametrize(
    ("raw", "test"),
    [
        ({"number": -(2**63)}, "(f_number < -9223372036854775807)"),
        ({"number": {"$lte": -(2**63)}}, "(f_number < -9223372036854775807)"),
        ({"number": {"$gt": -(2**63)}}, "(f_number >= -9223372036854775807)"),
        ({"number": {"$gte": -(2**63)}}, "(p_number == true)"),
        ({"number": {"$lt": -(2**63)}}, NOTHING),
        ({"number": [-(2**63), 1]}, "(f_number < -9223372036854775807)"),
    ],
)
def test_the_smallest_integer_is_never_written_out(raw: object, test: str) -> None:
    expression = compiled(raw)

    assert test in expression
    assert "9223372036854775808" not in expression


@pytest.mark.parametrize(
    ("prefix", "end"),
    [
        ("a\U0010ffff", "b"),
        ("\ud7ff", "\ue000"),
        ("\uffff", "\U00010000"),
        ("50%", "50&"),
        ("a_", "a`"),
        ("!", '\\"'),
    ],
)
def test_a_prefix_ends_before_the_next_text(prefix: str, end: str) -> None:
    assert f'(f_text < "{end}")' in compiled({"text": {"$prefix": prefix}})


def test_a_prefix_of_last_code_points_has_no_end() -> None:
    last = "\U0010ffff" * 2

    assert compiled({"text": {"$prefix": last}}) == (
        f'((p_text == true) and (f_text >= "{last}"))'
    )


@pytest.mark.parametrize("radius", [0, 1, 5_000, 1e6, 1e7, 2e7])
def test_a_circle_becomes_a_box_around_it_and_its_negation_one_within(
    radius: float,
) -> None:
    raw = {"place": {"$within_radius": {"lat": 60, "lon": 10, "radius_m": radius}}}
    circle = Circle(60.0, 10.0, radius)

    assert compiled(raw) == compiled_box(circle.outer(), wanted=True)
    assert compiled({"$not": raw}) == compiled_box(circle.inner(), wanted=False)


def compiled_box(box: Box, wanted: bool) -> str:
    leaf = Within("place", box)
    return compile_filter(leaf if wanted else Not(leaf))


@pytest.mark.parametrize("word", ["and", "or"])
def test_many_conditions_are_joined_in_a_balanced_way(word: str) -> None:
    tests = [{"flag": {"$exists": True}}] * 100

    expression = compiled({f"${word}": tests})

    assert expression.count(word) == 99
    assert nesting(expression) <= 1 + math.ceil(math.log2(100))


def test_a_deep_part_is_joined_last() -> None:
    raw: dict[str, Any] = {"flag": {"$exists": True}}
    for depth in range(7):
        others = [{"flag": {"$exists": True}}] * 14
        raw = {("$and", "$or")[depth % 2]: [*others, raw]}

    assert nesting(compiled(raw)) <= 1 + math.ceil(math.log2(15)) + 7


def nesting(expression: str) -> int:
    steps = [(each == "(") - (each == ")") for each in expression]
    return max(itertools.accumulate(steps))


@pytest.mark.parametrize("text", TEXTS)
def test_text_stays_inside_its_quotes(text: str) -> None:
    written = literal(text)

    assert STRING.fullmatch(written)
    assert ast.literal_eval(written) == text


@pytest.mark.parametrize("ratio", RATIOS)
def test_floats_are_written_with_a_point_and_read_back_exactly(ratio: float) -> None:
    written = literal(ratio)

    assert re.fullmatch(r"-?\d+\.\d+(e[+-]?\d+)?", written)
    assert float(written) == ratio


def test_a_negative_zero_is_stored_and_compared_as_zero() -> None:
    assert str(stored(FieldType.FLOAT, -0.0)) == "0.0"
    assert "-0.0" not in compiled({"ratio": [-0.0, 1]})


def test_expressions_are_balanced_and_hold_declared_fields_only() -> None:
    source = random.Random(2)
    words = {"and", "or", "not", "in", "true", "false", "key"}
    words |= {"array_contains_any", "array_contains_all", "array_length"}
    words |= {"lat_place", "lon_place"}
    words |= {f"{prefix}_{name}" for name in FIELDS for prefix in "fp"}

    for _ in range(500):
        bare = STRING.sub("", compile_filter(random_condition(source)))
        assert bare.count("(") == bare.count(")") > 0
        assert set(re.findall(r"(?<![\d.])[A-Za-z_]\w*", bare)) <= words
        assert '"' not in bare


def test_every_integer_is_written_in_full() -> None:
    assert [literal(number) for number in NUMBERS] == [str(n) for n in NUMBERS]
