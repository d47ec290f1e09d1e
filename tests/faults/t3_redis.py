"""T3: Redis is killed, with each of its ways to keep data: no image is lost in any."""

from __future__ import annotations

from faults.clients import Habits
from faults.killing import plan
from faults.platforms import cluster
from faults.reports import Report
from faults.trials import Options, trial

NAME = "T3"


def run_log(options: Options) -> Report:
    """Append-only file, as we ship it."""
    return _run("log", options)


def run_snapshots(options: Options) -> Report:
    """Redis' own default, which loses the whole queue."""
    return _run("snapshots", options)


def run_none(options: Options) -> Report:
    """Nothing is kept."""
    return _run("none", options)


def _run(persistence: str, options: Options) -> Report:
    seconds = (options.minutes or options.some(120) / 60) * 60
    kills = options.kills or options.some(20)
    habits = Habits(batch=(20, 80), pause=0.3)
    with (
        cluster(options.folder, persistence=persistence) as platform,
        trial(f"{NAME}-{persistence}", platform, options.seed, habits) as running,
    ):
        running.kill(plan(options.seed, seconds, {"redis": kills}, {"redis": 3.0}))
        report = running.finish()
    failed = running.calls.answers("put").keys() & {500, 503}
    if failed:  # no request ever waits for Redis
        report.breaches.append(f"I6 answers: ingestion was answered with {failed}")
    return report
