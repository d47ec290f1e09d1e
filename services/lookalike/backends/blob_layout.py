"""Where the files of the originals lie, and how failures of the disk are told.

ROOT/TEAM/incoming/…             on their way in; what a crash leaves goes after a day
ROOT/TEAM/ab/abcd…               originals, named by their SHA-256
ROOT/TEAM/set-aside/ab/abcd…     originals that nothing names, until they are removed
ROOT/TEAM/cache/xy/NAME          thumbnails and the like; may be deleted at any time
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lookalike.collections import Team
from lookalike.errors import StorageFull, StorageUnavailable
from lookalike.interfaces import Digest

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
DIGEST = re.compile(r"[0-9a-f]{64}")
MOVES = 3  # how often an original is looked for, in both places


@dataclass(frozen=True)
class Layout:
    """Paths below one directory. No name reaches anything outside of its folder."""

    root: Path

    def team(self, team: Team) -> Path:
        """The folder of a team."""
        return self.root / _checked(NAME, team, "team")

    def teams(self) -> list[Team]:
        """The teams that have a folder."""
        with os.scandir(self.root) as entries:
            names = [entry.name for entry in entries if entry.is_dir()]
        return sorted(Team(name) for name in names if NAME.fullmatch(name))

    def incoming(self, team: Team) -> Path:
        """The folder of what is on its way in."""
        return self.team(team) / "incoming"

    def original(self, team: Team, digest: Digest) -> Path:
        """Where an original lies."""
        name = _checked(DIGEST, digest, "digest")
        return self.team(team) / name[:2] / name

    def set_aside(self, team: Team, digest: Digest) -> Path:
        """Where an original lies that nothing named lately."""
        name = _checked(DIGEST, digest, "digest")
        return self.team(team) / "set-aside" / name[:2] / name

    def cached(self, team: Team, name: str) -> Path:
        """Where a derived file lies."""
        _checked(NAME, name, "cache name")
        spread = hashlib.sha256(name.encode()).hexdigest()[:2]
        return self.team(team) / "cache" / spread / name

    def is_there(self, team: Team, digest: Digest) -> bool:
        """Whether an original can be read, wherever it lies."""
        places = self.original(team, digest), self.set_aside(team, digest)
        # Looked for several times, as it may move while it is looked for.
        return any(exists(place) for _ in range(MOVES) for place in places)

    def bring_back(self, team: Team, digest: Digest) -> bool:
        """Put an original back that was set aside; whether this call did it."""
        try:
            self.set_aside(team, digest).replace(self.original(team, digest))
        except FileNotFoundError:
            return False
        return True


@contextmanager
def storage_errors() -> Iterator[None]:
    """Turn a failure of the disk into ours.

    Raises:
        StorageFull: there is no room, or the quota is used up.
        StorageUnavailable: anything else.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(
                "the disk of the originals is full; free some space and repeat"
            ) from error
        raise StorageUnavailable(
            f"originals cannot be read or written: {error.strerror or error}"
        ) from error


def exists(path: Path) -> bool:
    """Whether a file is there; other problems than that are raised."""
    try:
        path.stat()
    except FileNotFoundError:
        return False
    return True


def _checked(pattern: re.Pattern[str], text: str, what: str) -> str:
    """The text, once it is certain that it names nothing outside its folder."""
    if not pattern.fullmatch(text):
        raise ValueError(f"not a {what}: {text!r}")
    return text
