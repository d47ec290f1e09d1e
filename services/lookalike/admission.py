"""Whether more images may come, decided before any of their bytes is read."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from lookalike.collections import Team
from lookalike.errors import Overloaded, StorageFull
from lookalike.interfaces import BlobStore, Ledger

FREE_BYTES_SECONDS = 1.0  # how long the room on the disk is taken to stay the same


@dataclass(frozen=True)
class Capacity:
    """How much may wait, and how much room stays free."""

    max_pending_images: int  # of all teams
    max_pending_images_per_team: int
    min_free_bytes: int


class Admission:
    """Refuses images that there is no room for, while what is accepted is finished.

    Safe to use from several threads. A request that was let in may go over a limit by
    its own images: limits keep the backlog from growing without end, they are no
    quota.
    """

    def __init__(
        self,
        ledger: Ledger,
        blobs: BlobStore,
        capacity: Capacity,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._blobs = blobs
        self._capacity = capacity
        self._clock = clock
        self._known = (float("-inf"), 0)  # when the room was looked at, free bytes

    def check(self, team: Team) -> None:
        """Return if a team may send images now.

        Raises:
            Overloaded: as many images wait as may, of this team or of all.
            StorageFull: the disk of the originals has too little room.
            LedgerUnavailable: the database does not answer.
            StorageUnavailable: originals cannot be read or written.
        """
        self._check_room()
        self.check_backlog(team)

    def _check_room(self) -> None:
        free, least = self._free_bytes(), self._capacity.min_free_bytes
        if free < least:
            raise StorageFull(
                f"The disk of the originals has {free} bytes left, and {least} stay "
                "free. An operator has to make room (LOOKALIKE_MIN_FREE_BYTES).",
                extra={"free_bytes": free, "min_free_bytes": least},
            )

    def _free_bytes(self) -> int:
        looked, free = self._known
        now = self._clock()
        if now - looked >= FREE_BYTES_SECONDS:
            free = self._blobs.free_bytes()
            self._known = now, free
        return free

    def check_backlog(self, team: Team) -> None:
        """Return if a team may make more work, of originals that are kept already.

        Raises:
            Overloaded: as many images wait as may, of this team or of all.
            LedgerUnavailable: the database does not answer.
        """
        backlog = self._ledger.backlog(team)
        of_team = self._capacity.max_pending_images_per_team
        of_all = self._capacity.max_pending_images
        if backlog.team >= of_team:
            raise Overloaded(
                f"{backlog.team} images of this team wait to be indexed; the limit is "
                f"{of_team}. Send this request again later.",
                extra={"pending": backlog.team, "limit": of_team},
            )
        if backlog.all >= of_all:
            # How much the others send is not for this team to know.
            raise Overloaded(
                f"As many images wait to be indexed as may: {of_all}. Send this "
                "request again later.",
                extra={"limit": of_all},
            )
