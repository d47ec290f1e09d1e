"""T10: the disk of the originals is full, and then that of the ledger."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import text

from faults import records
from faults.clients import Habits
from faults.platforms import QUICK, Platform, single
from faults.reports import Report
from faults.trials import LOOK, Options, Trial, trial

NAME = "T10"
MIB = 2**20
HABITS = Habits(batch=(10, 60), pause=0.1)
DIGESTS = text("SELECT DISTINCT digest FROM image WHERE want = 'present'")
LIMIT = 120.0


def run_originals(options: Options) -> Report:
    """Originals on a small disk of their own."""
    with small_disk(options.folder / "disk", 16 * MIB) as disk:
        env = {"LOOKALIKE_ORIGINALS_DIR": str(disk / "originals")}
        return _run(f"{NAME}-originals", options, disk, env)


def run_ledger(options: Options) -> Report:
    """The ledger's file on a small disk of its own."""
    with small_disk(options.folder / "disk", 16 * MIB) as disk:
        url = f"sqlite:///{disk / 'ledger.sqlite3'}"
        return _run(
            f"{NAME}-ledger", options, disk, {"LOOKALIKE_DATABASE_URL": url}, url
        )


def _run(
    name: str, options: Options, disk: Path, env: dict[str, str], database: str = ""
) -> Report:
    # Without a reserve, so that the disk is really full before anyone notices.
    env = {**QUICK, "LOOKALIKE_MIN_FREE_BYTES": "0", **env}
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(12 * MIB))
    with single(options.folder, env) as platform:
        platform.database = database or platform.database
        with trial(name, platform, options.seed, HABITS, clients=2) as running:
            is_full = _wait_until_refused(running)
            searches = running.searcher.searches
            running.killer.wait(options.some(20, least=5))
            found_meanwhile = running.searcher.searches - searches
            ballast.unlink()
            acknowledged = running.acknowledged
            running.killer.wait(options.some(20, least=5))
            report = running.finish()
        if not database:
            missing = _without_original(platform, disk / "originals")
            report.breaches += [f"T10: {one} has no original" for one in missing[:5]]
    refusals = {
        f"{call.status} {call.code}"
        for call in running.calls.made
        if call.kind == "put" and call.status >= 500
    }
    report.figures |= {
        "refused with": sorted(refusals),
        "searches while it was full": found_meanwhile,
        "accepted after": running.acknowledged - acknowledged,
    }
    if not is_full or refusals != {"507 storage_full"}:
        report.breaches.append(f"T10: a full disk was answered with {refusals}")
    if not found_meanwhile or running.acknowledged == acknowledged:
        report.breaches.append("T10: it did not search while full, or not go on after")
    return report


def _wait_until_refused(running: Trial) -> bool:
    until = time.monotonic() + LIMIT
    while time.monotonic() < until:
        if any(status >= 500 for status in running.calls.answers("put")):
            return True
        running.killer.wait(LOOK)
    return False


def _without_original(platform: Platform, folder: Path) -> list[str]:
    with records.connected(platform.database) as connection:
        digests = [str(one) for one in connection.execute(DIGESTS).scalars()]
    return [one for one in digests if not (folder / "default" / one[:2] / one).exists()]


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A file system of so many bytes, in memory.

    Raises:
        PermissionError: we may mount none.
    """
    folder.mkdir()
    options = f"size={size}"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        raise PermissionError(f"a small disk needs root: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)
