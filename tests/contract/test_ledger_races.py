"""That the ledger stays exact under threads, crashes and any order of events."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest

from ledger_workers import Index, Task, at_once
from ledgers import (
    a_failure,
    an_hour_passes,
    an_image,
    done,
    failed,
    ids,
    images,
    index_all,
    opened,
)
from lookalike.backends.ledger import SqlLedger
from lookalike.collections import DEFAULT_TEAM, Collection
from lookalike.errors import CollectionNotFound, NothingToRetry
from lookalike.interfaces import (
    ImageId,
    ImageState,
    Job,
    JobId,
    WorkId,
)

# --- threads -------------------------------------------------------------------------


def test_two_threads_never_claim_the_same_work(
    ledger: SqlLedger, shop: Collection
) -> None:
    accepted = ledger.accept(shop, images(*(f"{n}" for n in range(64))))
    orders = [random.Random(n).sample(accepted.work, 64) for n in range(8)]

    claims = at_once([partial(ledger.claim, order) for order in orders])

    claimed = Counter(work.id for part in claims for work in part)
    assert claimed == Counter(accepted.work)


def test_one_piece_finished_by_many_threads_counts_once(
    ledger: SqlLedger, shop: Collection
) -> None:
    accepted = ledger.accept(shop, images(*(f"{n}" for n in range(16))))
    results = done(ledger.claim(accepted.work))

    finished = at_once([lambda: ledger.finish(results)] * 8)

    assert sorted(finished) == [[]] * 7 + [[accepted.job.id]]
    assert ledger.job(DEFAULT_TEAM, accepted.job.id).done == 16


def test_many_threads_accept_the_same_images_at_once(
    url: str, ledger: SqlLedger, shop: Collection
) -> None:
    names = [f"{n}" for n in range(60)]
    requests = [
        [
            an_image(one, position=place, content=f"{one}-{n % 4}")
            for place, one in enumerate(random.Random(n).sample(names, 40))
        ]
        for n in range(32)
    ]

    at_once([partial(ledger.accept, shop, some) for some in requests])

    an_hour_passes(url)
    Index(ledger).work_off()
    jobs = ledger.jobs(DEFAULT_TEAM, None, 100)
    assert len(jobs) == 32
    assert all(job.total == 40 and job.pending == 0 for job in jobs)
    assert ledger.image_counts(shop)[ImageState.INDEXED] == len(
        {entry.id for entries in requests for entry in entries}
    )


def test_threads_that_do_everything_at_once_leave_the_newest_in_the_index(
    url: str, ledger: SqlLedger, shop: Collection
) -> None:
    names = [ImageId(f"{n}") for n in range(40)]
    index = Index(ledger)

    def client(seed: int) -> None:
        chance = random.Random(seed)
        made: list[WorkId] = []
        for step in range(8):
            some = chance.sample(names, 20)
            if chance.random() < 0.3:
                made += ledger.delete_images(shop, some).work
            else:
                entries = [an_image(one, content=f"{one}{seed}{step}") for one in some]
                made += ledger.accept(shop, entries, [a_failure(99)]).work
            index.do(ledger.claim(chance.sample(made, len(made) // 2)))
            lost = ledger.claim(chance.sample(made, len(made) // 4))
            index.write(index.begin(lost))  # and dies
            ledger.release(ids(ledger.claim(chance.sample(made, len(made) // 4))), 0)

    def hasty(_seed: int) -> None:
        """A worker to whom every lease is over, so that two do the same work."""
        with opened(url, lease_seconds=0, ring_again_seconds=0) as later:
            for _ in range(10):
                index.do(later.claim(later.due(50)))

    at_once([*(partial(client, n) for n in range(6)), *[partial(hasty, 0)] * 2])

    an_hour_passes(url)
    index.work_off()
    jobs = ledger.jobs(DEFAULT_TEAM, None, 1000)
    assert len(jobs) == 6 * 8
    assert ledger.pending() == 0
    assert all(job.pending == 0 and job.finished_at for job in jobs)
    index.check(shop)


def test_a_collection_can_be_deleted_while_it_is_used(
    ledger: SqlLedger, shop: Collection
) -> None:
    is_busy = threading.Event()

    def client(seed: int) -> None:
        for step in range(1000):
            if step == 3:
                is_busy.set()
            try:
                accepted = ledger.accept(shop, images(f"{seed}-{step}", "shared"))
            except CollectionNotFound:
                return
            ledger.finish(done(ledger.claim(accepted.work)))
        raise AssertionError("the collection was never deleted")

    def deletion() -> None:
        assert is_busy.wait(60)
        ledger.delete_collection(shop)

    threads: list[Callable[[], None]] = [partial(client, seed) for seed in range(6)]
    at_once([*threads, deletion])

    jobs = ledger.jobs(DEFAULT_TEAM, None, 10_000)
    assert ledger.pending() == 0
    assert all(job.pending == 0 and job.finished_at for job in jobs)
    assert ledger.images(shop, None, 10) == []


def test_processes_that_open_a_new_database_together_all_succeed(url: str) -> None:
    def open_and_close() -> int:
        with opened(url) as ledger:
            return ledger.pending()

    assert at_once([open_and_close] * 8) == [0] * 8


# --- crashes -------------------------------------------------------------------------

INGEST = """
import sys
from ledgers import a_collection, images
from lookalike.backends.ledger import SqlLedger

