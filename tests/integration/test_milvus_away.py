"""A real Milvus server that hangs or dies, and what searches answer meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from lookalike.backends.milvus import MilvusIndex
from lookalike.collections import DEFAULT_TEAM, Collection, CollectionUid, Metric
from lookalike.errors import IndexUnavailable
from lookalike.interfaces import ImageKey, IndexRow
from servers.milvus import MilvusServer, ServerMissing, running_milvus

pytestmark = [pytest.mark.milvus_server, pytest.mark.timeout(600)]

SEARCH_SECONDS = 2.0  # the deadline of a search
OPEN_SECONDS = 0.1  # an answer while the breaker is open
BACK_SECONDS = 240.0  # a killed Milvus takes up to minutes until it searches again
VECTOR = np.eye(1, 8, dtype=np.float32)[0]
MADE = Collection(
    uid=CollectionUid("0123456789abcdef"),
    team=DEFAULT_TEAM,
    name="things",
    fields={},
    backbone="fake",
    fingerprint="fake",
    dimension=8,
    metric=Metric.COSINE,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
)


@pytest.fixture(scope="module")
def server() -> Iterator[MilvusServer]:
    try:
        with running_milvus() as started:
            yield started
    except ServerMissing as reason:
        pytest.skip(f"no Milvus server: {reason}")


@pytest.fixture
def index(server: MilvusServer) -> Iterator[MilvusIndex]:
    made = MilvusIndex(server.uri, consistency="Strong")
    made.create(MADE)
    made.upsert(MADE, [IndexRow(ImageKey("1" * 32), 1, VECTOR, {})])
    assert finds(made)
    yield made
    made.close()


def finds(index: MilvusIndex) -> bool:
    try:
        return len(index.search(MADE, VECTOR, 1)) == 1
    except IndexUnavailable:
        return False


def seconds_to_fail(call: Callable[[], object]) -> float:
    started = time.monotonic()
    with pytest.raises(IndexUnavailable):
        call()
    return time.monotonic() - started


def seconds_until(is_true: Callable[[], bool], within: float) -> float:
    started = time.monotonic()
    while not is_true():
        assert time.monotonic() - started < within
        threading.Event().wait(0.1)
    return time.monotonic() - started


def freeze(server: MilvusServer) -> None:
    """Stop it; its threads take a moment to do so."""
    server.freeze()
    assert seconds_until(lambda: not server.is_healthy, 10) < 10


def test_while_it_hangs_searches_fail_fast_and_go_on_when_it_answers(
    server: MilvusServer, index: MilvusIndex
) -> None:
    freeze(server)
    try:
        with ThreadPoolExecutor(16) as pool:  # as many as requests are answered at once
            calls = [lambda: index.search(MADE, VECTOR, 1)] * 16
            first = list(pool.map(seconds_to_fail, calls))
            after = list(pool.map(seconds_to_fail, calls * 10))
        stored = seconds_to_fail(lambda: index.vectors(MADE, [ImageKey("1" * 32)]))
        written = seconds_to_fail(lambda: index.delete(MADE, [ImageKey("2" * 32)]))
        threads = threading.active_count()
    finally:
        server.thaw()

    assert max(first) < SEARCH_SECONDS + 1
    assert max(after) < OPEN_SECONDS
    assert max(stored, written) < OPEN_SECONDS
    assert threads < 32
    assert seconds_until(lambda: finds(index), 10) < 10


def test_a_write_to_one_that_hangs_does_not_wait_for_its_long_deadline(
    server: MilvusServer, index: MilvusIndex
) -> None:
    row = IndexRow(ImageKey("1" * 32), 2, VECTOR, {})
    assert seconds_until(lambda: finds(index), 10) < 10
    threading.Event().wait(1.1)  # until its last answer says nothing about now
    freeze(server)
    try:
        taken = seconds_to_fail(lambda: index.upsert(MADE, [row]))
    finally:
        server.thaw()

    assert taken < SEARCH_SECONDS + 1


def test_one_built_while_it_hangs_connects_by_itself_later(
    server: MilvusServer, index: MilvusIndex
) -> None:
    other = MilvusIndex(server.uri)
    freeze(server)
    try:
        with ThreadPoolExecutor(16) as pool:
            calls = [lambda: other.search(MADE, VECTOR, 1)] * 16
            first = list(pool.map(seconds_to_fail, calls))
        again = seconds_to_fail(lambda: other.search(MADE, VECTOR, 1))
    finally:
        server.thaw()

    assert max(first) < SEARCH_SECONDS + 1
    assert again < OPEN_SECONDS
    assert seconds_until(lambda: finds(other), 10) < 10
    other.close()


def test_after_a_kill_it_is_found_again_without_a_restart(
    server: MilvusServer, index: MilvusIndex
) -> None:
    slowest = 0.0

    def search() -> bool:
        nonlocal slowest
        started = time.monotonic()
        found = finds(index)
        slowest = max(slowest, time.monotonic() - started)
        return found

    server.kill()
    down = [seconds_to_fail(lambda: index.search(MADE, VECTOR, 1)) for _ in range(20)]
    new = MADE if not down else replace(MADE, uid=CollectionUid("fedcba9876543210"))
    created = seconds_to_fail(lambda: index.create(new))
    server.spawn()
    back = seconds_until(search, BACK_SECONDS)

    print(f"down {max(down):.3f} s at most, back after {back:.1f} s, {slowest:.2f} s")
    assert max(down[3:]) < OPEN_SECONDS
    assert max(down) < SEARCH_SECONDS + 1
    assert created < OPEN_SECONDS
    assert slowest < 2 * SEARCH_SECONDS + 1
