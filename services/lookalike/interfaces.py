"""What the core needs from the world, in the core's own words.

``lookalike.backends`` implements each of these once per vendor; ``tests/fakes.py``
implements them in memory, and ``tests/contract`` holds fake and real to one behaviour.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import BinaryIO, Literal, NewType, Protocol

import numpy as np
import numpy.typing as npt

from lookalike.collections import (
    Collection,
    CollectionUid,
    Metadata,
    MetadataValue,
    Team,
)
from lookalike.filters import Filter
from lookalike.images import Geometry
from lookalike.relevance import Calibration

ImageId = NewType("ImageId", str)
ImageKey = NewType("ImageKey", str)  # 32 hex characters
Digest = NewType("Digest", str)  # SHA-256 of the original bytes, 64 hex characters
JobId = NewType("JobId", str)
WorkId = NewType("WorkId", int)

SignatureBytes = bytes  # `Image.bytes` hides the type inside that class

Pixels = npt.NDArray[np.uint8]  # [N, S, S, 3], RGB
Maps = npt.NDArray[np.float32]  # [N, h, w, C]
Vectors = npt.NDArray[np.float32]  # [N, D], unit length


def image_key(team: Team, collection: CollectionUid, image_id: ImageId) -> ImageKey:
    """The primary key of an image in the index: 32 hex characters.

    Ids of users never become keys: engines differ on length, NUL and normalisation.
    """
    text = f"{team}\0{collection}\0{image_id}".encode()
    return ImageKey(hashlib.sha256(text).hexdigest()[:32])


# --- embedding -----------------------------------------------------------------------


class Embedder(Protocol):
    """Turns squares of pixels into vectors."""

    @property
    def fingerprint(self) -> str:
        """Digest of manifest and weights: names what the vectors mean."""

    @property
    def geometry(self) -> Geometry:
        """How a picture becomes the square input of side S."""

    @property
    def dimension(self) -> int:
        """Length D of a vector."""

    def embed(self, pixels: Pixels) -> Vectors:
        """Embed N squares: uint8 ``[N, S, S, 3]`` to unit float32 ``[N, D]``.

        Safe to call from several threads.

        Raises:
            EmbedderUnavailable: the network does not answer.
            BadEmbedding: it answered with a wrong shape, NaN or a zero vector.
        """

    def feature_maps(self, pixels: Pixels) -> Maps:
        """What the network sees, and where: float32 ``[N, h, w, C]``, before pooling.

        Of at least one of the squares that ``embed`` takes; row and column 0 are top
        and left.

        Raises:
            EmbedderUnavailable: the network does not answer.
            BadEmbedding: it answered with a wrong shape, or NaN.
            BadQuery: code ``explain_unsupported``: this backbone does not tell.
        """


# --- vectors -------------------------------------------------------------------------


@dataclass(frozen=True)
class IndexRow:
    """What the index holds of one image."""

    key: ImageKey
    gen: int
    vector: npt.NDArray[np.float32]  # [D]
    metadata: Mapping[str, MetadataValue]


@dataclass(frozen=True)
class Hit:
    """One answer of the index, not yet verified in the ledger."""

    key: ImageKey
    gen: int
    score: float


@dataclass(frozen=True)
class StoredVector:
    """The vector that the index holds of an image, and of which operation on it."""

    gen: int
    vector: npt.NDArray[np.float32]  # [D]


class VectorIndex(Protocol):
    """Remembers vectors with their metadata and finds the nearest.

    Every method raises ``IndexUnavailable`` when the engine does not answer in time.
    """

    def create(self, collection: Collection) -> None:
        """Make room for a collection; does nothing if it is there already.

        Raises:
            BadRequest: code ``index_unsupported``: it has no index of that kind.
        """

    def drop(self, collection: Collection) -> None:
        """Forget a collection; does nothing if it is gone already."""

    def upsert(self, collection: Collection, rows: Sequence[IndexRow]) -> None:
        """Store rows, replacing those of the same keys. Keys are distinct."""

    def delete(self, collection: Collection, keys: Sequence[ImageKey]) -> None:
        """Remove rows; unknown keys are ignored."""

    def vectors(
        self, collection: Collection, keys: Sequence[ImageKey]
    ) -> dict[ImageKey, StoredVector]:
        """The stored vectors of those keys that are there, of each key the newest.

        An index can give back an old row, after a kill for one: compare ``gen``.
        """

    def search(
        self,
        collection: Collection,
        vector: npt.NDArray[np.float32],
        limit: int,
        condition: Filter | None = None,
    ) -> list[Hit]:
        """The nearest rows that satisfy the filter, best first, at most ``limit``.

        Gives ``limit`` hits whenever that many rows satisfy the filter. Of a filter
        that is not ``filters.is_exact``, rows can be among them that do not. A score
        is what ``metrics.score`` gives for the two vectors.
        """

    def search_many(
        self,
        collection: Collection,
        vectors: Vectors,
        limit: int,
        condition: Filter | None = None,
    ) -> list[list[Hit]]:
        """What ``search`` gives, of each of the vectors ``[Q, D]``; much cheaper."""

    def count(self, collection: Collection) -> int:
        """How many rows are stored, as far as the engine knows by now."""

    def count_matching(self, collection: Collection, condition: Filter | None) -> int:
        """How many rows satisfy the filter, as far as the engine knows by now.

        Of a filter that is not ``filters.is_exact``: at least so many.
        """

    def rows(
        self,
        collection: Collection,
        after: ImageKey | None,
        limit: int,
        upto: ImageKey | None = None,
    ) -> list[tuple[ImageKey, int]]:
        """The next keys in order, each with its gen: ``limit`` of them, or the rest.

        Every write that ended before the call is seen. With ``upto`` no key beyond
        it comes, and the call costs less.
        """

    def settle(self, collection: Collection) -> None:
        """Called when a burst of writes has ended: a chance to tidy up for reading."""

    def close(self) -> None:
        """Let go of the engine."""


# --- originals -----------------------------------------------------------------------


class StagedBlob(Protocol):
    """Bytes on their way in: written once, then kept or discarded."""

    @property
    def file(self) -> BinaryIO:
        """The file to write to and to read back from; seekable."""

    def digest(self) -> Digest:
        """SHA-256 of all that was written."""

    def discard(self) -> None:
        """Forget the bytes; does nothing once they were kept."""


Named = Callable[[Team, Sequence[Digest]], set[Digest]]  # those that are needed
Stop = Callable[[], bool]  # asked now and then: whether to come to an end early


@dataclass(frozen=True)
class Swept:
    """How many originals a sweep moved."""

    set_aside: int = 0
    brought_back: int = 0
    removed: int = 0


class BlobStore(Protocol):
    """Keeps original images, content-addressed, per team.

    Every method raises ``StorageUnavailable`` when storage fails.
    """

    def stage(self, team: Team) -> StagedBlob:
        """Start to take in the bytes of one image."""

    def keep(self, staged: Sequence[StagedBlob]) -> None:
        """Put bytes under their digests; on return they survive a power cut.

        They count as new from now on, even those that were there already.

        Raises:
            StorageFull: there is no room for them.
        """

    def read(self, team: Team, digest: Digest) -> bytes:
        """The bytes of an original; one that was set aside comes back by this.

        Raises:
            OriginalMissing: it is not there, although others of the team are.
        """

    def missing(self, team: Team, digests: Sequence[Digest]) -> set[Digest]:
        """Those of the digests under which nothing can be read."""

    def sweep(self, named: Named, older_than_seconds: float, stop: Stop) -> Swept:
        """Set aside old originals that nothing names, and remove those set aside.

        Each step is for what is older than that: an original since it was last kept,
        one set aside since it was. What is named by then comes back. So an original
        is safe if what names it is recorded within that time of ``keep``. Derived
        files of what was removed go too. One sweep runs at a time; another that is
        begun meanwhile does nothing. A large store takes several calls.
        """

    def free_bytes(self) -> int:
        """How much room there is for more."""

    def check(self, team: Team) -> None:
        """Return if originals can be written now.

        Raises:
            StorageFull: there is no room for a single one.
        """

    def cached(self, team: Team, name: str) -> bytes | None:
        """A derived file (a thumbnail) if it was stored before."""

    def cache(self, team: Team, name: str, data: bytes) -> None:
        """Store a derived file; it may vanish at any time."""


# --- ledger --------------------------------------------------------------------------


class ImageState(StrEnum):
    """Where an image stands."""

    PENDING = "pending"  # accepted, not searchable in its newest form yet
    INDEXED = "indexed"
    FAILED = "failed"


@dataclass(frozen=True)
class Image:
    """An image as the ledger knows it."""

    key: ImageKey
    id: ImageId
    digest: Digest
    bytes: int
    width: int  # as stored in the file, before EXIF orientation
    height: int
    format: str  # JPEG, PNG, WEBP, GIF, TIFF, HEIF
    metadata: Metadata
    state: ImageState
    gen: int
    created_at: datetime
    updated_at: datetime
    signature: SignatureBytes | None = None  # of how it looks; see lookalike.signatures
    born_gen: int = 0  # the operation that its life began with
    duplicate_of: ImageKey | None = None  # who was there before, if it was linked

    @property
    def is_searchable(self) -> bool:
        """Whether a search finds it by this picture, maybe with older metadata."""
        if self.state is ImageState.PENDING:
            return self.signature is not None  # a picture gets one when it is embedded
        return self.state is ImageState.INDEXED

    @property
    def is_waiting(self) -> bool:
        """Whether its picture is still to be embedded."""
        return self.state is ImageState.PENDING and self.signature is None


@dataclass(frozen=True)
class NewImage:
    """One checked image that a request brings."""

    position: int  # 0-based place in the request
    id: ImageId
    digest: Digest
    bytes: int
    width: int
    height: int
    format: str
    metadata: Metadata


@dataclass(frozen=True)
class Failure:
    """Why one image of a job did not become searchable."""

    position: int  # 0-based place in the request
    image_id: ImageId | None
    code: str
    detail: str
    retryable: bool


@dataclass(frozen=True)
class Job:
    """One accepted ingestion, with exact counts.

    ``total == done + unchanged + failed + superseded + pending``, and each counts
    each image once.
    """

    id: JobId
    collection: str  # the name
    total: int
    done: int
    unchanged: int
    failed: int
    superseded: int
    created_at: datetime
    finished_at: datetime | None

    @property
    def pending(self) -> int:
        """How many images are still to be worked on."""
        counted = self.done + self.unchanged + self.failed + self.superseded
        return self.total - counted


class Operation(StrEnum):
    """What a work row asks for."""

    PUT = "put"  # embed the original and upsert it
    META = "meta"  # same picture, other metadata: upsert with the stored vector
    DELETE = "del"


@dataclass(frozen=True)
class Work:
    """One claimed piece of work."""

    id: WorkId
    operation: Operation
    collection: Collection
    key: ImageKey
    image_id: ImageId
    gen: int
    indexed_gen: int  # the index holds this picture's vector if it holds this gen
    digest: Digest
    metadata: Metadata
    born_gen: int = 0  # the operation that the image's life began with

    @property
    def is_new(self) -> bool:
        """Whether the image has never been indexed in this life of it."""
        return self.indexed_gen < self.born_gen


DUPLICATE = "duplicate"  # why an image failed that a collection has already


class Outcome(StrEnum):
    """How a piece of work ended."""

    DONE = "done"
    FAILED = "failed"
    SUPERSEDED = "superseded"


@dataclass(frozen=True)
class Result:
    """The end of one piece of work, for the ledger."""

    work: WorkId
    outcome: Outcome
    code: str | None = None
    detail: str | None = None
    retryable: bool = False
    signature: bytes | None = None  # of the picture that was embedded
    duplicate_of: Original | None = None  # a failure holds only while this is indexed


@dataclass(frozen=True)
class Original:
    """The image, with this very picture, that another one is a duplicate of."""

    key: ImageKey
    digest: Digest


@dataclass(frozen=True)
class Accepted:
    """What accepting a request recorded."""

    job: Job
    work: list[WorkId] = field(default_factory=list)
    replayed: bool = False  # an earlier request had made this job; nothing was recorded


@dataclass(frozen=True)
class Idempotency:
    """What tells a request that is sent again from another one."""

    key: str  # unique in a team while it is remembered
    digest: str | None  # of the whole request; None: its end is not known yet


@dataclass(frozen=True)
class Backlog:
    """How many images wait to be worked on."""

    team: int
    all: int  # of every team


@dataclass(frozen=True)
class KeyState:
    """What the ledger knows of one primary key of the index."""

    key: ImageKey
    gen: int  # the newest operation on the image
    born_gen: int  # vectors from before this are of a life that a deletion ended
    indexed_gen: int  # equals gen: the index holds (or has lost) it as wanted
    want: Literal["present", "absent"]
    has_pending: bool  # work that may still write the image
    failed: str | None  # the code of the failure of the newest operation, if it failed
    digest: Digest


class Catalogue(Protocol):
    """The collections of every team."""

    def create_collection(self, collection: Collection) -> None:
        """Record a collection.

        Raises:
            CollectionExists: the team has a collection of this name.
        """

    def collection(self, team: Team, name: str) -> Collection:
        """A collection by name.

        Raises:
            CollectionNotFound: there is none.
        """

    def collections(self, team: Team) -> list[Collection]:
        """All collections of a team, by name."""

    def delete_collection(self, collection: Collection) -> None:
        """Forget a collection with its images; pending work is superseded."""

    def image_counts(self, collection: Collection) -> dict[ImageState, int]:
        """How many images the collection has, by state."""


class Images(Protocol):
    """The images of a collection, as the record knows them."""

    def image(self, collection: Collection, image_id: ImageId) -> Image:
        """One image.

        Raises:
            ImageNotFound: never ingested, or deleted.
        """

    def images(
        self, collection: Collection, after: ImageId | None, limit: int
    ) -> list[Image]:
        """The next images in order of id, at most ``limit``."""

    def verified(
        self, collection: Collection, hits: Sequence[Hit]
    ) -> dict[ImageKey, Image]:
        """The images behind those hits that may be returned now.

        An image that was deleted, or a vector from before its last deletion, is
        left out.
        """


class Facets(Protocol):
    """What the images of a collection have in common."""

    def metadata_counts(self, collection: Collection) -> Iterator[tuple[Metadata, int]]:
        """Metadata of findable images, and how many have them; each image once.

        Equal metadata can come several times. Findable is an image that a search can
        return: the index has its vector.
        """


class Verdict(StrEnum):
    """What someone found out about two images that look alike."""

    DUPLICATE = "duplicate"
    NOT_DUPLICATE = "not_duplicate"


Pair = tuple[ImageKey, ImageKey]  # the lesser key first


@dataclass(frozen=True)
class Judged:
    """A verdict on two images, as long as they have the pictures they had then."""

    pair: Pair
    verdict: Verdict
    created_at: datetime


class Duplicates(Protocol):
    """Which images have the same bytes, and what was found out about those alike."""

    def by_key(
        self, collection: Collection, keys: Sequence[ImageKey]
    ) -> dict[ImageKey, Image]:
        """Those of the images that are there, by key."""

    def copies(
        self, collection: Collection, digests: Sequence[Digest], each: int
    ) -> dict[Digest, list[Image]]:
        """Images with those bytes, by digest; those that came first come first.

        Of each digest ``each`` at most. One that no image has is left out.
        """

    def repeated(
        self, collection: Collection, after: Digest | None, limit: int
    ) -> tuple[list[Digest], Digest | None]:
        """The next digests that several images have, in order, at most ``limit``.

        The second value is where to go on, None at the end. There can be fewer before
        the end, even none: one call looks at 20,000 images at most.
        """

    def judge(
        self, collection: Collection, pairs: Sequence[Pair], verdict: Verdict
    ) -> list[Judged]:
        """Remember a verdict on each pair, in place of an earlier one.

        Pairs of which an image is not there are left out.

        Raises:
            CollectionNotFound: the collection was deleted meanwhile.
        """

    def withdraw(self, collection: Collection, pairs: Sequence[Pair]) -> int:
        """Forget the verdicts on those pairs; gives back how many there were."""

    def judged(
        self, collection: Collection, keys: Sequence[ImageKey]
    ) -> dict[Pair, Verdict]:
        """The verdicts that hold on pairs of which both images are among these."""

    def verdicts(
        self, collection: Collection, after: Pair | None, limit: int
    ) -> list[Judged]:
        """The next verdicts in order of pair, at most ``limit``.

        Left out is what does not hold now: an image is gone, or has another picture.
        """


class Calibrations(Protocol):
    """What the scores of each collection mean, as last found out."""

    def calibration(self, collection: Collection) -> Calibration | None:
        """What the scores mean; None if it was not found out for this backbone."""

    def keep_calibration(
        self, collection: Collection, calibration: Calibration
    ) -> None:
        """Remember what the scores mean, in place of what was known of them.

        Raises:
            CollectionNotFound: the collection was deleted meanwhile.
        """


class Ledger(Catalogue, Images, Duplicates, Facets, Calibrations, Protocol):
    """The record of what was accepted and what became of it.

    What a method recorded is durable when it returns. Each is one transaction, but
    for those that go through much: ``retry``, ``cancel`` and ``prune`` make many. Every
    method raises ``LedgerUnavailable`` when the database does not answer, and those
    that write raise ``StorageFull`` when its disk has no room.
    """

    def accept(
        self,
        collection: Collection,
        images: Sequence[NewImage],
        failures: Sequence[Failure] = (),
        *,
        job: JobId | None = None,
        more: bool = False,
        idempotency: Idempotency | None = None,
    ) -> Accepted:
        """Record a job: its images, their work rows, and what was refused already.

        A long request is accepted in parts: ``more`` keeps the job open (it cannot
        finish yet), ``job`` names the open job that a later part belongs to.

        With ``idempotency`` (given with every part, its digest with the last) a
        request that was recorded before is not recorded again: the job of the first
        one comes back, ``replayed``. If that is so with the first part, give the last
        one with the job and the digest, which compares; the parts between are not
        needed.

        An image whose id, bytes and metadata are recorded already, and that is
        indexed, counts as ``unchanged`` and makes no work. If only its metadata
        differ, the work is ``META``. Of several images of one id the last counts;
        the earlier ones are ``superseded``.

        Raises:
            CollectionNotFound: the collection was deleted meanwhile.
            JobNotFound: ``job`` is not open (any more), or another request has taken
                its key over.
            IdempotencyConflict: the key is that of a request with other content.
            IdempotencyInUse: another request with this key is being recorded.
        """

    def update_metadata(
        self, collection: Collection, image_id: ImageId, metadata: Metadata
    ) -> Accepted:
        """Replace an image's metadata; the job has one image.

        Raises:
            ImageNotFound: never ingested, or deleted.
        """

    def delete_images(
        self,
        collection: Collection,
        image_ids: Sequence[ImageId],
        *,
        job: JobId | None = None,
        more: bool = False,
        idempotency: Idempotency | None = None,
    ) -> Accepted:
        """Delete those images that exist; from the return on none can be found.

        The job's total is the number that existed. ``job``, ``more`` and
        ``idempotency`` are as with ``accept``.

        Raises:
            CollectionNotFound, JobNotFound, IdempotencyConflict, IdempotencyInUse: as
                with ``accept``.
        """

    def retry(
        self, team: Team, job_id: JobId, idempotency: Idempotency | None = None
    ) -> Accepted:
        """Try a job's retryable failures again, as a new job with the same positions.

        Left out is what was refused before it was kept, and images that were ingested
        again, changed or deleted since. The counts of the old job stay as they are.

        Raises:
            JobNotFound: there is no such job.
            NothingToRetry: nothing is left after that.
            IdempotencyConflict, IdempotencyInUse: as with ``accept``.
        """

    def cancel(self, team: Team, job_id: JobId) -> Job:
        """End what no one has begun of a job, as failed with the code ``cancelled``.

        Deletions go on, since they hold from the moment of their request. A finished
        job stays as it is, and so does work that is held by someone now.

        Raises:
            JobNotFound: there is no such job.
        """

    def backlog(self, team: Team) -> Backlog:
        """How many images wait to be worked on; quick, however many there are.

        Where counting takes long, the answer may be a few seconds old.
        """

    def claim(self, ids: Sequence[WorkId]) -> list[Work]:
        """Take pending, unleased work; raises each row's attempts before the work.

        Rows that are finished, leased to another or superseded are not returned.
        Work that several attempts left unanswered comes one piece at a time, and an
        image once at a time, so ask again with the same ids until nothing comes.

        While work of several teams is pending, the ids only say how much to take: the
        room is shared equally among teams with due work, so other ids can come back
        as well. Work that gave up its place is due at once.
        """

    def finish(self, results: Sequence[Result]) -> list[JobId]:
        """End pieces of work and count them in their jobs, in one transaction.

        A row that has ended already is left as it is. Gives back the jobs that
        have nothing pending any more because of this.

        A failure that is a ``duplicate_of`` something ends nothing if that is not
        indexed with this picture any more: the work is due again at once, its attempt
        not used up. Otherwise such a link is left away then.
        """

    def release(self, ids: Sequence[WorkId], delay_seconds: float) -> None:
        """Give claimed work back without using up an attempt; due after the delay."""

    def due(self, limit: int) -> list[WorkId]:
        """Pending work that no one holds and no one was rung for lately.

        Work out of attempts ends here as failed, ``attempts_exhausted``. Each id
        given back counts as rung for. The teams take turns.

        Only one of all ledgers on a database sweeps: the others get nothing, until
        that one has not asked for a while.
        """

    def job(self, team: Team, job_id: JobId) -> Job:
        """One job.

        Raises:
            JobNotFound: there is none.
        """

    def jobs(self, team: Team, before: JobId | None, limit: int) -> list[Job]:
        """Jobs, newest first, at most ``limit``."""

    def failures(
        self, team: Team, job_id: JobId, after: int | None, limit: int
    ) -> list[Failure]:
        """A job's failures in order of position.

        Raises:
            JobNotFound: there is no such job.
        """

    def pending(self) -> int:
        """How many pieces of work are not finished."""

    def has_pending(self) -> bool:
        """Whether any piece of work is not finished; quick, however many there are."""

    def recover(self) -> None:
        """Make all pending work due now, whoever held it.

        Only for a process which knows that no other works on this ledger: those that
        held the work, or swept, are gone.
        """

    def turn(self, name: str, every_seconds: float) -> bool:
        """Whether it is this caller's turn to do something that is done now and then.

        True for one caller in so many seconds, of all processes on this ledger.
        """

    def states(
        self, collection: Collection, after: ImageKey | None, limit: int
    ) -> list[KeyState]:
        """The next keys in order, at most ``limit``; those of deleted images too."""

    def repair(self, collection: Collection, keys: Sequence[ImageKey]) -> list[WorkId]:
        """Have the newest state of those images written to the index once more.

        Left out is what has work pending already, what failed (nothing can be written
        of it), and keys that the ledger does not know.

        Raises:
            CollectionNotFound: the collection was deleted meanwhile.
        """

    def named_digests(self, team: Team, digests: Sequence[Digest]) -> set[Digest]:
        """Those of the digests whose originals some image of the team needs."""

    def prune(self, keep_days: float) -> int:
        """Forget what ended long ago; gives back how many rows that were.

        That is: jobs finished before that, with their failures; traces of images
        deleted before that; idempotency keys that have expired. In short
        transactions.
        """

    def check(self) -> None:
        """Return if the ledger can be read and written now."""

    def close(self) -> None:
        """Let go of the database."""


# --- queue ---------------------------------------------------------------------------


class JobQueue(Protocol):
    """The doorbell: tells a worker that there is work. The ledger is the record."""

    def ring(self, work: Sequence[WorkId]) -> None:
        """Tell some worker about this work, soon; never blocks, never raises.

        A lost ring is harmless: the reconciler rings again for what is pending.
        """

    def check(self) -> None:
        """Return if a ring reaches the workers' queue now.

        Raises:
            Unavailable: code ``queue_unavailable``; work waits for the reconciler.
        """

    def close(self) -> None:
        """Stop taking rings and let what runs come to its end."""
