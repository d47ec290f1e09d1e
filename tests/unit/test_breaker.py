from __future__ import annotations

import math

from lookalike.backends.breaker import Breaker


class Clock:
    """A clock that stands still until it is turned."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_closed_breaker_lets_everyone_through() -> None:
    breaker = Breaker(failures=3)

    breaker.failed()
    breaker.failed()

    assert all(breaker.allows() for _ in range(10))


def test_it_opens_after_failures_in_a_row() -> None:
    breaker = Breaker(failures=3, clock=Clock())

    for _ in range(3):
        breaker.failed()

    assert breaker.is_open
    assert not breaker.allows()


def test_it_opens_at_once_if_there_is_no_doubt() -> None:
    breaker = Breaker(failures=3, clock=Clock())

    breaker.open()

    assert breaker.is_open
    assert not breaker.allows()


def test_one_without_an_interval_lets_no_caller_try() -> None:
    clock = Clock()
    breaker = Breaker(failures=1, seconds=math.inf, clock=clock)
    breaker.failed()

    clock.now += 1e9

    assert not breaker.allows()
    breaker.worked()
    assert breaker.allows()


def test_one_that_worked_begins_the_count_anew() -> None:
    breaker = Breaker(failures=2)

    breaker.failed()
    breaker.worked()
    breaker.failed()

    assert breaker.allows()


def test_an_open_one_lets_one_caller_try_in_each_interval() -> None:
    clock = Clock()
    breaker = Breaker(failures=1, seconds=2, clock=clock)
    breaker.failed()

    clock.now += 2
    allowed = [breaker.allows() for _ in range(5)]

    assert allowed == [True, False, False, False, False]


def test_a_try_that_is_never_reported_does_not_keep_it_open_for_ever() -> None:
    clock = Clock()
    breaker = Breaker(failures=1, seconds=2, clock=clock)
    breaker.failed()

    allowed = []
    for _ in range(3):
        clock.now += 2
        allowed.append(breaker.allows())

    assert allowed == [True, True, True]


def test_a_try_that_worked_closes_it() -> None:
    clock = Clock()
    breaker = Breaker(failures=2, seconds=2, clock=clock)
    breaker.failed()
    breaker.failed()

    clock.now += 2
    assert breaker.allows()
    breaker.worked()

    assert not breaker.is_open
    assert all(breaker.allows() for _ in range(5))


def test_a_try_that_failed_keeps_it_open_for_another_interval() -> None:
    clock = Clock()
    breaker = Breaker(failures=1, seconds=2, clock=clock)
    breaker.failed()
    clock.now += 2
    assert breaker.allows()

    clock.now += 1
    breaker.failed()
    clock.now += 1.5

    assert not breaker.allows()
    clock.now += 0.5
    assert breaker.allows()
