"""What is done once in a while: nothing piles up, drifts apart or gets out of date."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from lookalike import calibration
from lookalike.collections import DEFAULT_TEAM, Collection, Team
from lookalike.errors import CollectionNotFound, LookalikeError
from lookalike.interfaces import (
    BlobStore,
    ImageKey,
    Ledger,
    Stop,
    Swept,
    VectorIndex,
)
from lookalike.verify import Report, Ring, verify

logger = logging.getLogger(__name__)

CALIBRATION_SECONDS = 120.0  # between two looks at how the collections have grown
HOUR_SECONDS = 3600.0
DAY_SECONDS = 24 * HOUR_SECONDS
SPAN_ROWS = 100_000  # about so many rows, at most, are verified in one go

Span = tuple[ImageKey | None, ImageKey | None]  # the key before it, and its last


class Housekeeping:
    """Once an hour removes what nobody needs; once a day has the index compared.

    Every two minutes it finds out what the scores of those collections mean that have
    grown by half since that was done (``lookalike.calibration``).

    Call it now and then, in a thread of its own: that is a look into the ledger,
    which says, for all processes together, whether the time is over.

    Args:
        ledger: says whose turn it is; what ended long ago is pruned.
        index: compared with the ledger, and repaired, once a day.
        blobs: originals that no image names are set aside, and later removed.
        ring: tells the workers about repairs.
        orphan_hours: how long an original may be without a name, twice.
        keep_days: how long finished jobs and traces of deleted images are kept.
        teams: whose collections are verified.
    """

    def __init__(
        self,
        ledger: Ledger,
        index: VectorIndex,
        blobs: BlobStore,
        ring: Ring,
        *,
        orphan_hours: float,
        keep_days: float,
        teams: Sequence[Team] = (DEFAULT_TEAM,),
    ) -> None:
        self._ledger = ledger
        self._index = index
        self._blobs = blobs
        self._ring = ring
        self._orphan_seconds = orphan_hours * HOUR_SECONDS
        self._keep_days = keep_days
        self._teams = teams

    def __call__(self, stop: Stop) -> None:
        """Do what is due, if anything is, until ``stop`` says to come to an end.

        What one part cannot do does not keep the others back.

        Raises:
            LedgerUnavailable: whether anything is due cannot be found out.
        """
        if self._ledger.turn("calibration", CALIBRATION_SECONDS):
            _attempt(stop, "calibrating scores", lambda: self._calibrate(stop))
        if not self._ledger.turn("housekeeping", HOUR_SECONDS):
            return
        _attempt(stop, "removing originals without images", lambda: self._sweep(stop))
        _attempt(stop, "forgetting what ended long ago", self._prune)
        _attempt(stop, "verifying the index", lambda: self._verify(stop))

    def _calibrate(self, stop: Stop) -> None:
        for team in self._teams:
            for collection in self._ledger.collections(team):
                # Outside, so that a part that is down is told of once.
                if calibration.is_due(self._ledger, self._index, collection):
                    doing = f"calibrating the scores of collection {collection.name}"
                    _attempt(stop, doing, partial(self._calibrate_one, collection))

    def _calibrate_one(self, collection: Collection) -> None:
        """Find out what the scores mean, with the labels as before."""
        known = self._ledger.calibration(collection)
        label = known.labels.field if known and known.labels else None
        try:
            calibration.keep(self._ledger, self._index, collection, label)
        except CollectionNotFound:
            return  # deleted meanwhile

    def _sweep(self, stop: Stop) -> None:
        swept = self._blobs.sweep(
            self._ledger.named_digests, self._orphan_seconds, stop
        )
        if swept != Swept():
            logger.info(
                "originals without images: %d set aside, %d brought back, %d removed",
                *(swept.set_aside, swept.brought_back, swept.removed),
            )

    def _prune(self) -> None:
        if forgotten := self._ledger.prune(self._keep_days):
            logger.info("forgot %d rows of what ended long ago", forgotten)

    def _verify(self, stop: Stop) -> None:
        for team in self._teams:
            for collection in self._ledger.collections(team):
                doing = f"verifying collection {collection.name}"
                _attempt(stop, doing, partial(self._verify_parts, collection, stop))

    def _verify_parts(self, collection: Collection, stop: Stop) -> None:
        """Verify what was not verified for a day.

        A large collection is done in parts, since a process may not live long enough
        for all of it; the next one goes on with the next part.
        """
        # Asked first: while the index is down, no turn is used up.
        parts = _parts(self._index.count(collection))
        for number, (after, upto) in enumerate(_spans(parts)):
            name = f"verify {collection.uid} {number}/{parts}"
            if stop():
                return
            if not self._ledger.turn(name, DAY_SECONDS):
                continue
            try:
                report = verify(
                    *(self._ledger, self._index, self._blobs, collection, self._ring),
                    after=after,
                    upto=upto,
                    stop=stop,
                )
            except CollectionNotFound:
                return  # deleted meanwhile
            _tell(collection, report)


def _attempt(stop: Stop, doing: str, part: Callable[[], None]) -> None:
    if stop():
        return
    try:
        part()
    except LookalikeError as error:
        if not stop():  # what is being let go of may well answer no more
            logger.warning("%s has to wait: %s", doing, error.detail)
    except Exception:  # whatever a driver raises, the other parts are to run
        if not stop():
            logger.exception("%s ended in an error", doing)


def _parts(rows: int) -> int:
    """Into how many parts that many rows are cut: 1, 16, 256 or 4,096."""
    parts = 1
    while rows > parts * SPAN_ROWS and parts < 4_096:
        parts *= 16
    return parts


def _spans(parts: int) -> Iterator[Span]:
    """All keys, in equal parts; keys are spread evenly, being digests."""
    digits = len(f"{parts:x}") - 1
    ends = [ImageKey(f"{number:0{digits}x}") for number in range(1, parts)]
    yield from zip([None, *ends], [*ends, None], strict=True)


def _tell(collection: Collection, report: Report) -> None:
    """Log what was found, if it was anything."""
    if report.differences:
        logger.warning(
            "collection %s differed from the ledger: %d missing, %d stale, %d ghosts; "
            "%d repaired",
            *(collection.name, report.missing, report.stale, report.ghosts),
            report.repaired,
        )
    if report.originals_missing:
        logger.error(
            "collection %s has %d images whose original is not there: %s%s",
            *(collection.name, report.originals_missing),
            ", ".join(map(repr, report.without_original)),
            "" if report.originals_missing == len(report.without_original) else ", …",
        )
