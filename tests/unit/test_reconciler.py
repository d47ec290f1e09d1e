from __future__ import annotations

import threading

import pytest

from lookalike.errors import LedgerUnavailable
from lookalike.interfaces import Stop
from lookalike.reconciler import LONG_SWEEP, Reconciler

DEADLINE_SECONDS = 10.0


class Sweeps:
    """A ``reconcile`` that answers as it is told, and counts."""

    def __init__(self, *answers: int | Exception) -> None:
        self._answers = list(answers)
        self._swept = threading.Semaphore(0)

    def __call__(self) -> int:
        answer = self._answers.pop(0) if self._answers else 0
        self._swept.release()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def happened(self, times: int) -> bool:
        return all(self._swept.acquire(timeout=DEADLINE_SECONDS) for _ in range(times))


def test_the_first_sweep_is_at_once() -> None:
    sweeps = Sweeps()
    reconciler = Reconciler(sweeps, seconds=3600)

    reconciler.start()

    assert sweeps.happened(1)
    reconciler.stop()


def test_it_sweeps_again_and_again() -> None:
    sweeps = Sweeps()
    reconciler = Reconciler(sweeps, seconds=0.01)

    reconciler.start()

    assert sweeps.happened(5)
    reconciler.stop()


def test_a_long_sweep_is_followed_soon_by_the_next() -> None:
    sweeps = Sweeps(LONG_SWEEP, LONG_SWEEP)
    reconciler = Reconciler(sweeps, seconds=1)

    reconciler.start()

    assert sweeps.happened(3)
    reconciler.stop()


def test_errors_end_nothing_and_an_outage_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outage = [LedgerUnavailable("the database is away") for _ in range(3)]
    sweeps = Sweeps(*outage, RuntimeError("a driver's own"), 0)
    reconciler = Reconciler(sweeps, seconds=0.01)

    reconciler.start()

    assert sweeps.happened(6)
    reconciler.stop()
    assert caplog.text.count("the database is away") == 1
    assert "a driver's own" in caplog.text


def test_it_keeps_house_while_it_sweeps() -> None:
    kept = threading.Semaphore(0)
    sweeps = Sweeps()
    is_told_to_stop = threading.Event()

    def housekeep(stop: Stop) -> None:
        kept.release()
        while not stop():
            is_told_to_stop.wait(0.005)

    reconciler = Reconciler(
        sweeps, seconds=0.01, housekeep=housekeep, housekeeping_seconds=0.01
    )

    reconciler.start()

    assert kept.acquire(timeout=DEADLINE_SECONDS)
    assert sweeps.happened(5)
    reconciler.stop(DEADLINE_SECONDS)


def test_housekeeping_that_fails_is_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tried = threading.Semaphore(0)

    def housekeep(_stop: Stop) -> None:
        tried.release()
        raise LedgerUnavailable("the database is away")

    reconciler = Reconciler(
        Sweeps(), seconds=3600, housekeep=housekeep, housekeeping_seconds=0.01
    )

    reconciler.start()

    assert all(tried.acquire(timeout=DEADLINE_SECONDS) for _ in range(3))
    reconciler.stop()
    assert caplog.text.count("the database is away") == 1
