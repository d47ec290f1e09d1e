"""T2: workers are killed under load, whole groups and single children of Celery."""

from __future__ import annotations

from faults.clients import Habits
from faults.killing import plan
from faults.platforms import QUICK, cluster
from faults.reports import Report
from faults.trials import Options, trial

NAME = "T2"


def run_fast(options: Options) -> Report:
    """Large chunks, which take long."""
    return _run(f"{NAME}-large", options, chunk=64)


def run_slow(options: Options) -> Report:
    """Small chunks, of which many are under way: the rate matters to what is lost."""
    return _run(f"{NAME}-small", options, chunk=4)


def _run(name: str, options: Options, chunk: int) -> Report:
    seconds = (options.minutes or options.some(240) / 60) * 60
    kills = options.kills or options.some(100)
    counts = {"worker": kills // 2, "worker child": kills - kills // 2}
    env = {**QUICK, "LOOKALIKE_CHUNK_IMAGES": str(chunk)}
    habits = Habits(batch=(20, 80), pause=0.5)
    with (
        cluster(options.folder, env) as platform,
        trial(name, platform, options.seed, habits) as running,
    ):
        running.kill(plan(options.seed, seconds, counts))
        return running.finish()
