"""The processes of a platform, each of which can be killed and started again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import psutil

from servers.milvus import MilvusServer
from servers.postgres import PostgresServer
from servers.processes import Process, answers, lookalike
from servers.redis import RedisServer
from servers.triton import TritonServer


class Part(Protocol):
    """One process with its children.

    ``kill`` and ``spawn`` come back at once; a part is back when ``is_back`` says so.
    """

    name: str

    def spawn(self) -> None: ...
    def kill(self) -> None: ...
    def is_back(self) -> bool: ...


class Command:
    """One of our own commands, started again whenever it ended."""

    def __init__(
        self,
        name: str,
        command: list[str],
        folder: Path,
        env: Mapping[str, str],
        ready: str,
    ) -> None:
        self.name = name
        self.command = command
        self._folder = folder
        self.env = dict(env)
        self._ready = ready  # what it prints, or the address that answers
        self._process: Process | None = None
        self.starts = 0

    def spawn(self) -> None:
        """Start it, unless it runs."""
        if self._process is None or not self._process.is_running:
            self._process = Process(self.command, self._folder, self.env)
            self.starts += 1

    def kill(self) -> None:
        """End it with all its children."""
        if self._process is not None:
            self._process.kill()

    def stop(self) -> None:
        """Ask it to stop, and wait for that."""
        if self._process is not None:
            self._process.stop()

    def is_back(self) -> bool:
        """Whether it does its work; starts it again if it gave up starting."""
        if self._process is None:
            return False
        if not self._process.is_running:
            self.spawn()
            return False
        if self._ready.startswith("http"):
            return answers(self._ready)
        return self._ready in self._process.printed

    @property
    def is_running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.is_running

    @property
    def printed(self) -> str:
        """What its newest process printed."""
        return self._process.printed if self._process is not None else ""

    def children(self) -> list[psutil.Process]:
        """The processes that it forked."""
        assert self._process is not None
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self._process.pid).children(recursive=True)
        return []

    def family(self) -> list[psutil.Process]:
        """It and its children."""
        assert self._process is not None
        with suppress(psutil.NoSuchProcess):
            return [psutil.Process(self._process.pid), *self.children()]
        return []


class Redis:
    """The broker."""

    name = "redis"

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.kill = server.kill
        self.spawn = server.start

    def is_back(self) -> bool:
        """Starting it waits until it answers."""
        return True


class Milvus:
    """The index; back when a search through the API is answered."""

    name = "milvus"

    def __init__(self, server: MilvusServer) -> None:
        self.server = server
        self.kill = server.kill

    def spawn(self) -> None:
        """Start it, and do not wait."""
        if not self.server.is_running:
            self.server.spawn()

    def is_back(self) -> bool:
        """Whether it says that it is healthy; starts it again if it ended."""
        self.spawn()
        return self.server.is_healthy


class Postgres:
    """The ledger's database."""

    name = "postgres"

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self.kill = server.kill
        self.spawn = server.start

    def is_back(self) -> bool:
        """Starting it waits until it answers."""
        return True


class Triton:
    """The embedder."""

    name = "triton"

    def __init__(self, server: TritonServer) -> None:
        self.server = server
        self.kill = server.kill
        self.spawn = server.start

    def is_back(self) -> bool:
        """Starting it waits until its models are loaded."""
        return True


def api(folder: Path, port: int, env: Mapping[str, str], *, processes: int) -> Command:
    """``lookalike api``: gunicorn and its children."""
    command = lookalike("api", "--port", str(port), "--processes", str(processes))
    ready = f"http://127.0.0.1:{port}/healthz"
    return Command("api", command, folder / "api", env, ready)


def worker(name: str, folder: Path, env: Mapping[str, str]) -> Command:
    """``lookalike worker``: Celery and its children."""
    return Command(name, lookalike("worker"), folder / name, env, " ready.")


def up(folder: Path, port: int, env: Mapping[str, str]) -> Command:
    """``lookalike up``: everything in one process."""
    command = lookalike("up", "--data-dir", str(folder / "data"), "--port", str(port))
    ready = f"http://127.0.0.1:{port}/healthz"
    return Command("up", command, folder / "up", env, ready)


def wait_until_back(part: Part, seconds: float = 300.0) -> float:
    """Wait until a part is back; gives back how many seconds that took.

    Raises:
        TimeoutError: it does not come back.
    """
    began = time.monotonic()
    while not part.is_back():
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"{part.name} is not back after {seconds:.0f} s")
        time.sleep(0.1)
    return time.monotonic() - began
