"""Whole platforms of real processes: a cluster of servers, or one ``lookalike up``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from faults import parts
from faults.clients import COLLECTION
from faults.parts import Command, Part, wait_until_back
from servers.milvus import running_milvus
from servers.postgres import running_postgres
from servers.redis import free_port, running_redis
from servers.triton import running_triton

# Work whose worker died waits for the end of its lease: less than the 180 s of an
# installation, so that a scenario does not spend its time on that.
QUICK = {"LOOKALIKE_LEASE_SECONDS": "45", "LOOKALIKE_RECONCILE_SECONDS": "5"}


@dataclass
class Platform:
    """The parts of a running platform, and where to find what they keep.

    Attributes:
        url: of the API.
        database: SQLAlchemy URL of the ledger.
        milvus: address of the index; a file for Milvus Lite.
        parts: by name.
        folder: of everything that it writes.
    """

    url: str
    database: str
    milvus: str
    folder: Path
    parts: dict[str, Part] = field(default_factory=dict)

    @property
    def is_single(self) -> bool:
        """Whether it is ``lookalike up``."""
        return "up" in self.parts

    @property
    def originals(self) -> Path:
        """Where originals are kept."""
        return self.folder / "data" / "originals"

    @property
    def commands(self) -> list[Command]:
        """Our own processes."""
        return [part for part in self.parts.values() if isinstance(part, Command)]

    def start(self) -> None:
        """Start our own processes, wait for them, and make the collection."""
        for command in self.commands:
            command.spawn()
        for command in self.commands:
            wait_until_back(command)
        self.create()

    def create(self) -> None:
        """Make the collection, unless it is there."""
        body = {"name": COLLECTION, "fields": {"tag": {"type": "int"}}}
        answer = httpx.post(f"{self.url}/v1/collections", json=body, timeout=60)
        assert answer.status_code in (201, 409), answer.text

    def restart(self, env: Mapping[str, str]) -> None:
        """Kill our own processes, and start them with these settings; do not wait."""
        for command in self.commands:
            command.kill()
            command.env.update(env)
            command.spawn()


@contextmanager
def single(
    folder: Path, env: Mapping[str, str] | None = None, *, start: bool = True
) -> Iterator[Platform]:
    """``lookalike up`` on SQLite, Milvus Lite and threads, with its collection."""
    port = free_port()
    data = folder / "data"
    platform = Platform(
        url=f"http://127.0.0.1:{port}",
        database=f"sqlite:///{data / 'ledger.sqlite3'}",
        milvus=str(data / "milvus.db"),
        folder=folder,
    )
    one = parts.up(
        folder, port, {"LOOKALIKE_WORKERS": "2", **(QUICK if env is None else env)}
    )
    platform.parts["up"] = one
    try:
        if start:
            platform.start()
        yield platform
    finally:
        one.kill()


@contextmanager
def cluster(
    folder: Path,
    env: Mapping[str, str] | None = None,
    *,
    workers: int = 2,
    persistence: str = "log",
    sqlite: bool = False,
    triton: bool = False,
    start: bool = True,
) -> Iterator[Platform]:
    """api, workers, Redis, Milvus and PostgreSQL, each its own process group.

    Args:
        folder: for everything that is written.
        env: settings of the API and the workers, instead of ``QUICK``.
        workers: how many worker processes, each with one child.
        persistence: of Redis.
        sqlite: keep the ledger in a file rather than in PostgreSQL.
        triton: embed by a Triton server.
        start: whether to start our own processes, too.
    """
    with ExitStack() as stack:
        redis = stack.enter_context(running_redis(folder, persistence))
        milvus = stack.enter_context(running_milvus())
        found: dict[str, Part] = {
            "redis": parts.Redis(redis),
            "milvus": parts.Milvus(milvus),
        }
        database = f"sqlite:///{folder / 'data' / 'ledger.sqlite3'}"
        if not sqlite:
            postgres = stack.enter_context(running_postgres())
            found["postgres"] = parts.Postgres(postgres)
            database = postgres.new_database()
        settings = {
            "LOOKALIKE_DATA_DIR": str(folder / "data"),
            "LOOKALIKE_MILVUS_URI": milvus.uri,
            "LOOKALIKE_DATABASE_URL": database,
            "LOOKALIKE_REDIS_URL": redis.url,
            "LOOKALIKE_WORKERS": "1",
            **(QUICK if env is None else env),
        }
        if triton:
            server = stack.enter_context(running_triton(folder))
            found["triton"] = parts.Triton(server)
            settings["LOOKALIKE_TRITON_URL"] = server.url
        port = free_port()
        found["api"] = parts.api(folder, port, settings, processes=2)
        for number in range(1, workers + 1):
            name = f"worker{number}"
            found[name] = parts.worker(name, folder, settings)
        platform = Platform(
            f"http://127.0.0.1:{port}", database, milvus.uri, folder, found
        )
        for command in platform.commands:
            stack.callback(command.kill)
        if start:
            platform.start()
        yield platform
