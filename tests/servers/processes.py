"""Our own commands as processes: ``lookalike up``, ``api`` and ``worker``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

START_SECONDS = 90.0
STOP_SECONDS = 30.0


class ProcessFailed(Exception):
    """It ended, or did not become ready; the message ends with what it printed."""


class Process:
    """One command in its own process group; what it prints is in ``output``."""

    def __init__(
        self, command: Sequence[str], folder: Path, env: Mapping[str, str]
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.command = list(command)
        self.output = folder / f"{Path(command[-1]).stem}-{time.monotonic_ns()}.log"
        with self.output.open("wb") as log:
            self._popen = subprocess.Popen(
                self.command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=clean_environment(env),
                start_new_session=True,
            )
        self.pid = self._popen.pid

    @property
    def printed(self) -> str:
        return self.output.read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        return self._popen.poll() is None

    def wait_until(self, is_ready: Callable[[], bool], what: str) -> None:
        """Wait until it is ready.

        Raises:
            ProcessFailed: it ended, or it took too long.
        """
        deadline = time.monotonic() + START_SECONDS
        while not is_ready():
            if not self.is_running:
                raise ProcessFailed(
                    f"{self.command} ended with {self._popen.returncode}; it "
                    f"printed:\n{self.printed[-4000:]}"
                )
            if time.monotonic() > deadline:
                raise ProcessFailed(
                    f"{self.command}: no {what} after {START_SECONDS:.0f} s; it "
                    f"printed:\n{self.printed[-4000:]}"
                )
            time.sleep(0.05)

    def signal(self, number: int) -> None:
        """Send a signal to the process itself, not to its children."""
        self._popen.send_signal(number)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """The exit status; negative if a signal ended it."""
        return self._popen.wait(seconds)

    def stop(self) -> int:
        """Ask it to stop, and give back its exit status."""
        if self.is_running:
            self.signal(signal.SIGTERM)
        try:
            return self.wait()
        finally:
            self.kill()

    def kill(self) -> None:
        """End it and all of its children at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait(STOP_SECONDS)


def clean_environment(env: Mapping[str, str]) -> dict[str, str]:
    """This environment with these settings, and with no other setting of ours."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("LOOKALIKE_")
    }
    return {**kept, "PYTHONUNBUFFERED": "1", **env}


@contextmanager
def running(
    command: Sequence[str], folder: Path, env: Mapping[str, str]
) -> Iterator[Process]:
    """Any command for the time of the block; stopped, then killed, afterwards."""
    process = Process(command, folder, env)
    try:
        yield process
    finally:
        try:
            process.stop()
        except subprocess.TimeoutExpired:
            process.kill()


def lookalike(*arguments: str) -> list[str]:
    """The command line of one of our commands."""
    return [sys.executable, "-m", "lookalike", *arguments]


@contextmanager
def running_up(
    folder: Path, env: Mapping[str, str] | None = None, *arguments: str
) -> Iterator[tuple[Process, str]]:
    """``lookalike up`` on the data folder ``folder/data``, ready, and its address."""
    command = lookalike("up", "--data-dir", str(folder / "data"), *arguments)
    with running(command, folder, {"LOOKALIKE_PORT": "0", **(env or {})}) as process:
        ready = "Lookalike is ready: "
        process.wait_until(lambda: ready in process.printed, "address")
        yield process, process.printed.split(ready)[1].split()[0]


@contextmanager
def running_api(
    folder: Path, port: int, env: Mapping[str, str]
) -> Iterator[tuple[Process, str]]:
    """``lookalike api``, answering, and its address."""
    address = f"http://127.0.0.1:{port}"
    command = lookalike("api", "--port", str(port))
    with running(command, folder, env) as process:
        process.wait_until(lambda: answers(f"{address}/healthz"), "answer")
        yield process, address


@contextmanager
def running_worker(folder: Path, env: Mapping[str, str]) -> Iterator[Process]:
    """``lookalike worker``, consuming."""
    with running(lookalike("worker"), folder, env) as process:
        process.wait_until(lambda: " ready." in process.printed, "sign of life")
        yield process


def answers(url: str) -> bool:
    """Whether there is a 200 under this address now."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False
