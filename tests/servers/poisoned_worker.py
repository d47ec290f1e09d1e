"""A real prefork worker in which some pictures are poison, and some embed to nonsense.

Started as a program: ``poisoned_worker.py FOLDER``, with settings in the environment.
The ledger and the originals in the folder are real; the index is a file of keys.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

import numpy as np

from fakes import FakeEmbedder
from lookalike.backends.blobs import DirectoryBlobs
from lookalike.backends.celery import CeleryQueue
from lookalike.backends.ledger import SqlLedger
from lookalike.backends.milvus_connection import Connection
from lookalike.backends.vectors import checked
from lookalike.collections import Collection, Team
from lookalike.config import Settings
from lookalike.images import Limits
from lookalike.ingest import index_images
from lookalike.interfaces import Digest, ImageKey, IndexRow, Pixels, Vectors

if TYPE_CHECKING:
    from lookalike.bootstrap import Backends

MAX_TASKS = "POISON_MAX_TASKS"  # per child; by default as usual
MILVUS = "POISON_MILVUS"  # a server to call over gRPC with every write
POISON = "POISON"  # DIGEST=WAY, separated by commas: what reading that picture does

# Plain pictures of these colours embed to what is no vector.
NOT_A_NUMBER, ZERO, TOO_LONG, TOO_FEW = (
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (255, 255, 0),
)


def command(folder: Path) -> list[str]:
    """The command line of the worker that works on this folder."""
    # -P: beside this file lies one called redis.py, which is not the library.
    return [sys.executable, "-P", __file__, str(folder)]


def open_ledger(folder: Path) -> SqlLedger:
    """The ledger of a folder, as quick to give up as tests are."""
    return SqlLedger(
        f"sqlite:///{folder / 'ledger.sqlite3'}",
        lease_seconds=1,
        ring_again_seconds=0.3,
        sweep_lease_seconds=1,
    )


def open_originals(folder: Path) -> DirectoryBlobs:
    """The originals of a folder."""
    return DirectoryBlobs(folder / "originals")


def indexed(folder: Path) -> list[str]:
    """The keys that were stored, as often as they were."""
    path = folder / "index"
    return path.read_text().split() if path.exists() else []


def deaths(folder: Path) -> int:
    """How often a poisoned picture was begun to be worked on."""
    path = folder / "deaths"
    return len(path.read_text().split()) if path.exists() else 0


def _die(way: str) -> NoReturn:
    if way == "segfault":
        ctypes.string_at(0)
    elif way == "exit":
        os._exit(1)
    elif way == "memory":
        raise MemoryError
    elif way == "allocate":  # more than a child may have
        bytearray(64 * 2**30)
    raise AssertionError(f"survived {way}")


class _PoisonedOriginals:
    """Originals, some of which end the process that decodes them."""

    def __init__(self, folder: Path, ways: dict[str, str]) -> None:
        self._deaths = folder / "deaths"
        self._blobs = open_originals(folder)
        self._ways = ways

    def read(self, team: Team, digest: Digest) -> bytes:
        if digest in self._ways:
            with self._deaths.open("a") as file:
                file.write(f"{digest}\n")
            _die(self._ways[digest])
        return self._blobs.read(team, digest)


class _OddEmbedder(FakeEmbedder):
    """Answers for some pictures what a broken network might, checked as always is."""

    def embed(self, pixels: Pixels) -> Vectors:
        colours = [tuple(int(part) for part in square[0, 0]) for square in pixels]
        answer = super().embed(pixels)
        for number, colour in enumerate(colours):
            if colour == NOT_A_NUMBER:
                answer[number, 3] = np.nan
            elif colour == ZERO:
                answer[number] = 0
        if TOO_LONG in colours:
            answer = np.hstack([answer, answer])
        if TOO_FEW in colours:
            answer = answer[:-1]
        return checked(answer, len(pixels), self.dimension)


class _FileIndex:
    """As much of an index as a worker needs: a line in a file for each row."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "index"
        uri = os.environ.get(MILVUS)
        self._milvus = Connection(uri, "", None) if uri else None

    def upsert(self, _: Collection, rows: Sequence[IndexRow]) -> None:
        if self._milvus is not None:
            self._milvus.client.list_collections(timeout=20)
        # One write in append mode is never torn by another process.
        with self._path.open("ab", buffering=0) as file:
            file.write("".join(f"{row.key}\n" for row in rows).encode())

    def settle(self, _: Collection) -> None:
        pass

    def vectors(self, _: Collection, __: Sequence[ImageKey]) -> dict[ImageKey, Any]:
        return {}


class _Backends:
    """As much of the backends as a worker touches."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        ways = dict(pair.split("=") for pair in os.environ[POISON].split(",") if pair)
        self.ledger = open_ledger(folder)
        self.queue = CeleryQueue(
            settings.redis_url.get_secret_value(), chunk_images=settings.chunk_images
        )
        self.index_images = partial(
            index_images,
            self.ledger,
            cast("Any", _PoisonedOriginals(folder, ways)),
            _OddEmbedder(),
            cast("Any", _FileIndex(folder)),
            limits=Limits(),
        )


def _connect(folder: Path, settings: Settings) -> Backends:
    (folder / f"connected-{os.getpid()}").touch()
    return cast("Backends", _Backends(folder, settings))


if __name__ == "__main__":
    from lookalike.worker.child import create_worker, run_worker

    found = Settings()
    app = create_worker(found, partial(_connect, Path(sys.argv[1])))
    if MAX_TASKS in os.environ:
        app.conf.worker_max_tasks_per_child = int(os.environ[MAX_TASKS])
    run_worker(app, found)
