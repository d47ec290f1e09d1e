"""Named places at which a test makes a process die, fail or hang.

    LOOKALIKE_FAILPOINTS="claim.committed=kill@3!/tmp/once,blob.renamed=hang:2"

Each entry is ``name=action[:SECONDS][@NTH][!FILE]``: do this when the place is reached
for the NTH time in this process (every time without it), and only if FILE does not
exist yet; it is made first, so that a process which is started again goes on. Without
the variable, and so in every installation, a place costs one look into an empty dict.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

VARIABLE = "LOOKALIKE_FAILPOINTS"
ACTIONS = ("kill", "exit", "raise", "memory", "full", "hang", "segfault")

# Every place, in the order in which an image meets them.
NAMES = (
    "blob.written",
    "blob.synced",
    "blob.renamed",
    "accept.blobs_kept",
    "accept.recorded",  # inside the transaction
    "accept.committed",
    "accept.rung",
    "claim.marked",  # inside the transaction
    "claim.committed",
    "decode.started",
    "index.upserting",
    "index.upserted",
    "finish.counted",  # inside the transaction
    "finish.committed",
    "release.committed",
    "delete.recorded",  # inside the transaction
    "delete.committed",
    "index.deleting",
    "index.deleted",
)

_ENTRY = re.compile(
    r"(?P<name>[a-z_.]+)=(?P<action>[a-z]+)(:(?P<seconds>[0-9.]+))?"
    r"(@(?P<nth>[0-9]+))?(!(?P<marker>[^,]+))?"
)


class FailpointError(Exception):
    """What the action ``raise`` raises: an error that nobody expects."""


@dataclass
class Failpoint:
    """What happens at one place, and when."""

    action: str
    seconds: float = 0.0
    nth: int = 0  # 0: every time
    marker: str = ""  # made before it happens; where it exists, nothing happens
    _reached: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def reach(self, name: str) -> None:
        """Do what is to be done, if it is its turn."""
        with self._lock:
            self._reached += 1
            is_due = self.nth in (0, self._reached) and self._first()
        if is_due:
            self._act(name)

    def _first(self) -> bool:
        if not self.marker:
            return True
        try:
            os.close(os.open(self.marker, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        return True

    def _act(self, name: str) -> None:
        if self.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.action == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif self.action == "exit":
            os._exit(70)
        elif self.action == "hang":
            time.sleep(self.seconds)
        elif self.action == "memory":
            raise MemoryError(name)
        elif self.action == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        else:
            raise FailpointError(name)


def parse(text: str) -> Mapping[str, Failpoint]:
    """The places that a setting arms.

    Raises:
        ValueError: it names no place or no action that there is.
    """
    armed = {}
    for entry in filter(None, text.split(",")):
        found = _ENTRY.fullmatch(entry)
        if found is None or found["name"] not in NAMES:
            raise ValueError(f"{VARIABLE}: {entry!r} names no failpoint")
        if found["action"] not in ACTIONS:
            raise ValueError(f"{VARIABLE}: {entry!r} names none of {ACTIONS}")
        armed[found["name"]] = Failpoint(
            found["action"],
            seconds=float(found["seconds"] or 0),
            nth=int(found["nth"] or 0),
            marker=found["marker"] or "",
        )
    return MappingProxyType(armed)


_armed = parse(os.environ.get(VARIABLE, ""))


def failpoint(name: str) -> None:
    """Do nothing, unless this place is armed.

    Raises:
        FailpointError: it was told to raise.
        MemoryError: it was told to run out of memory.
        OSError: it was told that the disk is full.
    """
    point = _armed.get(name)
    if point is not None:
        point.reach(name)
