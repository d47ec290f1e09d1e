from __future__ import annotations

import ast
import random
import re

import pytest

from lookalike.backends.milvus_filter import (
    EVERYTHING,
    NOTHING,
    compile_filter,
    literal,
    stored,
)
from lookalike.collections import FieldType
from lookalike.filters import parse
from random_filters import FIELDS, NUMBERS, RATIOS, TEXTS, random_condition

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
    words |= {"array_contains_any", "array_contains_all"}
    words |= {f"{prefix}_{name}" for name in FIELDS for prefix in "fp"}

    for _ in range(500):
        bare = STRING.sub("", compile_filter(random_condition(source)))
        assert bare.count("(") == bare.count(")") > 0
        assert set(re.findall(r"(?<![\d.])[A-Za-z_]\w*", bare)) <= words
        assert '"' not in bare


def test_every_integer_is_written_in_full() -> None:
    assert [literal(number) for number in NUMBERS] == [str(n) for n in NUMBERS]
