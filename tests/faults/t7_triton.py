"""T7: Triton is killed, loses its Python stub, and hangs: ingestion waits for it."""

from __future__ import annotations

import time

from faults.clients import Habits
from faults.killing import plan
from faults.parts import Triton
from faults.platforms import cluster
from faults.reports import Report
from faults.trials import Options, Trial, trial

NAME = "T7"
HABITS = Habits(batch=(10, 30), pause=0.5)


def run(options: Options) -> Report:
    """Kills of the server and of its stub, then a server that hangs."""
    seconds = (options.minutes or options.some(120) / 60) * 60
    kills = options.kills or options.some(10)
    with (
        cluster(options.folder, triton=True) as platform,
        trial(NAME, platform, options.seed, HABITS, clients=2) as running,
    ):
        triton = platform.parts["triton"]
        assert isinstance(triton, Triton)
        running.kill(plan(options.seed, seconds, {"triton": kills}, {"triton": 5.0}))
        running.killer.settle()
        for _ in range(options.some(3)):
            for stub in triton.server.stubs():
                stub.kill()
            running.report.kills["triton stub"] += 1
            running.killer.wait(options.some(20, least=5))
        running.report.figures["back after a killed stub, s"] = _until_searched(running)
        triton.kill()  # what a watchdog does that sees the stub missing
        triton.spawn()
        began = time.monotonic()
        triton.server.freeze()
        running.killer.wait(options.some(30, least=10))
        took = running.calls.milliseconds("search", 50, 99, since=began)
        running.report.figures["searches, hung, ms p50/p99"] = [round(t) for t in took]
        triton.server.thaw()
        report = running.finish()
    if failed := running.calls.answers("put").keys() & {500, 503}:
        report.breaches.append(f"I6 answers: ingestion was answered with {failed}")
    report.figures["searches by status"] = dict(running.calls.answers("search"))
    return report


def _until_searched(running: Trial, seconds: float = 20.0) -> str:
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        if running.searcher.answered > began:
            return f"{time.monotonic() - began:.1f}"
        running.killer.wait(0.2)
    return "not by itself"
