"""T4b: 10,000 images wait in Redis when all its data are lost: all end indexed."""

from __future__ import annotations

import time

from faults import records
from faults.clients import Habits
from faults.parts import Redis, wait_until_back
from faults.platforms import cluster
from faults.reports import Report
from faults.trials import LOOK, Options, trial

NAME = "T4"
IMAGES = 10_000
LIMIT = 600.0


def run_flushed(options: Options) -> Report:
    """FLUSHALL."""
    return _run("flushed", options)


def run_killed(options: Options) -> Report:
    """kill -9, and nothing was kept."""
    return _run("killed", options)


def _run(how: str, options: Options) -> Report:
    images = options.images or options.some(IMAGES)
    habits = Habits(weights=(1, 0, 0, 0, 0), broken=0, most=images // 2)
    with cluster(options.folder, persistence="none", start=False) as platform:
        for command in platform.commands[:1]:  # the API alone: nothing is done yet
            command.spawn()
            wait_until_back(command)
        platform.create()
        with trial(
            f"{NAME}-{how}", platform, options.seed, habits, clients=2
        ) as running:
            until = time.monotonic() + LIMIT
            while any(c.is_alive() for c in running.crowd) and time.monotonic() < until:
                time.sleep(LOOK)
            redis = platform.parts["redis"]
            assert isinstance(redis, Redis)
            waiting = records.number(platform.database, records.PENDING)
            messages = redis.server.client().llen("lookalike:work")
            if how == "flushed":
                redis.server.client().flushall()
            else:
                redis.kill()
                redis.spawn()
            running.report.kills["redis"] += 1
            running.report.figures |= {"pending then": waiting, "messages": messages}
            for command in platform.commands[1:]:
                command.spawn()
            report = running.finish()
    if report.acknowledged < images or waiting < images:
        report.breaches.append(f"T4: only {waiting} images were pending")
    return report
