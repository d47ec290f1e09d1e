"""Use case: compare what the index holds with what the ledger says, both ways.

The ledger is right by definition. The index differs where a write was lost, where one
came too late, or where other hands were at work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from lookalike.collections import Collection
from lookalike.errors import CollectionNotFound
from lookalike.interfaces import (
    DUPLICATE,
    BlobStore,
    Hit,
    ImageId,
    ImageKey,
    KeyState,
    Ledger,
    Stop,
    VectorIndex,
    WorkId,
)

KEYS = 5_000  # compared at once: all that is held in memory
REPAIRS = 500  # images repaired in one transaction of the ledger
NAMED = 100  # images without original that a report names

Ring = Callable[[Sequence[WorkId]], None]


class Fault(Enum):
    """How the index differs from the ledger in one key."""

    MISSING = auto()  # the image is to be found, and there is no row
    STALE = auto()  # the row is of another operation than the newest
    GHOST = auto()  # the image was deleted, and there is a row
    UNKNOWN = auto()  # a ghost that the ledger has never heard of


@dataclass(frozen=True)
class Report:
    """What a comparison found.

    Attributes:
        checked: keys that the ledger or the index has.
        missing: images that the ledger calls indexed, and the index has no row of.
        stale: rows that are not of the newest operation on their image.
        ghosts: rows of images that were deleted or never were. No search shows them.
        repaired: how many of those are put right, or will be by queued work.
        originals_missing: images whose original cannot be read any more. Nothing can
            repair them; only ingesting them again can.
        without_original: the ids of the first hundred of them.
    """

    checked: int = 0
    missing: int = 0
    stale: int = 0
    ghosts: int = 0
    repaired: int = 0
    originals_missing: int = 0
    without_original: tuple[ImageId, ...] = ()

    @property
    def differences(self) -> int:
        """How many keys differ."""
        return self.missing + self.stale + self.ghosts

    @property
    def remaining(self) -> int:
        """How many of all problems stay as they are."""
        return self.differences - self.repaired + self.originals_missing

    def __add__(self, other: Report) -> Report:
        return Report(
            checked=self.checked + other.checked,
            missing=self.missing + other.missing,
            stale=self.stale + other.stale,
            ghosts=self.ghosts + other.ghosts,
            repaired=self.repaired + other.repaired,
            originals_missing=self.originals_missing + other.originals_missing,
            without_original=(self.without_original + other.without_original)[:NAMED],
        )


def never() -> bool:
    """A ``Stop`` that goes on to the end."""
    return False


def verify(
    ledger: Ledger,
    index: VectorIndex,
    blobs: BlobStore,
    collection: Collection,
    repair: Ring | None = None,
    *,
    after: ImageKey | None = None,
    upto: ImageKey | None = None,
    stop: Stop = never,
    keys_at_once: int = KEYS,
) -> Report:
    """Compare the index with the ledger, key by key, in constant memory.

    Images that change meanwhile are left out: their work ends by itself.

    Args:
        ledger: what is right.
        index: what is compared with it, and repaired.
        blobs: where the originals of all present images are looked for.
        collection: whose images.
        repair: put differences right; it is given the work that was queued for that.
            None: only look.
        after: begin behind this key.
        upto: end with this key.
        stop: asked after each page.
        keys_at_once: how many keys are a page; this bounds the memory.

    Raises:
        CollectionNotFound: the collection was deleted meanwhile.
        Unavailable: a part does not answer, or the index has lost the collection and
            nothing is to be repaired.
    """
    if repair is not None:
        _restore(ledger, index, collection)
    pages = _Pages(ledger, index, blobs, collection, repair, keys_at_once)
    report = Report()
    while not stop():
        found, after = pages.compare(after, upto)
        report += found
        if after == upto:
            break
    return report


def _restore(ledger: Ledger, index: VectorIndex, collection: Collection) -> None:
    """Make room for a collection that an index has lost as a whole."""
    index.create(collection)
    try:
        if ledger.collection(collection.team, collection.name).uid == collection.uid:
            return
    except CollectionNotFound:
        pass
    index.drop(collection)  # it was deleted by now
    raise CollectionNotFound(f"There is no collection {collection.name!r} any more.")


class _Pages:
    """Compares one page of keys after the other."""

    def __init__(
        self,
        ledger: Ledger,
        index: VectorIndex,
        blobs: BlobStore,
        collection: Collection,
        repair: Ring | None,
        keys_at_once: int,
    ) -> None:
        self._ledger = ledger
        self._index = index
        self._blobs = blobs
        self._collection = collection
        self._ring = repair
        self._limit = keys_at_once

    def compare(
        self, after: ImageKey | None, upto: ImageKey | None
    ) -> tuple[Report, ImageKey | None]:
        """What the next keys show, and the last key that was looked at.

        That key is ``upto`` when everything was.
        """
        states, end = self._states(after, upto)
        # Read after the ledger: what it said of a key held before the row was read.
        rows = self._index.rows(self._collection, after, self._limit, end)
        if len(rows) == self._limit:  # more rows may follow than keys are known
            end = rows[-1][0]
            states = {key: state for key, state in states.items() if key <= end}
        gens = dict(rows)
        suspects = _faults(states, gens)
        lost = self._without_original(states.values())
        unchanged = self._unchanged({*suspects, *lost}, states, after, end)
        faults = {key: suspects[key] for key in sorted(suspects) if key in unchanged}
        checked = len(states.keys() | gens.keys())
        report = self._report(checked, faults, sorted(lost & unchanged), states)
        if self._ring is not None and faults:
            report += Report(repaired=self._repair(self._ring, faults, lost))
        return report, end

    def _states(
        self, after: ImageKey | None, upto: ImageKey | None
    ) -> tuple[dict[ImageKey, KeyState], ImageKey | None]:
        """The next keys as the ledger knows them, and up to where that is all."""
        page = self._ledger.states(self._collection, after, self._limit)
        end = page[-1].key if len(page) == self._limit else None
        if upto is not None and (end is None or end > upto):
            end = upto
        return {one.key: one for one in page if end is None or one.key <= end}, end

    def _without_original(self, states: Iterable[KeyState]) -> set[ImageKey]:
        present = [state for state in states if state.want == "present"]
        digests = sorted({state.digest for state in present})
        missing = self._blobs.missing(self._collection.team, digests)
        return {state.key for state in present if state.digest in missing}

    def _unchanged(
        self,
        suspects: set[ImageKey],
        before: Mapping[ImageKey, KeyState],
        after: ImageKey | None,
        end: ImageKey | None,
    ) -> set[ImageKey]:
        """Those of which the ledger says the same before and after the rows were read.

        Only they show something: the others were worked on in between.
        """
        if not suspects:
            return set()
        now, known_to = self._states(after, end)
        return {
            key
            for key in suspects
            if (known_to is None or key <= known_to) and now.get(key) == before.get(key)
        }

    def _report(
        self,
        checked: int,
        faults: Mapping[ImageKey, Fault],
        lost: Sequence[ImageKey],
        states: Mapping[ImageKey, KeyState],
    ) -> Report:
        kinds = list(faults.values())
        named = [Hit(key, states[key].gen, 0.0) for key in lost[:NAMED]]
        images = self._ledger.verified(self._collection, named)
        return Report(
            checked=checked,
            missing=kinds.count(Fault.MISSING),
            stale=kinds.count(Fault.STALE),
            ghosts=kinds.count(Fault.GHOST) + kinds.count(Fault.UNKNOWN),
            originals_missing=len(lost),
            without_original=tuple(images[key].id for key in lost if key in images),
        )

    def _repair(
        self, ring: Ring, faults: Mapping[ImageKey, Fault], lost: set[ImageKey]
    ) -> int:
        """Queue work, and delete what the ledger does not know; how many that were."""
        unknown = [key for key in faults if faults[key] is Fault.UNKNOWN]
        if unknown:
            self._index.delete(self._collection, unknown)
        # Without its original an image cannot be embedded again. What was unknown may
        # have been accepted and written just before its row was deleted.
        wanted = [key for key in faults if key not in lost]
        repaired = len(unknown)
        for start in range(0, len(wanted), REPAIRS):
            keys = wanted[start : start + REPAIRS]
            if work := self._ledger.repair(self._collection, keys):
                ring(work)
                repaired += len(work)
        return repaired


def _faults(
    states: Mapping[ImageKey, KeyState], gens: Mapping[ImageKey, int]
) -> dict[ImageKey, Fault]:
    """What seems wrong with the rows of some keys."""
    found = {
        key: _fault(states.get(key), gens.get(key))
        for key in states.keys() | gens.keys()
    }
    return {key: fault for key, fault in found.items() if fault is not None}


def _fault(state: KeyState | None, gen: int | None) -> Fault | None:
    """What is wrong with the row of a key, its gen None if there is no row."""
    if state is None:
        return Fault.UNKNOWN
    if state.has_pending:
        return None
    if state.want == "absent":
        return None if gen is None else Fault.GHOST
    if state.failed == DUPLICATE:
        return None if gen is None or gen < state.born_gen else Fault.GHOST
    if state.failed is not None:
        return None  # nothing can be made of its newest state; older ones may be shown
    if gen is None:
        return Fault.MISSING
    return None if gen == state.indexed_gen == state.gen else Fault.STALE