ledger = SqlLedger(sys.argv[1])
shop = a_collection()
ledger.create_collection(shop)
for part in range(10_000):
    accepted = ledger.accept(shop, images(*(f"{part}-{n}" for n in range(20))))
    print(accepted.job.id, flush=True)
"""


def test_what_was_accepted_survives_the_end_of_the_process(url: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", INGEST, url],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        acknowledged = [process.stdout.readline().strip() for _ in range(10)]
        process.send_signal(signal.SIGKILL)
        acknowledged += process.stdout.read().split()

    with opened(url, ring_again_seconds=0) as ledger:
        jobs = {job.id: job for job in ledger.jobs(DEFAULT_TEAM, None, 100_000)}
        shop = ledger.collection(DEFAULT_TEAM, "shop")
        assert {JobId(job) for job in acknowledged} <= jobs.keys()
        # One more may have been recorded, with all its images, and not answered.
        assert len(jobs) - len(acknowledged) in (0, 1)
        assert all((job.total, job.pending) == (20, 20) for job in jobs.values())
        assert len(ledger.images(shop, None, 1_000_000)) == 20 * len(jobs)
        Index(ledger).work_off()
        assert ledger.image_counts(shop)[ImageState.INDEXED] == 20 * len(jobs)


# --- any order -----------------------------------------------------------------------


@dataclass
class Story:
    """Random events, and what must be true after each of them."""

    ledger: SqlLedger
    later: SqlLedger
    shop: Collection
    chance: random.Random
    index: Index
    alive: dict[ImageId, str] = field(default_factory=dict)
    made: list[WorkId] = field(default_factory=list)
    held: list[Task] = field(default_factory=list)
    jobs: dict[JobId, Job] = field(default_factory=dict)

    def some(self) -> list[ImageId]:
        names = [ImageId(f"{n}") for n in range(6)]
        return self.chance.choices(names, k=self.chance.randint(1, 4))

    def accept(self) -> None:
        entries = [
            an_image(
                one,
                position=place,
                content=f"{one}-{self.chance.randint(0, 1)}",
                metadata={"price": float(self.chance.randint(0, 1))},
            )
            for place, one in enumerate(self.some())
        ]
        refused = [a_failure(100 + n) for n in range(self.chance.randint(0, 2))]
        accepted = self.ledger.accept(self.shop, entries, refused)
        assert accepted.job.total == len(entries) + len(refused)
        self.made += accepted.work
        self.alive |= {entry.id: entry.digest for entry in entries}

    def delete(self) -> None:
        some = self.some()
        accepted = self.ledger.delete_images(self.shop, some)
        assert accepted.job.total == len(set(some) & self.alive.keys())
        self.made += accepted.work
        for one in some:
            self.alive.pop(one, None)

    def claim(self) -> None:
        """Several workers take the newest work; to some the leases are over."""
        ledger = self.chance.choice([self.ledger, self.later])
        claimed = ledger.claim(self.made[-self.chance.randint(1, 9) :])
        self.held += self.index.begin(claimed)

    def write(self) -> None:
        """Workers write to the index, perhaps long after their leases were over."""
        for task in self.taken():
            self.index.end([task])
            if self.chance.random() < 0.3:
                self.held.append(task)  # another does the same, later

    def die(self) -> None:
        """A worker writes to the index, and ends before it can say so."""
        self.index.write(self.index.begin(self.later.claim(self.made[-3:])))

    def fail(self) -> None:
        ends = failed([task.work for task in self.taken()])
        is_retryable = self.chance.random() < 0.5
        self.ledger.finish([replace(end, retryable=is_retryable) for end in ends])

    def release(self) -> None:
        self.ledger.release([task.work.id for task in self.taken()], 0)

    def sweep(self) -> None:
        self.made += self.later.due(5)

    def cancel(self) -> None:
        if self.jobs:
            job = self.ledger.cancel(DEFAULT_TEAM, self.a_job())
            assert self.ledger.cancel(DEFAULT_TEAM, job.id) == job

    def retry(self) -> None:
        if self.jobs:
            with contextlib.suppress(NothingToRetry):
                self.made += self.ledger.retry(DEFAULT_TEAM, self.a_job()).work

    def repair(self) -> None:
        keys = [state.key for state in self.ledger.states(self.shop, None, 100)]
        self.made += self.ledger.repair(
            self.shop, self.chance.sample(keys, k=len(keys) // 2)
        )

    def a_job(self) -> JobId:
        return self.chance.choice(sorted(self.jobs))

    def taken(self) -> list[Task]:
        self.chance.shuffle(self.held)
        count = self.chance.randint(0, min(3, len(self.held)))
        taken, self.held = self.held[:count], self.held[count:]
        return taken

    def check(self) -> None:
        for job in self.ledger.jobs(DEFAULT_TEAM, None, 10_000):
            before = self.jobs.get(job.id, job)
            assert job.pending >= 0
            assert (job.finished_at is not None) == (job.pending == 0)
            assert job.total == before.total
            for name in ("done", "unchanged", "failed", "superseded"):
                assert getattr(job, name) >= getattr(before, name)
            self.jobs[job.id] = job
        stored = self.ledger.images(self.shop, None, 100)
        assert {image.id: image.digest for image in stored} == self.alive


@pytest.mark.parametrize("seed", range(6))
def test_in_any_order_of_events_every_image_counts_once(
    url: str, ledger: SqlLedger, shop: Collection, seed: int
) -> None:
    with opened(url, lease_seconds=0, ring_again_seconds=0) as later:
        index = Index(later)
        story = Story(ledger, later, shop, random.Random(seed), index)
        events = [story.accept, story.accept, story.delete, story.claim, story.claim]
        events += [story.write, story.write, story.fail, story.die, story.release]
        events += [story.sweep, story.cancel, story.retry, story.repair]

        for _hour in range(5):
            for _step in range(20):
                story.chance.choice(events)()
                story.check()
            an_hour_passes(url)  # what is held still is given to others
            index.work_off()
            story.check()
            index.check(shop)
            assert ledger.pending() == 0
            assert all(job.finished_at for job in story.jobs.values())


def test_all_work_of_many_requests_ends_indexed(
    ledger: SqlLedger, shop: Collection
) -> None:
    first = ledger.accept(shop, images(*(f"{n}" for n in range(1500))))

    assert len(index_all(ledger, first)) == 1500

    assert ledger.image_counts(shop)[ImageState.INDEXED] == 1500
    assert ledger.job(DEFAULT_TEAM, first.job.id).done == 1500
    assert ledger.accept(shop, images(*(f"{n}" for n in range(1500)))).work == []
