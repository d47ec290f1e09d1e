"""T27: put, delete and put again of one id, with workers that die or come too late.

Once in this process, where the order of every step is drawn from a seed and each step
is compared with a dict; once with real processes that are killed between the write to
the index and the end of the work.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from faults.clients import Habits
from faults.platforms import cluster
from faults.reports import Report
from faults.trials import Options, trial
from ledgers import a_collection, an_image, done
from lookalike.backends.ledger import SqlLedger
from lookalike.collections import Collection, Metadata
from lookalike.failpoints import VARIABLE
from lookalike.interfaces import Hit, ImageId, ImageKey, Operation, Work, WorkId

NAME = "T27"
SEEDS = 1_000
STEPS = 40
SHARED_MEMORY = Path("/dev/shm")


def run_model(options: Options) -> Report:
    """A thousand random orders, step by step against a dict."""
    report = Report(f"{NAME}-model", options.seed)
    began = time.monotonic()
    # Nothing here is about the disk, and commits to memory are quick.
    base = SHARED_MEMORY if SHARED_MEMORY.is_dir() else options.folder
    folder = Path(tempfile.mkdtemp(dir=base))
    ledger = SqlLedger(
        f"sqlite:///{folder / 'races.sqlite3'}",
        lease_seconds=0,  # every worker is too late, and any other may take over
        ring_again_seconds=0,
        sweep_lease_seconds=0,
    )
    shop = a_collection()
    ledger.create_collection(shop)
    told: Counter[str] = Counter()
    for number in range(options.some(SEEDS, least=50)):
        race = Race(ledger, shop, ImageId(f"id{number}"), options.seed + number)
        report.breaches += [f"seed {race.seed}: {what}" for what in race.run()]
        told.update(race.told)
    ledger.close()
    shutil.rmtree(folder)
    report.stale = sum("is deleted" in what for what in report.breaches)
    report.lost = len(report.breaches) - report.stale
    report.breaches = report.breaches[:10]
    report.figures = {"orders": options.some(SEEDS, least=50), **told}
    report.seconds = time.monotonic() - began
    return report


def run_killed(options: Options) -> Report:
    """Few ids, many operations, and workers that die after every eighth write."""
    seconds = (options.minutes or options.some(180) / 60) * 60
    env = {"LOOKALIKE_LEASE_SECONDS": "5", "LOOKALIKE_RECONCILE_SECONDS": "1"}
    habits = Habits(batch=(1, 4), weights=(1, 40, 20, 20, 20), broken=0, pause=0.05)
    with (
        cluster(options.folder, env) as platform,
        trial(f"{NAME}-killed", platform, options.seed, habits) as running,
    ):
        for command in platform.commands:
            if command.name.startswith("worker"):
                command.kill()
                command.env[VARIABLE] = "index.upserted=kill@8,index.deleted=kill@5"
                command.spawn()
        running.killer.wait(seconds)
        platform.restart({VARIABLE: ""})
        return running.finish()


@dataclass
class Race:
    """One id, what happens to it, and what must be true after each step."""

    ledger: SqlLedger
    shop: Collection
    image_id: ImageId
    seed: int
    wanted: str | None = None  # its content; none when it is deleted
    rows: dict[ImageKey, tuple[int, str]] = field(default_factory=dict)
    made: list[WorkId] = field(default_factory=list)
    held: list[tuple[Work, str]] = field(default_factory=list)
    told: Counter[str] = field(default_factory=Counter)

    def run(self) -> list[str]:
        """What was seen that must not be."""
        self.chance = random.Random(self.seed)
        steps = [self.put, self.put, self.delete, self.claim, self.claim]
        steps += [self.write, self.write, self.finish, self.die]
        wrong = []
        for _ in range(STEPS):
            self.chance.choice(steps)()
            wrong += self.check()
        self.work_off()
        return wrong + self.check() + self.check_end()

    def put(self) -> None:
        self.wanted = f"{self.image_id}-{self.chance.randint(0, 2)}"
        metadata: Metadata = {"tags": [str(self.chance.randint(0, 1))]}
        entry = an_image(self.image_id, content=self.wanted, metadata=metadata)
        self.made += self.ledger.accept(self.shop, [entry]).work

    def delete(self) -> None:
        self.wanted = None
        self.made += self.ledger.delete_images(self.shop, [self.image_id]).work

    def claim(self) -> None:
        for work in self.ledger.claim(self.made[-3:]):
            self.held.append((work, self._vector(work)))

    def _vector(self, work: Work) -> str:
        """What its vector will show: for other metadata, what is stored now."""
        stored = self.rows.get(work.key)
        if work.operation is Operation.META and stored is not None:
            return stored[1]
        return work.digest

    def write(self) -> None:
        """A worker writes to the index, perhaps long after another took over."""
        if self.held:
            self._write(*self.chance.choice(self.held))

    def finish(self) -> None:
        if self.held:
            work, vector = self.held.pop(self.chance.randrange(len(self.held)))
            self._write(work, vector)
            self.ledger.finish(done([work]))

    def die(self) -> None:
        """A worker dies between its write and its end."""
        if self.held:
            self._write(*self.held.pop(self.chance.randrange(len(self.held))))
            self.told["deaths"] += 1

    def work_off(self) -> None:
        """Late writes land and say so; then all that is due is done."""
        for work, vector in self.held:
            self._write(work, vector)
            self.ledger.finish(done([work]))
        while due := self.ledger.due(100):
            while claimed := self.ledger.claim(due):
                for work in claimed:
                    self.told["repairs"] += work.id not in self.made
                    self._write(work, self._vector(work))
                    self.ledger.finish(done([work]))

    def _write(self, work: Work, vector: str) -> None:
        if work.operation is Operation.DELETE:
            self.rows.pop(work.key, None)
        else:
            self.rows[work.key] = (work.gen, vector)

    def check(self) -> list[str]:
        """A deleted image is no hit, whatever the index holds."""
        hits = [Hit(key, gen, 1.0) for key, (gen, _) in self.rows.items()]
        seen = self.ledger.verified(self.shop, hits)
        if seen and self.wanted is None:
            return ["it is deleted, and was found"]
        return []

    def check_end(self) -> list[str]:
        """In the end the index holds the newest bytes, or nothing."""
        stored = self.ledger.images(self.shop, ImageId(self.image_id[:-1]), 1000)
        mine = [image for image in stored if image.id == self.image_id]
        if self.wanted is None:
            ghost = ["it is gone, and its vector is there"] if self.rows else []
            return ghost + (["it is gone, and listed"] if mine else [])
        if not mine:
            return ["it is not there"]
        if mine[0].state == "failed":
            self.told["failed"] += 1
            return []
        if [vector for _, vector in self.rows.values()] != [mine[0].digest]:
            return [f"it is {mine[0].digest[:8]}, the index has {self.rows}"]
        if mine[0].digest != an_image(self.image_id, content=self.wanted).digest:
            return ["it is not what was put last"]
        return []
