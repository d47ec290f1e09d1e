from __future__ import annotations

import math

import pytest

from lookalike.collections import (
    FieldType,
    check_fields,
    check_metadata,
    check_name,
    coerce,
    epoch_microseconds,
    nearest,
)
from lookalike.errors import BadMetadata, BadRequest

FIELDS = {
    "category": FieldType.STRING,
    "price": FieldType.FLOAT,
    "stock": FieldType.INT,
    "sold": FieldType.BOOL,
    "added": FieldType.DATETIME,
    "tags": FieldType.STRINGS,
    "place": FieldType.GEO,
}


@pytest.mark.parametrize("name", ["a", "shoes-2026", "0_1", "a" * 63])
def test_a_plain_name_is_taken(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "Shoes", "-a", "a b", "a" * 64, "a/b", "é", None])
def test_a_name_that_is_no_plain_word_is_refused(name: object) -> None:
    with pytest.raises(BadRequest) as caught:
        check_name(name)

    assert caught.value.code == "collection_name_invalid"


def test_fields_are_declared_by_type_or_by_object() -> None:
    declared = {"a": "string", "b": {"type": "int"}, "c": {"type": "string[]"}}

    fields = check_fields(declared)

    assert fields == {
        "a": FieldType.STRING,
        "b": FieldType.INT,
        "c": FieldType.STRINGS,
    }


@pytest.mark.parametrize(
    "declared",
    [
        [],
        {"1a": "string"},
        {"_a": "string"},
        {"a-b": "string"},
        {"a": "text"},
        {"a": {"type": "string", "index": True}},
        {"a": None},
        {f"f{i}": "int" for i in range(31)},
        {f"f{i}": "geo" for i in range(21)},
        {f"f{i}": "geo" if i < 2 else "int" for i in range(30)},
    ],
)
def test_fields_that_cannot_be_declared_are_refused(declared: object) -> None:
    with pytest.raises(BadMetadata) as caught:
        check_fields(declared)

    assert caught.value.code == "field_invalid"


def test_a_geo_field_takes_the_room_of_one_and_a_half() -> None:
    assert len(check_fields({f"f{i}": "geo" for i in range(20)})) == 20
    assert len(check_fields({f"f{i}": "int" for i in range(30)})) == 30
    assert len(check_fields({"place": "geo", **{f"f{i}": "int" for i in range(29)}}))

    with pytest.raises(BadMetadata, match=r"at most 61 columns .* these take 63"):
        check_fields({f"f{i}": "geo" for i in range(21)})


def test_an_unknown_type_is_answered_with_the_accepted_ones() -> None:
    with pytest.raises(BadMetadata, match="string, int, float, bool, datetime"):
        check_fields({"a": "text"})


def test_metadata_comes_back_as_declared() -> None:
    metadata = {
        "category": "shoes",
        "price": 10,
        "stock": 3.0,
        "sold": False,
        "added": "2026-01-31T12:00:00+02:00",
        "tags": ["a", "b"],
        "place": {"lon": 180, "lat": -90.0},
    }

    checked = check_metadata(FIELDS, metadata)

    assert checked == {
        "category": "shoes",
        "price": 10.0,
        "stock": 3,
        "sold": False,
        "added": "2026-01-31T10:00:00.000000Z",
        "tags": ["a", "b"],
        "place": {"lat": -90.0, "lon": 180.0},
    }
    assert isinstance(checked["price"], float)
    assert isinstance(checked["stock"], int)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31", "2026-01-31T00:00:00.000000Z"),
        ("2026-01-31T12:00:00", "2026-01-31T12:00:00.000000Z"),
        ("2026-01-31t12:00:00z", "2026-01-31T12:00:00.000000Z"),
        ("2026-01-31T12:00:00.5+05:30", "2026-01-31T06:30:00.500000Z"),
        ("2026-01-01T00:30:00+01:00", "2025-12-31T23:30:00.000000Z"),
        ("2026-01-31T12:00:00-00:00", "2026-01-31T12:00:00.000000Z"),
    ],
)
def test_datetimes_are_kept_in_utc(text: str, moment: str) -> None:
    assert coerce("added", FieldType.DATETIME, text) == moment


def test_null_is_the_same_as_absent() -> None:
    assert check_metadata(FIELDS, {"category": None}) == {}
    assert check_metadata(FIELDS, None) == {}


def test_an_unknown_field_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(BadMetadata, match="did you mean 'category'") as caught:
        check_metadata(FIELDS, {"catgory": "shoes"})

    assert caught.value.code == "metadata_unknown_field"
    assert caught.value.extra["nearest"] == "category"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("category", 1),
        ("category", "a\0b"),
        ("category", "\ud800"),
        ("category", "x" * 1025),
        ("price", "10"),
        ("price", True),
        ("price", math.nan),
        ("price", math.inf),
        ("price", 10**400),
        ("stock", 1.5),
        ("stock", True),
        ("stock", 2**63),
        ("stock", -(2**63) - 1),
        ("sold", 1),
        ("added", "yesterday"),
        ("added", 1_700_000_000),
        ("added", "9999-12-31T23:59:59-12:00"),
        ("tags", "red"),
        ("tags", ["red", 1]),
        ("tags", ["x"] * 65),
        ("place", "52.5,13.4"),
        ("place", [52.5, 13.4]),
        ("place", {"lat": 52.5}),
        ("place", {"lat": 52.5, "lon": 13.4, "height": 0}),
        ("place", {"lat": 52.5, "lon": "13.4"}),
        ("place", {"lat": True, "lon": 13.4}),
        ("place", {"lat": 90.001, "lon": 0}),
        ("place", {"lat": 0, "lon": -180.001}),
        ("place", {"lat": math.nan, "lon": 0}),
        ("place", {"lat": 0, "lon": 10**400}),
    ],
)
def test_a_value_of_another_type_is_refused(name: str, value: object) -> None:
    with pytest.raises(BadMetadata) as caught:
        check_metadata(FIELDS, {name: value})

    assert caught.value.code == "metadata_wrong_type"
    assert name in caught.value.detail


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63), 0])
def test_ints_of_64_bits_are_taken_whole(value: int) -> None:
    assert coerce("stock", FieldType.INT, value) == value


def test_metadata_over_the_limit_is_refused() -> None:
    with pytest.raises(BadMetadata) as caught:
        check_metadata(FIELDS, {"category": "x" * 1000}, max_bytes=512)

    assert caught.value.code == "metadata_too_large"
    assert caught.value.extra["limit"] == 512


def test_metadata_that_is_no_object_is_refused() -> None:
    with pytest.raises(BadMetadata):
        check_metadata(FIELDS, ["category"])


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("1970-01-01T00:00:00.000000Z", 0),
        ("1970-01-01T00:00:00.000001Z", 1),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("2026-01-31T10:00:00.000000Z", 1_769_853_600_000_000),
    ],
)
def test_a_datetime_has_exact_microseconds(text: str, microseconds: int) -> None:
    assert epoch_microseconds(text) == microseconds


def test_nothing_is_suggested_for_a_name_like_no_other() -> None:
    assert nearest("zzzzzz", FIELDS) is None
