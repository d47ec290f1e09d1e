"""Filters mean on every engine what they mean in memory, and reach nobody else's rows.

``LOOKALIKE_TEST_FILTERS`` sets how many random filters are tried, and a tenth as many
hostile ones; 20,000 and 2,000 take minutes on each engine.
"""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from hostile_filters import hostile_filter
from lookalike.backends.milvus import MilvusIndex
from lookalike.collections import (
    DEFAULT_TEAM,
    MAX_COLUMNS,
    Collection,
    CollectionUid,
    Fields,
    FieldType,
    Metadata,
    Metric,
    Team,
    check_fields,
)
from lookalike.errors import BadFilter
from lookalike.filters import Filter, is_exact, matches, parse
from lookalike.interfaces import ImageKey, IndexRow, VectorIndex, Vectors
from plain_filters import holds
from random_filters import FIELDS, random_filter, random_metadata
from servers.milvus import milvus_process

FILTERS = int(os.environ.get("LOOKALIKE_TEST_FILTERS", "600"))
HOSTILE = max(400, FILTERS // 10)
ROWS = 200
OTHERS = 100
DIMENSION = 8


def new_collection(team: Team, name: str, fields: Fields) -> Collection:
    return Collection(
        uid=CollectionUid(secrets.token_hex(16)),
        team=team,
        name=name,
        fields=fields,
        backbone="fake",
        fingerprint="fake",
        dimension=DIMENSION,
        metric=Metric.COSINE,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def key(number: int) -> ImageKey:
    return ImageKey(f"{number:032x}")


def vectors(count: int) -> Vectors:
    made: Vectors = np.random.default_rng(0).random((count, DIMENSION), np.float32)
    return made


def filled(
    index: VectorIndex, collection: Collection, held: Sequence[Metadata], first: int = 0
) -> Collection:
    """The collection with a row of each metadata, keys counted on from ``first``."""
    index.create(collection)
    rows = [
        IndexRow(key(first + number), 1, vector, metadata)
        for number, (vector, metadata) in enumerate(
            zip(vectors(len(held)), held, strict=True)
        )
    ]
    index.upsert(collection, rows)
    index.settle(collection)
    assert index.count(collection) == len(held)  # a strong read: now all see them
    return collection


def reader_of(index: VectorIndex) -> VectorIndex:
    """The same index, now that it holds still: strong reads take a server 200 ms."""
    if isinstance(index, MilvusIndex):
        return index.with_consistency("Eventually")
    return index


def found(index: VectorIndex, collection: Collection, condition: Filter) -> set[str]:
    """The keys of all rows that the index selects; more than wanted, if inexact."""
    hits = index.search(collection, vectors(1)[0], ROWS + OTHERS, condition)
    assert len({hit.key for hit in hits}) == len(hits)
    return {hit.key for hit in hits}


@pytest.mark.timeout(max(300, FILTERS))
def test_random_filters_select_the_rows_that_they_describe(index: VectorIndex) -> None:
    source = random.Random(20_260_101)
    held = [random_metadata(source) for _ in range(ROWS)]
    collection = filled(index, new_collection(DEFAULT_TEAM, "one", FIELDS), held)
    reader = reader_of(index)
    telling = 0

    for _ in range(FILTERS):
        raw = random_filter(source)
        condition = parse(raw, FIELDS)
        assert condition is not None
        wanted = {key(n) for n, row in enumerate(held) if holds(raw, row, FIELDS)}
        got = found(reader, collection, condition)
        if not is_exact(condition):
            assert got >= wanted, raw
            got = {one for one in got if matches(condition, held[int(one, 16)])}
        assert got == wanted, raw
        telling += 0 < len(wanted) < ROWS

    assert telling > FILTERS / 3
    index.drop(collection)


@pytest.mark.timeout(900)
def test_hostile_filters_reach_no_rows_of_others(index: VectorIndex) -> None:
    source = random.Random(20_260_102)
    held = [random_metadata(source) for _ in range(ROWS)]
    mine = filled(index, new_collection(Team("a"), "shop", FIELDS), held)
    theirs = [
        filled(index, new_collection(team, name, FIELDS), held[:OTHERS], first)
        for team, name, first in (
            (Team("a"), "other", 1_000),
            (Team("b"), "shop", 2_000),
        )
    ]
    process, reader = milvus_process(), reader_of(index)
    evaluated = 0

    for _ in range(HOSTILE):
        raw = hostile_filter(source)
        try:
            condition = parse(raw, FIELDS)
        except BadFilter:
            continue
        if condition is None:
            continue
        evaluated += 1
        wanted = {key(n) for n, row in enumerate(held) if matches(condition, row)}
        got = found(reader, mine, condition)
        assert got <= {key(n) for n in range(ROWS)}, raw
        assert got == wanted or (got > wanted and not is_exact(condition)), raw

    assert HOSTILE / 4 < evaluated < HOSTILE * 3 / 4
    assert milvus_process() == process
    for collection, rows in ((mine, ROWS), (theirs[0], OTHERS), (theirs[1], OTHERS)):
        assert index.count(collection) == rows
        index.drop(collection)


def test_the_largest_filters_that_are_taken_are_evaluated(index: VectorIndex) -> None:
    source = random.Random(20_260_103)
    held = [random_metadata(source) for _ in range(ROWS)]
    collection = filled(index, new_collection(DEFAULT_TEAM, "one", FIELDS), held)
    reader = reader_of(index)

    for raw in largest_filters():
        condition = parse(raw, FIELDS)
        assert condition is not None
        wanted = {key(n) for n, row in enumerate(held) if holds(raw, row, FIELDS)}
        assert found(reader, collection, condition) == wanted

    index.drop(collection)


def largest_filters() -> Iterator[dict[str, Any]]:
    """Filters that use up a budget each."""
    tests = [{"text": {"$ne": f"{number}"}} for number in range(100)]
    yield {"$or": tests}
    yield {"$and": tests}
    yield {"text": {"$nin": [f"{number}" for number in range(1_000)]}}
    yield {"flag": {"$in": [True, False] * 500}}
    long = ['"' * 1_020 + f"{number:04}" for number in range(1_000)]
    yield {"$or": [{"text": long}, {"tags": ["a"]}]}
    short = [f"{number}" for number in range(1_000)]
    yield {"$or": [{"text": short}] * 9 + [{"tags": short}]}
    either: dict[str, Any] = {"number": 7}
    for depth in range(7):
        either = {("$and", "$or")[depth % 2]: [*tests[:14], either]}
    yield either
    conditions = [{"key": "text", "match": {"value": f"{n}"}} for n in range(4)]
    other: dict[str, Any] = {"must": [{"key": "number", "match": {"value": 7}}]}
    for _ in range(7):
        other = {
            "must_not": conditions,
            "should": [*conditions, other],
            "must": [{"key": "text", "is_null": False}],
        }
    yield other


def test_as_many_fields_as_may_be_declared_can_be_stored(index: VectorIndex) -> None:
    kinds = [*[FieldType.GEO] * 1, *[FieldType.INT] * 29]
    fields = check_fields({f"f{n}": kind for n, kind in enumerate(kinds)})
    assert sum(kind.columns for kind in fields.values()) == MAX_COLUMNS
    place = {"lat": -33.86, "lon": 180.0}

    collection = filled(
        index, new_collection(DEFAULT_TEAM, "wide", fields), [{"f0": place, "f29": 7}]
    )

    edge = {"south": -90, "north": 0, "west": -180, "east": -179}
    condition = parse({"f0": {"$within_box": edge}, "f29": 7}, fields)
    assert condition is not None
    assert found(index, collection, condition) == {key(0)}
    index.drop(collection)
