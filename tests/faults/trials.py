"""A trial: clients at work on a platform while it is being broken, then the check."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from faults import acks, checking, index_rows, records
from faults.acks import AckLog
from faults.calls import Calls
from faults.checking import Findings
from faults.clients import Client, Gone, Habits
from faults.killing import Kill, Killer
from faults.model import Model
from faults.parts import Command
from faults.platforms import Platform
from faults.reports import Report
from faults.watchers import Counter, Searcher

LAST_TRIES = 120.0  # seconds for clients to get their last answers
DRAIN_LIMIT = 900.0
LOOK = 0.25


@dataclass(frozen=True)
class Options:
    """What one run of the fault tests is to do.

    Attributes:
        folder: for everything that is written.
        seed: decides what is asked for, and what is killed when.
        scale: of numbers of images, kills and minutes; 1 is the long run.
    """

    folder: Path
    seed: int
    scale: float = 1.0
    images: int | None = None
    kills: int | None = None
    minutes: float | None = None
    failpoints: tuple[str, ...] = ()  # of a walk; all of them if none is named

    def some(self, count: float, least: int = 1) -> int:
        """A number of the long run, in this one."""
        return max(least, round(count * self.scale))


@dataclass
class Trial:
    """One scenario as it runs. ``report`` is complete after ``finish``."""

    name: str
    platform: Platform
    seed: int
    habits: Habits = field(default_factory=Habits)
    clients: int = 3
    calls: Calls = field(default_factory=Calls)
    gone: Gone = field(default_factory=Gone)

    def __post_init__(self) -> None:
        self._began = time.monotonic()
        self.report = Report(self.name, self.seed)
        self.log = AckLog(self.platform.folder / "acks.jsonl")
        url = self.platform.url
        self.crowd = [
            Client(
                *(f"c{number}", self.seed, url, self.log, self.calls),
                *(self.gone, self.habits),
            )
            for number in range(self.clients)
        ]
        self.searcher = Searcher(url, self.seed, self.calls, self.gone)
        self.counter = Counter(url, self.calls)
        self.killer = Killer(
            self.platform, lambda since: self.searcher.answered > since
        )

    @property
    def acknowledged(self) -> int:
        """How many images clients had acknowledged so far."""
        return sum(client.acknowledged for client in self.crowd)

    def start(self) -> None:
        """Let the clients begin."""
        for thread in (*self.crowd, self.searcher, self.counter):
            thread.start()

    def kill(self, kills: Sequence[Kill], images: int = 0) -> None:
        """Kill as planned, then go on until so many images are acknowledged."""
        self.killer.carry_out(list(kills), lambda: False)
        while self.acknowledged < images and any(c.is_alive() for c in self.crowd):
            self.killer.wait(LOOK)

    def finish(self, *, drain_limit: float = DRAIN_LIMIT) -> Report:
        """Let the clients come to their end, drain, and check everything."""
        self._stop_clients()
        began = time.monotonic()
        findings = Findings()
        try:
            self.killer.settle()
            self._drain(drain_limit, findings)
        except TimeoutError as error:
            findings.broken("I7 back", str(error))
        self.report.drain = time.monotonic() - began
        for thread in (self.searcher, self.counter):
            thread.stop()
        for thread in (self.searcher, self.counter):
            thread.join(60)
        self.log.close()
        self._check(findings)
        self._fill_in(findings)
        return self.report

    def _stop_clients(self) -> None:
        until = time.monotonic() + LAST_TRIES
        for client in self.crowd:
            client.stop()
        while any(c.is_alive() for c in self.crowd) and time.monotonic() < until:
            self.killer.wait(LOOK)
        for client in self.crowd:
            client.leave()
            client.join(60)

    def _drain(self, limit: float, findings: Findings) -> None:
        until = time.monotonic() + limit
        while pending := records.number(self.platform.database, records.PENDING):
            if time.monotonic() > until:
                findings.broken("I1 lost", f"{pending} pieces of work never ended")
                return
            self.killer.wait(LOOK)

    def _check(self, findings: Findings) -> None:
        model = Model.of(acks.read(self.log.path))
        found = records.read(self.platform.database)
        checking.check_records(model, found, findings)
        checking.check_api(self.platform.url, model, findings)
        if self.platform.is_single:  # no one else can open its index
            for command in self.platform.commands:
                command.stop()
        index = index_rows.read(
            self.platform.milvus,
            f"lookalike_{found.collection}",
            self.platform.folder / "index.npz",
        )
        checking.check_index(model, found, index, findings)
        for match in self.searcher.stale:
            findings.broken("I3 stale", f"{match} was deleted, and was found")
        for what in self.counter.wrong:
            findings.broken("I4 counts", what)
        for call in self.calls.late(self.killer.outages):
            findings.broken("I6 late", f"{call}")
        for call in self.calls.unclear():
            findings.broken("I6 codes", f"{call}")

    def _fill_in(self, findings: Findings) -> None:
        report = self.report
        report.kills.update(self.killer.done)
        report.recoveries |= self.killer.recoveries
        report.acknowledged = acks.acknowledged_images(list(acks.read(self.log.path)))
        report.lost = findings.count("I1 lost", "I2 wrong", "I2 vector", "I2 twice")
        report.wrong_counts = findings.count("I4 counts", "I4 keys")
        report.stale = findings.count("I3 stale")
        report.late = findings.count("I6 late", "I6 codes", "I6 answers")
        report.breaches = list(findings.lines())
        report.figures |= {
            "searches answered": self.searcher.searches,
            **{name: value for name, value in findings.figures.items() if value},
        }
        if self.killer.ended:
            report.figures["ended by themselves"] = dict(self.killer.ended)
        report.seconds = time.monotonic() - self._began


@contextmanager
def trial(
    name: str,
    platform: Platform,
    seed: int,
    habits: Habits | None = None,
    *,
    clients: int = 3,
) -> Iterator[Trial]:
    """A trial with its clients at work, for the time of the block."""
    running = Trial(name, platform, seed, habits or Habits(), clients)
    running.start()
    try:
        yield running
    finally:
        for client in running.crowd:
            client.leave()
        for thread in (running.searcher, running.counter):
            thread.stop()


def health(platform: Platform) -> Mapping[str, object]:
    """What the API says of its parts now."""
    answer = httpx.get(f"{platform.url}/readyz", timeout=30)
    found: Mapping[str, object] = answer.json()
    return found


def api_of(platform: Platform) -> Command:
    """The API's part."""
    found = platform.parts.get("api") or platform.parts["up"]
    assert isinstance(found, Command)
    return found
