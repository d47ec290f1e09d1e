from __future__ import annotations

import pytest

from lookalike.admission import Admission, Capacity
from lookalike.collections import Team
from lookalike.errors import Overloaded, StorageFull
from lookalike.interfaces import Backlog, BlobStore, Ledger

TEAM = Team("us")
CAPACITY = Capacity(
    max_pending_images=10, max_pending_images_per_team=5, min_free_bytes=1_000
)


class Parts:
    """A ledger's backlog and a disk's room, as a test sets them."""

    def __init__(self) -> None:
        self.waiting = Backlog(team=0, all=0)
        self.free = 1_000
        self.looked = 0
        self.now = 0.0

    def backlog(self, team: Team) -> Backlog:
        assert team == TEAM
        return self.waiting

    def free_bytes(self) -> int:
        self.looked += 1
        return self.free


@pytest.fixture
def parts() -> Parts:
    return Parts()


@pytest.fixture
def admission(parts: Parts) -> Admission:
    ledger: Ledger = parts  # type: ignore[assignment]
    blobs: BlobStore = parts  # type: ignore[assignment]
    return Admission(ledger, blobs, CAPACITY, clock=lambda: parts.now)


def test_images_may_come_while_there_is_room(
    admission: Admission, parts: Parts
) -> None:
    parts.waiting = Backlog(team=4, all=9)

    admission.check(TEAM)


def test_a_team_at_its_limit_is_refused_with_the_limit(
    admission: Admission, parts: Parts
) -> None:
    parts.waiting = Backlog(team=5, all=5)

    with pytest.raises(Overloaded) as caught:
        admission.check(TEAM)

    assert caught.value.extra == {"pending": 5, "limit": 5}
    assert caught.value.retryable


def test_a_team_is_not_told_how_much_the_others_sent(
    admission: Admission, parts: Parts
) -> None:
    parts.waiting = Backlog(team=0, all=17)

    with pytest.raises(Overloaded) as caught:
        admission.check(TEAM)

    assert caught.value.extra == {"limit": 10}
    assert "17" not in caught.value.detail


def test_a_disk_that_is_nearly_full_refuses_by_its_setting(
    admission: Admission, parts: Parts
) -> None:
    parts.free = 999

    with pytest.raises(StorageFull, match="LOOKALIKE_MIN_FREE_BYTES") as caught:
        admission.check(TEAM)

    assert (caught.value.code, caught.value.retryable) == ("storage_full", True)


def test_work_on_originals_that_are_kept_needs_no_room(
    admission: Admission, parts: Parts
) -> None:
    parts.free = 0

    admission.check_backlog(TEAM)


def test_the_disk_is_looked_at_once_a_second(
    admission: Admission, parts: Parts
) -> None:
    for moment in (0.0, 0.5, 0.99):
        parts.now = moment
        admission.check(TEAM)
    assert parts.looked == 1

    parts.free, parts.now = 0, 1.0
    with pytest.raises(StorageFull):
        admission.check(TEAM)

    assert parts.looked == 2
