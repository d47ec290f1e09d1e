"""The walk: the process is killed once at every failpoint, in the order it meets them.

All failpoints are armed from the start, each for one time. So the first process dies
at the first step of taking an image in, the next one at the second step, and so on,
each while it makes good what the one before left undone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from faults.clients import Habits
from faults.platforms import cluster, single
from faults.reports import Report
from faults.trials import LOOK, Options, Trial, trial
from lookalike.failpoints import NAMES, VARIABLE

NAME = "walk"
LIMIT = 240.0
LEAST_IMAGES = 60
HABITS = Habits(batch=(5, 15), weights=(30, 20, 15, 15, 20), pause=0.1)


def run(options: Options) -> Report:
    """Every failpoint, in ``lookalike up``."""
    return walked(options, options.failpoints or NAMES)


def run_cluster(options: Options) -> Report:
    """Every failpoint, in the processes of a cluster."""
    setting = armed(options.folder, NAMES)
    env = {"LOOKALIKE_LEASE_SECONDS": "20", "LOOKALIKE_RECONCILE_SECONDS": "2"}
    with (
        cluster(options.folder, env, workers=1) as platform,
        trial("walk, cluster", platform, options.seed, HABITS, clients=2) as running,
    ):
        platform.restart({VARIABLE: setting})
        return finished(running, NAMES)


def walked(options: Options, names: Sequence[str], name: str = NAME) -> Report:
    """These failpoints, in ``lookalike up``."""
    with (
        single(options.folder) as platform,
        trial(name, platform, options.seed, HABITS, clients=2) as running,
    ):
        # Armed only now, as starting for the first time passes some of them.
        platform.restart({VARIABLE: armed(options.folder, names)})
        return finished(running, names)


def armed(folder: Path, names: Sequence[str]) -> str:
    """The setting that kills once at each of these places."""
    return ",".join(f"{name}=kill!{marker(folder, name)}" for name in names)


def marker(folder: Path, name: str) -> Path:
    """The file that says that a failpoint was met."""
    return folder / f"met-{name}"


def finished(running: Trial, names: Sequence[str]) -> Report:
    """The report, once every failpoint was met."""
    folder = running.platform.folder
    wanted = [name for name in names if name != "release.committed"]
    wait(running, lambda: all(marker(folder, name).exists() for name in wanted))
    if "release.committed" in names:
        # Work is given back only while a part is down: here an embedder.
        running.platform.restart({"LOOKALIKE_TRITON_URL": "127.0.0.1:9"})
        wait(running, marker(folder, "release.committed").exists)
        running.platform.restart({"LOOKALIKE_TRITON_URL": ""})
    wait(running, lambda: running.acknowledged >= LEAST_IMAGES)
    report = running.finish()
    met = [name for name in names if marker(folder, name).exists()]
    for name in set(names) - set(met):
        report.breaches.append(f"walk: nobody came to {name}")
    report.kills["at failpoints"] = len(met)
    return report


def wait(running: Trial, is_so: Callable[[], bool]) -> None:
    """Go on until it is so, or for as long as a walk may take."""
    until = time.monotonic() + LIMIT
    while not is_so() and time.monotonic() < until:
        running.killer.wait(LOOK)
