from __future__ import annotations

import threading
from collections.abc import Sequence

from lookalike.backends.threads import ThreadQueue
from lookalike.interfaces import WorkId

DEADLINE_SECONDS = 10.0


class Desk:
    """A handler that holds every chunk until it is told to go on."""

    def __init__(self) -> None:
        self.chunks: list[list[WorkId]] = []
        self.go = threading.Event()
        self._begun = threading.Semaphore(0)
        self.ended = 0

    def handle(self, ids: Sequence[WorkId]) -> None:
        self.chunks.append(list(ids))
        self._begun.release()
        self.go.wait(DEADLINE_SECONDS)
        self.ended += 1

    def begun(self, times: int) -> bool:
        return all(self._begun.acquire(timeout=DEADLINE_SECONDS) for _ in range(times))


def ids(*numbers: int) -> list[WorkId]:
    return [WorkId(number) for number in numbers]


def test_idle_workers_share_a_chunk_evenly() -> None:
    desk = Desk()
    queue = ThreadQueue(desk.handle, workers=2, chunk_images=32)

    queue.ring(ids(*range(32)))

    assert desk.begun(2)
    assert sorted(map(len, desk.chunks)) == [16, 16]
    desk.go.set()
    queue.close()


def test_small_rings_become_one_chunk_while_workers_are_busy() -> None:
    desk = Desk()
    queue = ThreadQueue(desk.handle, workers=1, chunk_images=32)
    queue.ring(ids(0))
    assert desk.begun(1)

    for number in range(1, 11):
        queue.ring(ids(number))
    desk.go.set()

    assert desk.begun(1)
    assert desk.chunks[1] == list(range(1, 11))
    queue.close()


def test_work_that_waits_already_is_not_taken_twice() -> None:
    desk = Desk()
    queue = ThreadQueue(desk.handle, workers=1, chunk_images=32)
    queue.ring(ids(0))
    assert desk.begun(1)

    queue.ring(ids(1, 2))
    queue.ring(ids(2, 1))
    desk.go.set()

    assert desk.begun(1)
    assert desk.chunks[1] == [1, 2]
    queue.close()


def test_closing_waits_for_what_runs_and_starts_nothing_more() -> None:
    desk = Desk()
    queue = ThreadQueue(desk.handle, workers=1, chunk_images=1)
    queue.ring(ids(1, 2, 3))
    assert desk.begun(1)
    threading.Timer(0.1, desk.go.set).start()

    queue.close()

    assert desk.ended == 1
    assert desk.chunks == [[1]]


def test_closing_does_not_wait_longer_than_it_may() -> None:
    desk = Desk()
    queue = ThreadQueue(desk.handle, workers=1, chunk_images=1)
    queue.ring(ids(1))
    assert desk.begun(1)

    queue.close(timeout=0.05)

    assert desk.ended == 0
    desk.go.set()
