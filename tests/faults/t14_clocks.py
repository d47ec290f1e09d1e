"""T14: one worker's clock is an hour ahead, another's an hour behind.

Not by libfaketime, as Python 3.11 cannot sleep under its version 0.9.10: what Python
itself is told is changed when the process starts. That is every clock of Celery and of
our own code; SQL asks the database for its time.
"""

from __future__ import annotations

import os
from pathlib import Path

from faults.clients import Habits
from faults.killing import plan
from faults.parts import Command
from faults.platforms import cluster
from faults.reports import Report
from faults.trials import Options, trial

NAME = "T14"
SKEW = """
import sys, time
_time, _time_ns = time.time, time.time_ns
def _skew():
    # grpc counts its deadlines in C, by a clock that is as it was.
    name = sys._getframe(2).f_globals.get("__name__", "")
    return 0 if name.startswith("grpc") else {seconds}
time.time = lambda: _time() + _skew()
time.time_ns = lambda: _time_ns() + _skew() * 10**9
"""


def run(options: Options) -> Report:
    """Leases go by the database's clock, so nothing is claimed twice or too late."""
    habits = Habits(batch=(20, 60), pause=0.5)
    with cluster(options.folder, start=False) as platform:
        for name, seconds in (("worker1", 3600), ("worker2", -3600)):
            part = platform.parts[name]
            assert isinstance(part, Command)
            _skew(part, options.folder / f"clock-{name}", seconds)
        platform.start()
        with trial(NAME, platform, options.seed, habits, clients=2) as running:
            time_of_faults = (options.minutes or options.some(60) / 60) * 60
            kills = {"worker child": options.some(4)}
            running.kill(plan(options.seed, time_of_faults, kills))
            return running.finish()


def _skew(part: Command, folder: Path, seconds: int) -> None:
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SKEW.format(seconds=seconds))
    paths = [str(folder), os.environ.get("PYTHONPATH", "")]
    part.env["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
