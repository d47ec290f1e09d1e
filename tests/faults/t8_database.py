"""T8: the ledger's database is killed in the middle of commits."""

from __future__ import annotations

from sqlalchemy import text

from faults import records
from faults.clients import Habits
from faults.killing import plan
from faults.platforms import cluster
from faults.reports import Report
from faults.trials import Options, trial

NAME = "T8"
HABITS = Habits(batch=(10, 60), pause=0.2)


def run_postgres(options: Options) -> Report:
    """PostgreSQL with all its processes."""
    seconds = (options.minutes or options.some(180) / 60) * 60
    kills = options.kills or options.some(20)
    with (
        cluster(options.folder) as platform,
        trial(f"{NAME}-postgres", platform, options.seed, HABITS) as running,
    ):
        outages = {"postgres": 2.0}
        running.kill(plan(options.seed, seconds, {"postgres": kills}, outages))
        return running.finish()


def run_sqlite(options: Options) -> Report:
    """SQLite: whoever writes is killed, API and workers alike."""
    seconds = (options.minutes or options.some(120) / 60) * 60
    kills = options.kills or options.some(40)
    counts = {"api child": kills // 2, "worker child": kills - kills // 2}
    with (
        cluster(options.folder, sqlite=True) as platform,
        trial(f"{NAME}-sqlite", platform, options.seed, HABITS, clients=2) as running,
    ):
        running.kill(plan(options.seed, seconds, counts))
        report = running.finish()
        with records.connected(platform.database) as connection:
            verdict = connection.execute(text("PRAGMA integrity_check")).scalar_one()
    if verdict != "ok":
        report.breaches.append(f"T8: integrity_check says {verdict}")
    return report
