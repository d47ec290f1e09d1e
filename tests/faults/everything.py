"""All parts of a cluster killed at random under load: the long run."""

from __future__ import annotations

from faults.clients import Habits
from faults.killing import plan
from faults.platforms import cluster
from faults.reports import Report
from faults.trials import Options, trial

NAME = "everything"
SECONDS = 20 * 60.0
IMAGES = 100_000
KILLS = {
    "api": 65,
    "api child": 65,
    "worker": 70,
    "worker child": 75,
    "redis": 65,
    "milvus": 6,
}
OUTAGES = {"redis": 3.0, "api": 1.0, "worker": 2.0}


def run(options: Options) -> Report:
    """API, workers, Redis and the Milvus server, whole groups and single children."""
    seconds = (options.minutes * 60) if options.minutes else options.some(SECONDS)
    share = (options.kills or options.some(346)) / sum(KILLS.values())
    counts = {victim: max(1, round(count * share)) for victim, count in KILLS.items()}
    images = options.images or options.some(IMAGES)
    # As fast as is needed, and no faster: what is not embedded before the end has to
    # be waited for after it.
    habits = Habits(most=round(images / 3 * 1.02) + 200, pause=1.0)
    with (
        cluster(options.folder, {}) as platform,  # as it is installed
        trial(NAME, platform, options.seed, habits) as running,
    ):
        running.kill(plan(options.seed, seconds, counts, OUTAGES), images)
        return running.finish()
