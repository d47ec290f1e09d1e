"""A real prefork worker with a fake inside: ids become lines in a file.

Started as a program: ``recording_worker.py FOLDER``, with settings in the environment.
Files in the folder are how the test and the worker talk to each other.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from lookalike.backends.celery import CeleryQueue
from lookalike.config import Settings
from lookalike.errors import IndexUnavailable
from lookalike.interfaces import WorkId

if TYPE_CHECKING:
    from lookalike.bootstrap import Backends

# Work with a meaning of its own.
NEEDS_TOO_MUCH_MEMORY = WorkId(-1)
RAISES = WorkId(-2)
WAITS = WorkId(-3)  # for the file "go"


def command(folder: Path) -> list[str]:
    """The command line of the worker that records into this folder."""
    # -P: beside this file lies one called redis.py, which is not the library.
    return [sys.executable, "-P", __file__, str(folder)]


class Record:
    """What was handled, in a file that many processes write to and a test reads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def handle(self, ids: Sequence[WorkId]) -> None:
        """Note the ids, and do what those with a meaning say."""
        self._append("chunks", f"{os.getpid()} {' '.join(map(str, ids))}\n")
        if NEEDS_TOO_MUCH_MEMORY in ids:
            raise MemoryError
        if RAISES in ids:
            raise RuntimeError("as the test asked for")
        while WAITS in ids and not (self.folder / "go").exists():
            time.sleep(0.01)
        self._append("handled", "".join(f"{work}\n" for work in ids))

    def handled(self) -> list[int]:
        """Every id that was handled, as often as it was."""
        return [int(line) for line in self.lines("handled")]

    def chunks(self) -> list[list[int]]:
        """Every chunk that was begun: the process id, and the work."""
        return [[int(word) for word in line.split()] for line in self.lines("chunks")]

    def lines(self, name: str) -> list[str]:
        """The lines of one of the files."""
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    def connected(self) -> None:
        """Note which process connected.

        Raises:
            IndexUnavailable: the test says that the index is down.
        """
        if (self.folder / "down").exists():
            self._append("refused", f"{os.getpid()}\n")
            raise IndexUnavailable("the index is down, says the test")
        self._append("connected", f"{os.getpid()}\n")

    def due(self, limit: int) -> list[WorkId]:
        """In place of a ledger: what the test wants to be rung for again."""
        self._append("sweeps", f"{os.getpid()}\n")
        try:
            (self.folder / "due").rename(self.folder / "due-taken")
        except FileNotFoundError:
            return []
        return [WorkId(int(line)) for line in self.lines("due-taken")]

    def _append(self, name: str, text: str) -> None:
        # One write in append mode is never torn by another process.
        with (self.folder / name).open("ab", buffering=0) as file:
            file.write(text.encode())


class _Backends:
    """As much of the backends as a worker touches."""

    def __init__(self, record: Record, settings: Settings) -> None:
        self.ledger = record
        self.queue = CeleryQueue(
            settings.redis_url.get_secret_value(), chunk_images=settings.chunk_images
        )
        self.index_images = record.handle


def connect_to(folder: Path) -> Callable[[Settings], Backends]:
    """A ``bootstrap.connect`` that records into a folder."""

    def connect(settings: Settings) -> Backends:
        record = Record(folder)
        record.connected()
        return cast("Backends", _Backends(record, settings))

    return connect


if __name__ == "__main__":
    from lookalike.worker.child import create_worker, run_worker

    found = Settings()
    run_worker(create_worker(found, connect_to(Path(sys.argv[1]))), found)
