"""T1: the API is killed under load, whole groups and single processes of gunicorn."""

from __future__ import annotations

from faults.clients import Habits
from faults.killing import plan
from faults.platforms import cluster
from faults.reports import Report
from faults.trials import Options, trial

NAME = "T1"
HABITS = Habits(batch=(10, 60))


def run(options: Options) -> Report:
    """Clients ask again with the same key, and get the same job."""
    seconds = (options.minutes or options.some(300) / 60) * 60
    kills = options.kills or options.some(100)
    counts = {"api": kills // 2, "api child": kills - kills // 2}
    with (
        cluster(options.folder) as platform,
        trial(NAME, platform, options.seed, HABITS) as running,
    ):
        running.kill(plan(options.seed, seconds, counts))
        return running.finish()
