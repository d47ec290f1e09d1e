"""Workers on a ledger: many at once, slow ones, and what they leave in the index."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from ledgers import done
from lookalike.backends.ledger import SqlLedger
from lookalike.collections import Collection
from lookalike.interfaces import ImageState, Operation, Work

T = TypeVar("T")


def at_once(tasks: Sequence[Callable[[], T]]) -> list[T]:
    """What each gives back, all started at the same moment."""
    gate = threading.Barrier(len(tasks))

    def run(task: Callable[[], T]) -> T:
        gate.wait()
        return task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return list(pool.map(run, tasks))


@dataclass(frozen=True)
class Task:
    """Claimed work, and the vector it will write."""

    work: Work
    digest: str


@dataclass
class Index:
    """Stands for the vector index: what was written last for each image."""

    ledger: SqlLedger
    rows: dict[str, tuple[Operation, str]] = field(default_factory=dict)

    def begin(self, works: Sequence[Work]) -> list[Task]:
        """Embed the pictures; for new metadata only, read the stored vectors."""
        return [
            Task(work, self.rows.get(work.key, (None, work.digest))[1])
            if work.operation is Operation.META
            else Task(work, work.digest)
            for work in works
        ]

    def write(self, tasks: Sequence[Task]) -> None:
        """Write to the index; one image at a time, as threads do."""
        for task in tasks:
            self.rows[task.work.key] = (task.work.operation, task.digest)

    def end(self, tasks: Sequence[Task]) -> None:
        """Write to the index, and say so."""
        self.write(tasks)
        self.ledger.finish(done([task.work for task in tasks]))

    def do(self, works: Sequence[Work]) -> None:
        """Do work from its beginning to its end."""
        self.end(self.begin(works))

    def work_off(self) -> None:
        """Do all the work there is, until nothing is due any more."""
        while rung := self.ledger.due(500):
            while claimed := self.ledger.claim(rung):
                self.do(claimed)

    def check(self, collection: Collection) -> None:
        """It holds the newest form of every image that is indexed."""
        for image in self.ledger.images(collection, None, 100_000):
            if image.state is ImageState.INDEXED:
                operation, digest = self.rows[image.key]
                assert operation is not Operation.DELETE
                assert digest == image.digest
