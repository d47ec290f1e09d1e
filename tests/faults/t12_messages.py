"""T12: messages come three times, in any order, and long after their work is done."""

from __future__ import annotations

import random

from sqlalchemy import text

from faults import records
from faults.clients import Habits
from faults.parts import Redis
from faults.platforms import Platform, cluster
from faults.reports import Report
from faults.trials import Options, trial
from lookalike.backends.celery import CeleryQueue
from lookalike.interfaces import WorkId

NAME = "T12"
ROUNDS = 6
IDS = text("SELECT id FROM work WHERE key IS NOT NULL")


def run(options: Options) -> Report:
    """Every id that there ever was is rung for thrice, again and again."""
    generator = random.Random(options.seed)
    habits = Habits(batch=(20, 60), pause=0.5)
    with (
        cluster(options.folder) as platform,
        trial(NAME, platform, options.seed, habits, clients=2) as running,
    ):
        sent = 0
        for _ in range(options.some(ROUNDS, least=2)):
            running.killer.wait(10)
            sent += _ring_thrice(platform, generator)
        report = running.finish()
    report.figures["ids rung for anew"] = sent
    return report


def _ring_thrice(platform: Platform, generator: random.Random) -> int:
    redis = platform.parts["redis"]
    assert isinstance(redis, Redis)
    with records.connected(platform.database) as connection:
        ids = [WorkId(number) for number in connection.execute(IDS).scalars()]
    ids = 3 * ids[-3_000:]
    generator.shuffle(ids)
    queue = CeleryQueue(redis.server.url, chunk_images=64)
    queue.ring(ids)
    queue.close(timeout=10)
    return len(ids)
