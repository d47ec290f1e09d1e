"""How a search is planned, where a real engine would have to be made to fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from lookalike.backends.milvus_counts import KEPT, Counts
from lookalike.backends.milvus_filter import KEY
from lookalike.backends.milvus_kinds import Arrangement
from lookalike.backends.milvus_reader import MOST_ROWS, Answer, ranked
from lookalike.backends.milvus_rows import GEN
from lookalike.backends.milvus_search import SPARE, Nearest
from lookalike.collections import IndexKind, Metric
from lookalike.interfaces import ImageKey, StoredVector, Vectors

HNSW = Arrangement(IndexKind.HNSW, {"M": 16, "efConstruction": 200}, is_lite=False)
QUERY = np.asarray([[1.0, 0.0]], dtype=np.float32)
WHERE = "(kept)"


@dataclass
class Forgetful:
    """A reader of an index that never finds some of its rows.

    Attributes:
        rows_there: how many rows there are; row n has score 1 - n / 100,000.
        kept: those that satisfy the filter.
        lost: those that the index does not find.
        old_count: what is said when a count may be old.
    """

    rows_there: int
    kept: range
    lost: frozenset[int] = frozenset()
    old_count: int | None = None
    arranged: Arrangement = HNSW
    asked: list[tuple[str, int]] = field(default_factory=list)
    most_rows: int = MOST_ROWS

    def estimate(self, expression: str) -> int:
        if expression and self.old_count is not None:
            return self.old_count
        return self.count(expression)

    def count(self, expression: str) -> int:
        return len(self._which(expression))

    def nearest(
        self,
        queries: Vectors,
        limit: int,
        expression: str,
        effort: dict[str, int],
        wanted: int,
    ) -> list[Answer]:
        self.asked.append((expression, limit))
        found = [n for n in self._which(expression) if n not in self.lost][:limit]
        rows = [(_key(n), 1, 1 - n / 100_000) for n in found]
        return [Answer(ranked(rows, wanted), len(found)) for _ in queries]

    def rows(self, fields: list[str], **which: Any) -> list[Any]:
        return [{KEY: _key(n), GEN: 1} for n in self._which(which["filter"])]

    def vectors(self, keys: Sequence[str]) -> dict[ImageKey, StoredVector]:
        return {ImageKey(key): StoredVector(1, _vector(_number(key))) for key in keys}

    def _which(self, expression: str) -> Sequence[int]:
        found: Sequence[int] = self.kept if WHERE in expression else self.all
        if " in [" in expression:
            found = [n for n in found if f'"{_key(n)}"' in expression]
        elif ">=" in expression:
            first = expression.split(f'{KEY} >= "')[1][0]
            found = [n for n in found if _key(n)[0] == first]
        return found

    @property
    def all(self) -> range:
        return range(self.rows_there)


def _key(number: int) -> str:
    return f"{number % 16:x}{number:031x}"


def _number(key: str) -> int:
    return int(key[1:], 16)


def _vector(number: int) -> Any:
    cosine = 1 - number / 100_000
    return np.asarray([cosine, np.sqrt(1 - cosine**2)], dtype=np.float32)


def find(reader: Forgetful, limit: int = 10, expression: str = WHERE) -> list[int]:
    nearest = Nearest(reader, QUERY, limit, Metric.COSINE)  # type: ignore[arg-type]
    (hits,) = nearest.find(expression)
    return [_number(hit.key) for hit in hits]


def test_rows_that_the_index_does_not_find_are_compared_one_by_one() -> None:
    reader = Forgetful(1_000, range(100, 400, 3), lost=frozenset({100, 106}))

    assert find(reader) == list(range(100, 130, 3))


def test_a_search_without_a_filter_misses_none_that_are_asked_for() -> None:
    reader = Forgetful(8, range(0), lost=frozenset({2, 5}))

    assert find(reader, expression="") == list(range(8))


def test_no_more_rows_than_five_thousand_are_compared_one_by_one() -> None:
    lost = frozenset(range(0, 60_000, 9))
    some = Forgetful(60_000, range(40_000, 44_000), lost=lost)
    many = Forgetful(60_000, range(40_000, 46_000), lost=lost)

    assert find(some) == list(range(40_000, 40_010))
    assert find(many) == [n for n in range(40_000, 40_012) if n not in lost][:10]


def test_few_rows_are_all_asked_for_and_proven_complete() -> None:
    reader = Forgetful(1_000, range(0, 900, 3))

    assert find(reader) == list(range(0, 30, 3))
    assert reader.asked == [(WHERE, 300 + SPARE)]


def test_an_old_count_that_is_too_low_is_noticed() -> None:
    reader = Forgetful(1_000, range(300), old_count=0)

    assert find(reader) == list(range(10))
    assert [limit for _, limit in reader.asked] == [SPARE, 300 + SPARE]


def test_an_old_count_that_is_too_high_costs_no_comparing() -> None:
    reader = Forgetful(1_000, range(7), old_count=500)

    assert find(reader) == list(range(7))
    assert len(reader.asked) == 1


def test_a_filter_that_keeps_many_is_sifted_from_the_nearest() -> None:
    reader = Forgetful(100_000, range(0, 100_000, 10))

    assert find(reader) == list(range(0, 100, 10))
    assert [expression for expression, _ in reader.asked] == [""]


def test_half_of_a_filter_far_from_the_query_is_asked_for() -> None:
    reader = Forgetful(100_000, range(80_000, 100_000))

    assert find(reader) == list(range(80_000, 80_010))
    assert reader.asked[1:] == [(WHERE, 10_000 + SPARE)]


def test_very_many_rows_far_from_the_query_are_asked_for_in_parts() -> None:
    reader = Forgetful(100_000, range(60_000, 100_000))

    assert find(reader) == list(range(60_000, 60_010))
    assert len(reader.asked) == 1 + 16
    assert all(limit == 10 for _, limit in reader.asked[1:])


def test_most_of_all_rows_are_left_to_the_index() -> None:
    reader = Forgetful(10_000, range(2_000, 10_000))

    assert find(reader) == list(range(2_000, 2_010))
    assert reader.asked == [(WHERE, 10)]


def test_an_index_that_compares_everything_is_asked_once() -> None:
    flat = Arrangement(IndexKind.FLAT, {}, is_lite=False)
    reader = Forgetful(1_000, range(50), arranged=flat)

    assert find(reader) == list(range(10))
    assert reader.asked == [(WHERE, 10)]


def test_more_lists_are_probed_where_a_filter_keeps_less() -> None:
    lists = Arrangement(IndexKind.IVF_FLAT, {"nlist": 1_024}, is_lite=False)

    probed = [lists.effort(10, share)["nprobe"] for share in (1.0, 0.5, 0.125, 0.0)]

    assert probed == [128, 256, 1_024, 1_024]


@pytest.mark.parametrize("kind", IndexKind)
def test_every_kind_is_asked_for_at_least_as_many_as_it_shall_give(
    kind: IndexKind,
) -> None:
    arranged = Arrangement(kind, {"nlist": 64}, is_lite=False)

    for name, value in arranged.effort(16_384).items():
        assert value >= (8 if name == "nprobe" else 16_384), name


def test_a_count_is_remembered_for_a_moment_only() -> None:
    asked: list[int] = []

    def ask() -> int:
        asked.append(1)
        return len(asked)

    lasting, fleeting = Counts(keep_seconds=60), Counts(keep_seconds=0)

    assert [lasting.get("a", "x", ask) for _ in range(3)] == [1, 1, 1]
    assert [fleeting.get("a", "x", ask) for _ in range(2)] == [2, 3]
    assert lasting.get("b", "x", ask) == 4


def test_no_more_counts_are_remembered_than_a_thousand() -> None:
    counts = Counts(keep_seconds=60)
    for number in range(KEPT + 1):
        counts.put("a", str(number), number)

    assert counts.get("a", str(KEPT), lambda: -1) == KEPT
    assert counts.get("a", "0", lambda: -1) == -1
