"""Exit status 0 if this container works: ``health.py api`` or ``health.py worker``.

Run inside the container by its health check. The standard library only, since it runs
every few seconds: importing the platform would cost more than the check.
"""

from __future__ import annotations

import os
import socket
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

PROC = Path("/proc")
ESTABLISHED = "01"
TIMEOUT_SECONDS = 8  # below the timeout of the health check


def api_problem() -> str:
    """What is wrong with the API; empty if it embeds, searches and stores."""
    port = os.environ.get("LOOKALIKE_PORT", "8080")
    try:
        url = f"http://127.0.0.1:{port}/readyz"
        urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS).close()
    except urllib.error.HTTPError as error:
        return error.read(2000).decode(errors="replace")
    except OSError as error:
        return f"no answer: {error}"
    return ""


def worker_problem(pid: int | None = None) -> str:
    """What is wrong with the worker; empty if it has children and listens to Redis.

    A worker has no port to ask. What it must have is a process for each core, and a
    connection to Redis, which it drops when it stops to take messages.
    """
    workers = {number: _parent(number) for number in _workers()}
    mains = [number for number, parent in workers.items() if parent not in workers]
    main = pid if pid is not None else min(mains, default=0)
    if main not in workers:
        return "there is no worker process"
    if main not in workers.values():
        return "the worker has no children"
    port = urlsplit(os.environ.get("LOOKALIKE_REDIS_URL", "")).port or 6379
    if not _sockets(main) & _connected_to(main, port):
        return f"the worker has no connection to Redis on port {port}"
    return ""


def _workers() -> list[int]:
    found = []
    for folder in PROC.glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # it has just ended
        if b"worker" in words and any(b"lookalike" in word for word in words):
            found.append(int(folder.name))
    return found


def _parent(pid: int) -> int:
    try:
        # The name before it, in parentheses, may itself hold spaces and parentheses.
        words = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(words[1])


def _sockets(pid: int) -> set[str]:
    """The inodes of the sockets that a process has open."""
    names = set()
    for entry in (PROC / str(pid) / "fd").iterdir():
        try:
            names.add(os.readlink(entry))
        except OSError:
            continue  # closed meanwhile
    return {name[8:-1] for name in names if name.startswith("socket:[")}


def _connected_to(pid: int, port: int) -> set[str]:
    """The inodes of the TCP connections to a port, in the network of a process."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in (PROC / str(pid) / "net" / table).read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == ESTABLISHED and int(words[2].rpartition(":")[2], 16) == port:
                found.add(words[9])
    return found


def main(arguments: list[str]) -> int:
    """Exit status 0 if all is well; otherwise says what is wrong."""
    match arguments:
        case ["api"]:
            problem = api_problem()
        case ["worker"]:
            problem = worker_problem()
        case ["worker", pid]:
            problem = worker_problem(int(pid))
        case _:
            problem = "usage: health.py api | worker [PID]"
    if problem:
        print(problem, file=sys.stderr)
    return 1 if problem else 0


if __name__ == "__main__":
    socket.setdefaulttimeout(TIMEOUT_SECONDS)
    sys.exit(main(sys.argv[1:]))
