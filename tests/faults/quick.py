"""Random kills of ``lookalike up``: SQLite, Milvus Lite and threads in one process."""

from __future__ import annotations

from faults.clients import Habits
from faults.killing import plan
from faults.platforms import single
from faults.reports import Report
from faults.trials import Options, trial

NAME = "quick"
SECONDS = 60.0


def run(options: Options) -> Report:
    """A minute of kills."""
    seconds = (options.minutes or SECONDS / 60) * 60
    kills = options.kills or round(seconds / 8)
    habits = Habits(batch=(10, 40), pause=0.2)
    with (
        single(options.folder) as platform,
        trial(NAME, platform, options.seed, habits, clients=2) as running,
    ):
        running.kill(plan(options.seed, seconds, {"up": kills}))
        return running.finish()
