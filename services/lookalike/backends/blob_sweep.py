"""Removes originals that no image names, without ever losing one that is wanted.

An original is moved aside first, and removed only if nothing names it after as long
again. A request may find an original in its place, count on it, and be recorded after
it was moved: then the next reader brings it back, and so does the next sweep.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from lookalike.backends.blob_layout import DIGEST, Layout, exists
from lookalike.collections import Team
from lookalike.interfaces import Digest, Named, Stop, Swept

BATCH = 1_000  # originals that the ledger is asked about at once
MOST_FILES = 2_500_000  # looked at by one call: 60 million a day, if called hourly
FOLDERS = 256  # that the originals of a team are spread over


class Sweeper:
    """Sweeps one store, one folder after the other; a call goes on where one ended."""

    def __init__(self, layout: Layout, *, most_files: int = MOST_FILES) -> None:
        self._layout = layout
        self._most_files = most_files
        # Somewhere, so that a process which never lives long sweeps everything too.
        self._next = random.randrange(FOLDERS)

    def run(self, named: Named, older_than_seconds: float, stop: Stop) -> Swept:
        """Sweep all folders, or as many as hold the most files of one call.

        Raises:
            OSError: the disk fails.
        """
        with _alone(self._layout.root / ".sweep.lock") as is_alone:
            if not is_alone:
                return Swept()
            sweep = _Sweep(self._layout, named, older_than_seconds, stop)
            for _ in range(FOLDERS):
                sweep.folder(f"{self._next:02x}")
                if stop():
                    break
                self._next = (self._next + 1) % FOLDERS
                if sweep.looked_at >= self._most_files:
                    break
            return Swept(sweep.set_aside, sweep.brought_back, sweep.removed)


class _Sweep:
    """One call; counts what it does."""

    def __init__(
        self, layout: Layout, named: Named, seconds: float, stop: Stop
    ) -> None:
        self._layout = layout
        self._named = named
        self._old = time.time() - seconds
        self._stop = stop
        self.looked_at = 0
        self.set_aside = self.brought_back = self.removed = 0

    def folder(self, name: str) -> None:
        """Sweep the folders of this name of all teams."""
        for team in self._layout.teams():
            top = self._layout.team(team)
            # First what lies aside, so that nothing goes both ways in one sweep.
            for batch in self._batches(top / "set-aside" / name):
                self._clear(team, batch)
            for batch in self._batches(top / name):
                self._set_aside(team, [one for one in batch if self._is_old(one)])
            for batch in self._batches(top / "cache" / name):
                self._forget_derived(team, batch)

    def _batches(self, folder: Path) -> Iterator[list[Path]]:
        """The files of a folder, in pieces, so that memory stays constant."""
        try:
            entries = os.scandir(folder)
        except FileNotFoundError:
            return
        with entries:
            paths = (Path(entry.path) for entry in entries)
            while not self._stop() and (batch := list(itertools.islice(paths, BATCH))):
                self.looked_at += len(batch)
                yield batch

    def _set_aside(self, team: Team, paths: Sequence[Path]) -> None:
        originals = _digests(paths)
        for digest in originals - self._needed(team, originals):
            place = self._layout.original(team, digest)
            aside = self._layout.set_aside(team, digest)
            aside.parent.mkdir(parents=True, exist_ok=True)
            if self._is_old(place):  # still: a request may have counted on it by now
                with suppress(FileNotFoundError):
                    os.utime(place)  # from now on the time of its being set aside
                    place.replace(aside)
                    self.set_aside += 1

    def _clear(self, team: Team, paths: Sequence[Path]) -> None:
        originals = _digests(paths)
        needed = self._needed(team, originals)
        for digest in originals:
            aside = self._layout.set_aside(team, digest)
            is_needed = digest in needed
            if is_needed and not exists(self._layout.original(team, digest)):
                self.brought_back += self._layout.bring_back(team, digest)
            elif is_needed or self._is_old(aside):
                with suppress(FileNotFoundError):  # a reader brought it back
                    aside.unlink()
                    self.removed += not is_needed

    def _forget_derived(self, team: Team, paths: Sequence[Path]) -> None:
        for path in paths:
            digest = path.name[:64]
            if DIGEST.fullmatch(digest) and not self._layout.is_there(
                team, Digest(digest)
            ):
                path.unlink(missing_ok=True)

    def _needed(self, team: Team, digests: set[Digest]) -> set[Digest]:
        return self._named(team, sorted(digests)) if digests else set()

    def _is_old(self, path: Path) -> bool:
        with suppress(FileNotFoundError):
            return path.stat().st_mtime < self._old
        return False


def _digests(paths: Sequence[Path]) -> set[Digest]:
    return {Digest(path.name) for path in paths if DIGEST.fullmatch(path.name)}


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Whether no other sweep of this store runs, in whatever process."""
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
