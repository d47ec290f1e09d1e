"""A server of one's own: started for the demo, stopped with it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO

from lookalike.errors import LookalikeError

READY = "Lookalike is ready: "
START_SECONDS = 90.0
STOP_SECONDS = 15.0
KEPT_LINES = 30  # of the log, to show when the server does not start


@contextlib.contextmanager
def running_server(data_dir: Path, port: int | None) -> Iterator[str]:
    """Run ``lookalike up`` for the time of the block; gives its address.

    Raises:
        LookalikeError: it did not start; the sentence has the end of its log.
    """
    command = [sys.executable, "-m", "lookalike", "up", "--data-dir", str(data_dir)]
    if port is not None:
        command += ["--port", str(port)]
    log = data_dir / "server.log"
    data_dir.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            # Ctrl-C in a terminal goes to a whole group; the server is stopped by
            # the demo, in its own time.
            start_new_session=True,
        )
        try:
            yield _address(process, log)
        finally:
            _stop(process)


def _address(process: subprocess.Popen[str], log: Path) -> str:
    """What the server says once it answers requests."""
    lines: SimpleQueue[str | None] = SimpleQueue()
    reader = threading.Thread(target=_read, args=(process.stdout, lines), daemon=True)
    reader.start()
    deadline = time.monotonic() + START_SECONDS
    while (left := deadline - time.monotonic()) > 0:
        try:
            line = lines.get(timeout=left)
        except Empty:
            break
        if line is None:
            break
        if line.startswith(READY):
            return line.removeprefix(READY).strip()
    raise LookalikeError(
        f"The server did not start. The end of its log, {log}:\n{_end_of(log)}",
        code="server_not_started",
    )


def _read(stream: IO[str] | None, lines: SimpleQueue[str | None]) -> None:
    for line in stream or ():  # to its end, so that the server never has to wait
        lines.put(line)
    lines.put(None)


def _end_of(log: Path) -> str:
    with log.open(encoding="utf-8", errors="replace") as file:
        return "".join(deque(file, KEPT_LINES)).rstrip()


def _stop(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        _signal(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    # What the group still holds goes as well, however the server ended.
    _signal(process, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _signal(process: subprocess.Popen[str], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
