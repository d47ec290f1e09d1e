"""That keys, retries, cancelling, fair claiming and pruning are exact under threads."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import pytest

from ledger_workers import Index, at_once
from ledgers import (
    a_collection,
    an_hour_passes,
    an_image,
    days_pass,
    done,
    execute,
    failed,
    ids,
    images,
    index_all,
    opened,
)
from lookalike.backends.ledger import SqlLedger
from lookalike.backends.ledger_database import Database
from lookalike.backends.ledger_locks import hold_collections
from lookalike.collections import DEFAULT_TEAM, Collection, Team
from lookalike.errors import IdempotencyInUse, JobNotFound, NothingToRetry
from lookalike.interfaces import (
    Accepted,
    Idempotency,
    ImageId,
    ImageState,
    Job,
    WorkId,
)

KEY = Idempotency("request-1", "digest-1")
UNENDING = Idempotency("request-1", None)  # a part, before the digest is known


# --- keys ----------------------------------------------------------------------------


@pytest.mark.parametrize("round_", range(5))
def test_one_key_sent_by_many_at_once_makes_one_job(
    ledger: SqlLedger, shop: Collection, round_: int
) -> None:
    names = [f"{round_}-{n}" for n in range(40)]

    def send(seed: int) -> Accepted:
        some = random.Random(seed).sample(names, 40)
        return ledger.accept(shop, images(*some), idempotency=KEY)

    answers = at_once([partial(send, seed) for seed in range(8)])

    assert [answer.replayed for answer in answers].count(False) == 1
    assert len({answer.job.id for answer in answers}) == 1
    assert sum(len(answer.work) for answer in answers) == 40
    assert len(ledger.jobs(DEFAULT_TEAM, None, 10)) == 1


def test_of_many_long_requests_with_one_key_one_goes_on(
    ledger: SqlLedger, shop: Collection
) -> None:
    def send() -> Accepted | None:
        try:
            return ledger.accept(shop, images("a"), more=True, idempotency=UNENDING)
        except IdempotencyInUse:
            return None

    answers = [answer for answer in at_once([send] * 8) if answer is not None]

    assert len(answers) == 1
    assert len(ledger.jobs(DEFAULT_TEAM, None, 10)) == 1


@pytest.mark.parametrize("round_", range(5))
def test_a_key_is_taken_over_by_one_of_many(
    url: str, ledger: SqlLedger, shop: Collection, round_: int
) -> None:
    silent = ledger.accept(shop, images("a"), more=True, idempotency=UNENDING)
    execute(url, "UPDATE job SET touched_at = touched_at - 61")

    def send(seed: int) -> Accepted:
        some = images(*(f"{round_}-{seed}-{n}" for n in range(20)))
        return ledger.accept(shop, some, idempotency=KEY)

    answers = at_once([partial(send, seed) for seed in range(8)])

    assert [answer.replayed for answer in answers].count(False) == 1
    assert len({answer.job.id for answer in answers}) == 1
    assert answers[0].job.id != silent.job.id


def test_a_key_is_taken_over_by_one_of_many_while_its_request_wakes_up(
    url: str, ledger: SqlLedger, shop: Collection
) -> None:
    silent = ledger.accept(shop, images("a"), more=True, idempotency=UNENDING)
    execute(url, "UPDATE job SET touched_at = touched_at - 61")

    def wake_up() -> Accepted | None:
        try:
            part = partial(ledger.accept, shop, images("b"), job=silent.job.id)
            return part(idempotency=KEY)
        except JobNotFound:
            return None

    def send() -> Accepted | None:
        return ledger.accept(shop, images("a", "b"), idempotency=KEY)

    tasks = [wake_up, *[send] * 6]
    awake, *answers = at_once(tasks)

    taken_over = [one for one in answers if one is not None and not one.replayed]
    assert len(taken_over) == (1 if awake is None else 0)
    winner = taken_over[0] if awake is None else awake
    assert {one.job.id for one in answers if one is not None} == {winner.job.id}
    an_hour_passes(url)
    Index(ledger).work_off()
    jobs = ledger.jobs(DEFAULT_TEAM, None, 10)
    assert all(job.finished_at is not None for job in jobs)


# --- retry and cancel ----------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_a_retry_and_other_requests_for_the_same_images_all_end(
    url: str, ledger: SqlLedger, shop: Collection, seed: int
) -> None:
    names = [f"{n}" for n in range(60)]
    first = ledger.accept(shop, images(*names))
    ends = failed(ledger.claim(first.work), "too_slow")
    ledger.finish([replace(end, retryable=True) for end in ends])
    chance = random.Random(seed)
    index = Index(ledger)

    def retry() -> int:
        try:
            accepted = ledger.retry(DEFAULT_TEAM, first.job.id)
        except NothingToRetry:
            return 0
        index.do(ledger.claim(accepted.work))
        return accepted.job.total

    def ingest(some: list[str]) -> int:
        entries = [an_image(one, content=f"new {one}") for one in some]
        index.do(ledger.claim(ledger.accept(shop, entries).work))
        return 0

    def delete(some: list[str]) -> int:
        known = [ImageId(one) for one in some]
        index.do(ledger.claim(ledger.delete_images(shop, known).work))
        return 0

    tasks: list[Callable[[], int]] = [retry, retry, retry]
    tasks += [partial(ingest, chance.sample(names, 30)) for _ in range(2)]
    tasks += [partial(delete, chance.sample(names, 10))]
    retried = at_once(tasks)

    an_hour_passes(url)
    index.work_off()
    index.check(shop)
    assert sum(retried) <= 60  # none of them twice
    jobs = ledger.jobs(DEFAULT_TEAM, None, 100)
    assert all(job.pending == 0 and job.finished_at for job in jobs)
    assert ledger.job(DEFAULT_TEAM, first.job.id).failed == 60
    counts = ledger.image_counts(shop)
    assert counts[ImageState.FAILED] == counts[ImageState.PENDING] == 0


def test_what_a_worker_holds_is_not_cancelled_under_it(
    ledger: SqlLedger, shop: Collection
) -> None:
    accepted = ledger.accept(shop, images(*(f"{n}" for n in range(200))))
    chunks = [accepted.work[start : start + 10] for start in range(0, 200, 10)]
    finished: list[int] = []

    def work(mine: list[list[WorkId]]) -> None:
        for chunk in mine:
            claimed = ledger.claim(chunk)
            ledger.finish(done(claimed))
            finished.append(len(claimed))

    def cancel() -> None:
        ledger.cancel(DEFAULT_TEAM, accepted.job.id)

    workers: list[Callable[[], None]] = [partial(work, chunks[n::4]) for n in range(4)]
    at_once([*workers, cancel, cancel])

    job = ledger.job(DEFAULT_TEAM, accepted.job.id)
    assert (job.done, job.pending) == (sum(finished), 0)
    assert job.failed == 200 - job.done
    assert job.finished_at is not None
    counts = ledger.image_counts(shop)
    assert counts[ImageState.INDEXED] == job.done
    assert counts[ImageState.FAILED] == job.failed


# --- fair claiming -------------------------------------------------------------------


def test_work_shared_among_teams_is_handed_out_once(ledger: SqlLedger) -> None:
    shops = [a_collection(team=Team(f"team{n}")) for n in range(4)]
    accepted = []
    for shop, count in zip(shops, (200, 40, 8, 1), strict=True):
        ledger.create_collection(shop)
        names = images(*(f"{n:04}" for n in range(count)))
        accepted.append(ledger.accept(shop, names))
    every = [work for one in accepted for work in one.work]

    def worker(seed: int) -> list[WorkId]:
        chance = random.Random(seed)
        taken = []
        for _message in range(6):
            taken += ids(ledger.claim(chance.sample(every, 16)))
        return taken

    claims = at_once([partial(worker, seed) for seed in range(8)])

    claimed = Counter(work for part in claims for work in part)
    assert max(claimed.values()) == 1
    assert claimed.keys() <= set(every)
    assert {*accepted[2].work, *accepted[3].work} <= claimed.keys()


def test_teams_share_the_workers_while_all_work_ends(url: str) -> None:
    with opened(url, lease_seconds=180, ring_again_seconds=0) as ledger:
        shops = [a_collection(team=Team(f"team{n}")) for n in range(3)]
        jobs: list[Job] = []
        for shop, count in zip(shops, (300, 30, 90), strict=True):
            ledger.create_collection(shop)
            names = images(*(f"{n:04}" for n in range(count)))
            jobs.append(ledger.accept(shop, names).job)

        def worker() -> None:
            while ledger.has_pending():
                ledger.finish(done(ledger.claim(ledger.due(20))))

        at_once([worker] * 6)

        for shop, job in zip(shops, jobs, strict=True):
            end = ledger.job(shop.team, job.id)
            assert (end.done, end.pending) == (job.total, 0)


# --- pruning -------------------------------------------------------------------------


def test_an_image_that_is_pruned_and_ingested_at_once_is_not_lost(
    url: str, ledger: SqlLedger, shop: Collection
) -> None:
    names = [ImageId(f"{n}") for n in range(30)]
    index = Index(ledger)
    for step in range(4):
        index.do(ledger.claim(ledger.accept(shop, images(*names)).work))
        index.do(ledger.claim(ledger.delete_images(shop, names).work))
        days_pass(url, 31)

        def ingest(seed: int, content: str) -> Accepted:
            some = random.Random(seed).sample(names, 30)
            entries = [an_image(one, content=f"{one} {content}") for one in some]
            accepted = ledger.accept(shop, entries)
            index.do(ledger.claim(accepted.work))
            return accepted

        def prune() -> None:
            ledger.prune(30)

        requests: list[Callable[[], object]] = [
            partial(ingest, seed, f"{step} {seed}") for seed in range(3)
        ]
        at_once([*requests, prune, prune])

        an_hour_passes(url)
        index.work_off()
        index.check(shop)
        assert ledger.image_counts(shop)[ImageState.INDEXED] == 30
        assert not ledger.has_pending()


def test_an_image_is_not_pruned_while_a_request_may_bring_it_again(
    url: str, ledger: SqlLedger, shop: Collection
) -> None:
    index_all(ledger, ledger.accept(shop, images("a")))
    index_all(ledger, ledger.delete_images(shop, [ImageId("a")]))
    days_pass(url, 31)
    database = Database(url)

    with ThreadPoolExecutor(1) as pool:
        with database.writing() as connection:
            hold_collections(connection, [shop.uid])  # as each request does
            pruning = pool.submit(ledger.prune, 30)
            with pytest.raises(TimeoutError):
                pruning.result(timeout=0.3)
            during = ledger.states(shop, None, 10)
        pruning.result(timeout=60)

    assert len(during) == 1
    assert ledger.states(shop, None, 10) == []
    database.close()


def test_pruning_disturbs_nothing_that_goes_on(
    url: str, ledger: SqlLedger, shop: Collection
) -> None:
    """Everything is pruned at once that has ended, for ever shorter lives."""
    index = Index(ledger)
    stop = threading.Event()

    def client(seed: int) -> Counter[str]:
        seen: Counter[str] = Counter()
        for step in range(15):
            entries = images(*(f"{seed}-{n}" for n in range(10)))
            accepted = ledger.accept(
                shop,
                [replace(entry, metadata={"price": float(step)}) for entry in entries],
                idempotency=Idempotency(f"{seed}-{step}", "digest"),
            )
            seen["accepted"] += accepted.job.pending
            claimed = ledger.claim(accepted.work)
            seen["claimed"] += len(claimed)
            index.do(claimed)
            if step % 3 == 2:
                gone = [entry.id for entry in entries[:5]]
                index.do(ledger.claim(ledger.delete_images(shop, gone).work))
        stop.set()
        return seen

    def housekeeper() -> Counter[str]:
        while not stop.is_set():
            ledger.prune(0)
        return Counter()

    clients: list[Callable[[], Counter[str]]] = [
        partial(client, seed) for seed in range(4)
    ]
    counts = sum(at_once([*clients, housekeeper]), Counter[str]())

    assert counts["accepted"] == counts["claimed"] > 0
    an_hour_passes(url)
    index.work_off()
    index.check(shop)
    assert ledger.image_counts(shop)[ImageState.INDEXED] == 4 * 5
    ledger.prune(0)
    assert ledger.jobs(DEFAULT_TEAM, None, 10) == []


def test_a_turn_is_given_to_one_of_many_at_once(url: str) -> None:
    with opened(url) as first, opened(url) as second:
        turns = at_once([partial(one.turn, "night", 60) for one in (first, second) * 4])

    assert turns.count(True) == 1
