"""That no team waits behind another's flood, and that one process sweeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from fakes import FakeEmbedder, MemoryIndex
from ledgers import (
    a_collection,
    a_failure,
    an_hour_passes,
    done,
    failed,
    ids,
    images,
    index_all,
    opened,
)
from lookalike.backends.blobs import DirectoryBlobs
from lookalike.backends.ledger import SqlLedger
from lookalike.collections import Collection, Team
from lookalike.images import Limits
from lookalike.ingest import index_images
from lookalike.interfaces import Accepted, Backlog, ImageId, Work

LOUD, QUIET, THIRD = Team("loud"), Team("quiet"), Team("third")


@pytest.fixture
def shops(ledger: SqlLedger) -> dict[Team, Collection]:
    shops = {team: a_collection(team=team) for team in (LOUD, QUIET, THIRD)}
    for shop in shops.values():
        ledger.create_collection(shop)
    return shops


def accept(ledger: SqlLedger, shop: Collection, count: int) -> Accepted:
    return ledger.accept(shop, images(*(f"{n:05}" for n in range(count))))


def teams(works: Sequence[Work]) -> Counter[Team]:
    """How much of it is of each team."""
    return Counter(work.collection.team for work in works)


# --- claiming ------------------------------------------------------------------------


def test_the_room_of_a_message_is_shared_with_who_waits(
    ledger: SqlLedger, shops: dict[Team, Collection]
) -> None:
    flood = accept(ledger, shops[LOUD], 100)
    accept(ledger, shops[QUIET], 100)

    claimed = ledger.claim(flood.work[:20])

    assert teams(claimed) == {LOUD: 10, QUIET: 10}


def test_what_came_first_is_taken_first(
    ledger: SqlLedger, shops: dict[Team, Collection]
) -> None:
    flood = accept(ledger, shops[LOUD], 100)
    waiting = accept(ledger, shops[QUIET], 100)

    claimed = ledger.claim(flood.work[40:60])

    assert set(ids(claimed)) == {*flood.work[40:50], *waiting.work[:10]}


def test_room_that_others_do_not_need_is_not_left_empty(
    ledger: SqlLedger, shops: dict[Team, Collection]
) -> None:
    flood = accept(ledger, shops[LOUD], 100)
    accept(ledger, shops[QUIET], 2)
    accept(ledger, shops[THIRD], 3)

    claimed = ledger.claim(flood.work[:20])

    assert teams(claimed) == {LOUD: 15, QUIET: 2, THIRD: 3}


def test_a_message_with_room_for_one_is_worth_one(
    ledger: SqlLedger, shops: dict[Team, Collection]
) -> None:
    flood = accept(ledger, shops[LOUD], 10)
    accept(ledger, shops[QUIET], 10)

    claimed = ledger.claim(flood.work[:1])

    assert ids(claimed) == flood.work[:1]


def test_what_gave_up_its_place_is_due_at_once(
    ledger: SqlLedger, shops: dict[Team, Collection]
) -> None:
    flood = accept(ledger, shops[LOUD], 20)
    accept(ledger, shops[QUIET], 5)

    claimed = ledger.claim(flood.work)

    taken = set(ids(claimed))
    assert set(ledger.due(100)) == set(flood.work) - taken
    assert len(taken) == 20


def test_a_message_whose_work_others_did_serves_whoever_waits(
    ledger: SqlLedger, shops: dict[Team, Collection]
) -> None:
    small = accept(ledger, shops[QUIET], 4)
    index_all(ledger, small)
    accept(ledger, shops[LOUD], 10)
    accept(ledger, shops[THIRD], 10)

    claimed = ledger.claim(small.work)

    assert teams(claimed) == {LOUD: 2, THIRD: 2}


def test_while_one_team_waits_a_message_is_for_what_it_names(
    ledger: SqlLedger, shops: dict[Team, Collection]
) -> None:
    small = accept(ledger, shops[QUIET], 4)
    index_all(ledger, small)
    accept(ledger, shops[LOUD], 10)

    assert ledger.claim(small.work) == []


def test_work_that_is_held_or_delayed_takes_no_room(
    ledger: SqlLedger, shops: dict[Team, Collection]
) -> None:
    flood = accept(ledger, shops[LOUD], 20)
    waiting = accept(ledger, shops[QUIET], 5)
    accept(ledger, shops[THIRD], 5)
    held = ledger.claim(waiting.work)
    ledger.release([work.id for work in held if work.collection.team == THIRD], 3600)
    first = teams(held)

    claimed = ledger.claim(flood.work)

    assert set(ids(claimed)).isdisjoint(ids(held))
    assert teams(claimed)[QUIET] == 5 - first[QUIET]
    assert teams(claimed)[THIRD] == 5 - first[THIRD]


def test_all_work_ends_however_it_is_shared(
    ledger: SqlLedger, later: SqlLedger, shops: dict[Team, Collection]
) -> None:
    accepted = [
        accept(ledger, shops[team], count)
        for team, count in ((LOUD, 70), (QUIET, 7), (THIRD, 23))
    ]
    seen: Counter[int] = Counter()

    while rung := later.due(16):
        claimed = ledger.claim(rung)
        seen.update(ids(claimed))
        ledger.finish(done(claimed))

    assert seen == Counter(work for one in accepted for work in one.work)
    assert not ledger.has_pending()


def test_an_image_of_another_team_comes_once_at_a_time(
    ledger: SqlLedger, shops: dict[Team, Collection]
) -> None:
    ledger.accept(shops[QUIET], images("a"))
    held = ledger.claim(ledger.accept(shops[QUIET], images("b")).work)
    ledger.delete_images(shops[QUIET], [ImageId("a")])
    flood = accept(ledger, shops[LOUD], 20)

    claimed = ledger.claim(flood.work)

    keys = [work.key for work in claimed]
    assert len(keys) == len(set(keys))
    assert [work.image_id for work in claimed if work.collection.team == QUIET] == ["a"]
    assert held


def test_suspects_are_tried_alone_all_the_same(
    later: SqlLedger, shops: dict[Team, Collection]
) -> None:
    poison = accept(later, shops[QUIET], 2)
    for _attempt in range(2):
        later.claim(poison.work)
    flood = accept(later, shops[LOUD], 10)

    alone = later.claim(poison.work)
    others = later.claim(flood.work)

    assert len(alone) == 1
    assert teams(others) == {LOUD: 10}


def test_each_of_many_teams_gets_something_of_its_own_message(
    ledger: SqlLedger,
) -> None:
    many = [a_collection(team=Team(f"team{n:02}")) for n in range(40)]
    accepted = []
    for shop in many:
        ledger.create_collection(shop)
        accepted.append(accept(ledger, shop, 2))

    claims = [ledger.claim(one.work) for one in accepted]

    counts = teams([work for claimed in claims for work in claimed])
    assert counts.keys() == {shop.team for shop in many}
    assert max(counts.values()) <= 2


def test_a_message_is_over_when_as_much_was_done_as_it_names(
    ledger: SqlLedger, shops: dict[Team, Collection], tmp_path: Path
) -> None:
    index = MemoryIndex()
    deletions = []
    for shop in shops.values():
        index.create(shop)
        accepted = accept(ledger, shop, 40)
        names = [work.image_id for work in index_all(ledger, accepted)]
        deletions.append((shop, names))
    flood, *_ = [ledger.delete_images(shop, names) for shop, names in deletions]

    index_images(
        *(ledger, DirectoryBlobs(tmp_path), FakeEmbedder(), index, flood.work[:20]),
        limits=Limits(),
    )

    assert ledger.pending() == 3 * 40 - 20
    assert ledger.backlog(QUIET).team < 40


# --- sweeping ------------------------------------------------------------------------


def test_teams_take_turns_when_work_is_rung_for_again(
    later: SqlLedger, shops: dict[Team, Collection]
) -> None:
    flood = accept(later, shops[LOUD], 100)
    small = accept(later, shops[QUIET], 3)

    rung = later.due(10)

    assert set(rung) == {*flood.work[:7], *small.work}
    assert len(set(rung[:6]) & set(small.work)) == 3  # one after the other


def test_what_a_team_leaves_of_its_share_goes_to_the_others(
    later: SqlLedger, shops: dict[Team, Collection]
) -> None:
    accept(later, shops[LOUD], 100)
    accept(later, shops[QUIET], 1)
    accept(later, shops[THIRD], 60)

    works = later.claim(later.due(100))

    counts = teams(works)
    assert len(works) == 100
    assert counts[QUIET] == 1
    assert 45 <= counts[LOUD] <= 54


def test_only_one_ledger_sweeps(url: str, shops: dict[Team, Collection]) -> None:
    with (
        opened(url, ring_again_seconds=0, sweep_lease_seconds=30) as first,
        opened(url, ring_again_seconds=0, sweep_lease_seconds=30) as second,
    ):
        accepted = accept(first, shops[LOUD], 4)

        assert first.due(1) == accepted.work[:1]
        assert second.due(1) == []
        assert first.due(1) == accepted.work[1:2]


def test_another_sweeps_when_the_one_that_did_is_gone(
    url: str, shops: dict[Team, Collection]
) -> None:
    with opened(url, sweep_lease_seconds=30) as gone:
        accepted = accept(gone, shops[LOUD], 1)
        gone.due(1)
    an_hour_passes(url)

    with opened(url, sweep_lease_seconds=30) as other:
        assert other.due(1) == accepted.work


def test_the_only_process_sweeps_at_once_after_a_restart(
    url: str, shops: dict[Team, Collection]
) -> None:
    with opened(url, sweep_lease_seconds=30) as gone:
        accepted = accept(gone, shops[LOUD], 1)
        gone.due(1)

    with opened(url, sweep_lease_seconds=30) as other:
        other.recover()

        assert other.due(1) == accepted.work


# --- the backlog ---------------------------------------------------------------------


def test_the_backlog_is_what_waits_of_a_team_and_of_all(
    ledger: SqlLedger, shops: dict[Team, Collection]
) -> None:
    assert ledger.backlog(LOUD) == Backlog(team=0, all=0)
    flood = ledger.accept(shops[LOUD], images("a", "b", "c"), [a_failure(3)])
    accept(ledger, shops[QUIET], 2)

    claimed = ledger.claim(flood.work[:1])
    held = ledger.backlog(LOUD)
    ledger.finish(done(claimed))

    assert held == Backlog(team=3, all=5)
    assert ledger.backlog(QUIET).all == 5 - 1
    assert ledger.backlog(THIRD) == Backlog(team=0, all=4)


def test_repairs_and_refused_images_are_no_backlog(
    ledger: SqlLedger, shops: dict[Team, Collection]
) -> None:
    accepted = ledger.accept(shops[LOUD], images("a", "b"), [a_failure(2)])
    works = ledger.claim(accepted.work)
    ledger.finish(done(works[:1]) + failed(works[1:]))

    assert len(ledger.repair(shops[LOUD], [works[0].key])) == 1

    assert ledger.backlog(LOUD) == Backlog(team=0, all=0)
    assert ledger.has_pending()


def test_an_open_request_is_backlog_for_what_it_has_brought(
    ledger: SqlLedger, shops: dict[Team, Collection]
) -> None:
    ledger.accept(shops[LOUD], images("a", "b"), more=True)

    assert ledger.backlog(LOUD).team == 2
