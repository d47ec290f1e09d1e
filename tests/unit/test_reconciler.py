from __future__ import annotations

import threading

import pytest

from lookalike.errors import LedgerUnavailable
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
