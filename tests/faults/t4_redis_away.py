"""T4: Redis is down, then hangs, then loses all its data: everything is accepted."""

from __future__ import annotations

import time

from faults.clients import Habits
from faults.parts import Redis
from faults.platforms import cluster
from faults.reports import Report
from faults.trials import Options, Trial, trial

NAME = "T4"
HABITS = Habits(batch=(10, 10), pause=0.5)
MOST_MILLISECONDS = 250.0  # for accepting ten images, at the 99th percentile


def run(options: Options) -> Report:
    """Five minutes down, one minute hung, and a FLUSHALL."""
    with (
        cluster(options.folder) as platform,
        trial(NAME, platform, options.seed, HABITS, clients=2) as running,
    ):
        redis = platform.parts["redis"]
        assert isinstance(redis, Redis)
        _phase(running, "usual", options.some(30))
        redis.kill()
        _phase(running, "down", options.some(300))
        redis.spawn()
        _phase(running, "after", options.some(20))
        redis.server.freeze()
        _phase(running, "hung", options.some(60))
        redis.server.thaw()
        _phase(running, "thawed", options.some(20))
        redis.server.client().flushall()
        running.report.kills["redis"] += 1
        report = running.finish()
    failed = running.calls.answers("put").keys() & {500, 503}
    if failed:
        report.breaches.append(f"I6 answers: ingestion was answered with {failed}")
    return report


def _phase(running: Trial, name: str, seconds: float) -> None:
    began = time.monotonic()
    running.killer.wait(seconds)
    slow = running.calls.milliseconds("put", 50, 99, status=202, since=began)
    told = " / ".join(f"{each:.0f}" for each in slow) or "none"
    running.report.figures[f"accept, {name}, ms p50/p99"] = told
