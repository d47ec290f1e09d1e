"""Use case: take images in, and make them findable."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from lookalike import copies
from lookalike.collections import (
    Collection,
    DuplicatePolicy,
    Team,
    check_metadata,
    shorten,
)
from lookalike.errors import (
    BackboneMismatch,
    BadEmbedding,
    BadImage,
    BadInput,
    BadMetadata,
    BadRequest,
    JobNotFound,
    LookalikeError,
    Misconfigured,
    OriginalMissing,
    Unavailable,
)
from lookalike.failpoints import failpoint
from lookalike.idempotency import RequestDigest, digest_of, overtaken
from lookalike.images import Geometry, Limits, decode_square, read_header
from lookalike.interfaces import (
    DUPLICATE,
    Accepted,
    BlobStore,
    Embedder,
    Failure,
    Idempotency,
    Image,
    ImageId,
    IndexRow,
    Job,
    JobId,
    JobQueue,
    Ledger,
    NewImage,
    Operation,
    Outcome,
    Pixels,
    Result,
    StagedBlob,
    VectorIndex,
    Work,
    WorkId,
)
from lookalike.signatures import sign

log = logging.getLogger(__name__)

MAX_ID_BYTES = 512
PART = 500  # images in one ledger transaction of a long request
REPORTED_FAILURES = 100  # refused entries listed in one error answer
OUTAGE_DELAY_SECONDS = 5.0
COPY_DELAY_SECONDS = 1.0  # until a possible duplicate looks for its original again
MISMATCH_DELAY_SECONDS = 60.0


def check_image_id(image_id: object) -> ImageId:
    """Give back a valid id of a caller.

    Ids appear in addresses, so parts that clients or proxies rewrite are refused.

    Raises:
        BadMetadata: code ``id_invalid``.
    """
    if isinstance(image_id, str) and _is_valid_id(image_id):
        return ImageId(image_id)
    raise BadMetadata(
        f"An id is 1 to {MAX_ID_BYTES} bytes of text without control characters, "
        "without empty, '.' or '..' parts between slashes, and does not end in "
        f"/original or /thumbnail; got {shorten(image_id)}.",
        code="id_invalid",
    )


def _is_valid_id(text: str) -> bool:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:  # a lone surrogate
        return False
    parts = text.split("/")
    return (
        0 < size <= MAX_ID_BYTES
        and not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in text)
        and not {"", ".", ".."} & set(parts)
        and not (len(parts) > 1 and parts[-1] in {"original", "thumbnail"})
    )


@dataclass(frozen=True)
class _Checked:
    staged: StagedBlob
    image: NewImage


class Intake:
    """Takes in the images of one request and records them as one job.

    An entry that cannot be accepted becomes a failure of the job and never harms its
    neighbours. Long requests are recorded in parts, so memory stays constant. Nothing
    counts as accepted before ``finish`` returns.

    With an idempotency key the same request makes one job, however often it comes: a
    repeat is read and compared, and records nothing.
    """

    def __init__(
        self,
        ledger: Ledger,
        blobs: BlobStore,
        queue: JobQueue,
        collection: Collection,
        limits: Limits,
        *,
        max_metadata_bytes: int,
        chunk_images: int,
        idempotency_key: str | None = None,
    ) -> None:
        self._ledger = ledger
        self._blobs = blobs
        self._queue = queue
        self._collection = collection
        self._key = idempotency_key
        self._digest = RequestDigest("ingest", collection.uid)
        self._earlier: Job | None = None  # made by a request with this key
        self._limits = limits
        self._max_metadata_bytes = max_metadata_bytes
        self._chunk_images = chunk_images
        self._count = 0
        self._checked: list[_Checked] = []
        self._failures: list[Failure] = []
        self._only_error: BadInput | None = None
        self._job: JobId | None = None

    def add(
        self,
        staged: StagedBlob,
        image_id: str | None = None,
        metadata: object = None,
    ) -> None:
        """Take in one entry; one that is not acceptable becomes a failure.

        Raises:
            StorageUnavailable: originals cannot be stored.
            LedgerUnavailable: the database does not answer.
        """
        try:
            image = self._check(staged, image_id, metadata)
        except BadInput as error:
            staged.discard()
            self.refuse(error, image_id)
            return
        if self._key is not None:
            self._digest.add("taken", image_id, image.digest, dict(image.metadata))
        self._checked.append(_Checked(staged, image))
        self._next()

    def refuse(self, error: BadInput, image_id: str | None = None) -> None:
        """Count an entry that could not be accepted."""
        known = (
            image_id if isinstance(image_id, str) and _is_valid_id(image_id) else None
        )
        if self._key is not None:
            self._digest.add("refused", known, error.code)
        self._only_error = error if self._count == 0 else None
        self._failures.append(
            Failure(
                position=self._count,
                image_id=ImageId(known) if known is not None else None,
                code=error.code,
                detail=error.detail,
                retryable=error.retryable,
            )
        )
        self._next()

    def finish(self) -> Job:
        """Record what was taken in, and tell the workers.

        Raises:
            BadRequest: there was no entry at all.
            BadInput: every entry was refused; nothing was recorded. With one entry
                this is its own error, otherwise ``BadImage`` with the code
                ``all_refused`` and the failures.
            IdempotencyConflict: the key is that of another request.
            IdempotencyInUse: another request with this key is being read.
        """
        if self._count == 0:
            raise BadRequest("The request holds no image.", code="no_images")
        is_first = self._job is None and self._earlier is None
        if is_first and not self._checked:
            raise self._all_refused()
        return self._accept(more=False)

    @property
    def replayed(self) -> bool:
        """Whether an earlier request had made the job that ``finish`` gave back."""
        return self._earlier is not None

    def abandon(self) -> None:
        """Give up: discard what was not recorded, close the job of what was."""
        for entry in self._checked:
            entry.staged.discard()
        self._checked.clear()
        if self._job is not None:
            self._ledger.accept(self._collection, [], job=self._job)

    def _check(
        self, staged: StagedBlob, image_id: str | None, metadata: object
    ) -> NewImage:
        given = None if image_id is None else check_image_id(image_id)
        checked = check_metadata(
            self._collection.fields, metadata, self._max_metadata_bytes
        )
        header = read_header(staged.file, self._limits)
        digest = staged.digest()
        return NewImage(
            position=self._count,
            id=given if given is not None else ImageId(digest),
            digest=digest,
            bytes=staged.file.seek(0, 2),
            width=header.width,
            height=header.height,
            format=header.format,
            metadata=checked,
        )

    def _next(self) -> None:
        self._count += 1
        if len(self._checked) + len(self._failures) >= PART:
            self._accept(more=True)

    def _accept(self, *, more: bool) -> Job:
        if self._earlier is not None:
            return self._compare(self._earlier, more=more)
        self._blobs.keep([entry.staged for entry in self._checked])
        failpoint("accept.blobs_kept")
        accepted = self._record(more=more)
        if accepted.replayed:
            self._earlier = accepted.job
        else:
            self._job = accepted.job.id
        self._checked.clear()
        self._failures.clear()
        ring(self._queue, accepted.work, self._chunk_images)
        failpoint("accept.rung")
        return accepted.job

    def _record(self, *, more: bool) -> Accepted:
        try:
            return self._ledger.accept(
                self._collection,
                [entry.image for entry in self._checked],
                self._failures,
                job=self._job,
                more=more,
                idempotency=self._idempotency(more=more),
            )
        except JobNotFound as error:
            if self._key is None:
                raise
            raise overtaken() from error

    def _compare(self, earlier: Job, *, more: bool) -> Job:
        """Forget a part that is recorded already; after the last, see if all was."""
        for entry in self._checked:
            entry.staged.discard()
        self._checked.clear()
        self._failures.clear()
        if more:
            return earlier
        idempotency = self._idempotency(more=False)
        try:
            return self._ledger.accept(
                self._collection, [], job=earlier.id, idempotency=idempotency
            ).job
        except JobNotFound as error:
            # The key was forgotten in the meantime, so nothing was compared.
            raise overtaken() from error

    def _idempotency(self, *, more: bool) -> Idempotency | None:
        if self._key is None:
            return None
        return Idempotency(self._key, None if more else self._digest.text())

    def _all_refused(self) -> BadInput:
        if self._only_error is not None and self._count == 1:
            return self._only_error
        listed = [
            {
                "position": failure.position,
                "id": failure.image_id,
                "code": failure.code,
                "detail": failure.detail,
            }
            for failure in self._failures[:REPORTED_FAILURES]
        ]
        return BadImage(
            f"None of the {self._count} images could be accepted; the first: "
            f"{self._failures[0].detail}",
            code="all_refused",
            extra={"failures": listed},
        )


def ring(queue: JobQueue, work: Sequence[WorkId], chunk_images: int) -> None:
    """Tell the workers about work, in chunks of one message each."""
    for start in range(0, len(work), chunk_images):
        queue.ring(work[start : start + chunk_images])


def retry_failures(
    ledger: Ledger,
    queue: JobQueue,
    team: Team,
    job_id: JobId,
    chunk_images: int,
    idempotency_key: str | None = None,
) -> Accepted:
    """Try again, as a new job, what of a job failed and can succeed.

    Raises:
        JobNotFound: there is no such job.
        NothingToRetry: none of its failures can be tried again.
        IdempotencyConflict: the key is that of another request.
    """
    idempotency = None
    if idempotency_key is not None:
        idempotency = Idempotency(idempotency_key, digest_of("retry", job_id))
    accepted = ledger.retry(team, job_id, idempotency)
    ring(queue, accepted.work, chunk_images)
    return accepted


def reconcile(ledger: Ledger, queue: JobQueue, *, chunk_images: int) -> int:
    """Ring again for what is pending and unattended; gives back how much that was.

    2,000 at a time keeps one sweep short; the rest is found by the next one.
    """
    work = ledger.due(2_000)
    ring(queue, work, chunk_images)
    return len(work)


def index_images(
    ledger: Ledger,
    blobs: BlobStore,
    embedder: Embedder,
    index: VectorIndex,
    ids: Sequence[WorkId],
    *,
    limits: Limits,
) -> None:
    """Do a chunk of work: claim it, carry it out, and record how each piece ended.

    One bad image fails alone. While a part is down the work is given back, without
    using up an attempt. Safe to call twice with the same ids, and from many workers.

    Raises:
        LedgerUnavailable: the record itself does not answer; leases run out and the
            reconciler rings again.
    """
    waiting = dict.fromkeys(ids)
    room = len(waiting)
    while waiting and room and (claimed := ledger.claim(list(waiting)[:room])):
        # While several teams wait, work of others comes in place of some of this. A
        # message is over when as much was done as it names: its time is limited.
        room -= len(claimed)
        for work in claimed:
            waiting.pop(work.id, None)
        by_collection: dict[str, list[Work]] = {}
        for work in claimed:
            by_collection.setdefault(work.collection.uid, []).append(work)
        for part in by_collection.values():
            collection = part[0].collection
            indexer = _Indexer(ledger, blobs, embedder, index, collection, limits)
            if _carry_out(ledger, indexer, part) and not ledger.has_pending():
                _settle(index, collection)


def _carry_out(ledger: Ledger, indexer: _Indexer, part: Sequence[Work]) -> bool:
    """Do the work of one collection and record it; True if a job ended with it."""
    try:
        results = indexer.run(part)
    except (Unavailable, BackboneMismatch, Misconfigured) as error:
        log.warning("%d images wait: %s", len(part), error.detail)
        delay = OUTAGE_DELAY_SECONDS if error.retryable else MISMATCH_DELAY_SECONDS
        ledger.release([work.id for work in part], delay)
        return False
    if indexer.waiting:
        ledger.release(indexer.waiting, COPY_DELAY_SECONDS)
    return bool(ledger.finish(results))


def _settle(index: VectorIndex, collection: Collection) -> None:
    try:
        index.settle(collection)
    except Unavailable as error:  # It only tidies; the images are recorded.
        log.warning("Collection %s is not settled: %s", collection.name, error.detail)


def check_backbone(collection: Collection, embedder: Embedder) -> None:
    """Return if the collection was embedded by this very backbone.

    Raises:
        BackboneMismatch: its vectors mean something else.
    """
    if collection.fingerprint != embedder.fingerprint:
        raise BackboneMismatch(
            f"Collection {collection.name!r} was embedded with backbone "
            f"{collection.backbone!r} ({collection.fingerprint}); the one that runs "
            f"is {embedder.fingerprint}. Set LOOKALIKE_BACKBONE to the former, or "
            "ingest into a new collection.",
            extra={"expected": collection.fingerprint, "runs": embedder.fingerprint},
        )


class _Indexer:
    """Carries out the claimed work of one collection.

    Attributes:
        waiting: work that cannot end before other work has.
    """

    def __init__(
        self,
        ledger: Ledger,
        blobs: BlobStore,
        embedder: Embedder,
        index: VectorIndex,
        collection: Collection,
        limits: Limits,
    ) -> None:
        self.waiting: list[WorkId] = []
        self._ledger = ledger
        self._blobs = blobs
        self._embedder = embedder
        self._index = index
        self._collection = collection
        self._limits = limits
        self._results: list[Result] = []
        self._signatures: dict[WorkId, bytes] = {}
        self._originals: dict[WorkId, Image] = {}

    def run(self, claimed: Sequence[Work]) -> list[Result]:
        puts = [work for work in claimed if work.operation is Operation.PUT]
        metas = [work for work in claimed if work.operation is Operation.META]
        deletes = [work for work in claimed if work.operation is Operation.DELETE]
        if deletes:
            failpoint("index.deleting")
            self._index.delete(self._collection, [work.key for work in deletes])
            failpoint("index.deleted")
            self._done(deletes)
        if self._collection.duplicates is not DuplicatePolicy.KEEP:
            new = [work for work in puts if work.is_new]
            puts = self._allowed(puts, copies.exact_originals(self._ledger, new))
        if puts or metas:
            rows, missing = self._with_stored_vectors(metas)
            if puts or missing:  # other metadata alone need no network
                check_backbone(self._collection, self._embedder)
            embedded = self._embedded([*puts, *missing])
            if self._collection.duplicates is not DuplicatePolicy.KEEP:
                embedded = self._without_duplicates(embedded)
            rows += embedded
            if rows:
                failpoint("index.upserting")
                self._index.upsert(self._collection, [row for _, row in rows])
                failpoint("index.upserted")
            self._done(work for work, _ in rows)
        return self._results

    def _done(self, finished: Iterable[Work]) -> None:
        for work in finished:
            original = self._originals.get(work.id)
            self._results.append(
                Result(
                    work.id,
                    Outcome.DONE,
                    signature=self._signatures.get(work.id),
                    duplicate_of=copies.original_of(original) if original else None,
                )
            )

    def _fail(self, work: Work, error: LookalikeError) -> None:
        self._results.append(
            Result(work.id, Outcome.FAILED, error.code, error.detail, error.retryable)
        )

    # --- duplicates ------------------------------------------------------------------

    def _allowed(self, puts: Sequence[Work], found: copies.Found) -> list[Work]:
        """What may go on, as the collection wants it of duplicates."""
        self.waiting += [work.id for work in puts if work.id in found.waiting]
        left = [work for work in puts if work.id not in found.waiting]
        if self._collection.duplicates is DuplicatePolicy.LINK:
            self._originals.update(found.originals)
            return left
        refused = [work for work in left if work.id in found.originals]
        if refused:
            # An earlier try, when there was no original yet, may have written it.
            self._index.delete(self._collection, [work.key for work in refused])
        for work in refused:
            self._refuse(work, found.originals[work.id])
        return [work for work in left if work.id not in found.originals]

    def _refuse(self, work: Work, original: Image) -> None:
        is_exact = work.digest == original.digest
        how = "has the same bytes as" if is_exact else "looks the same as"
        detail = f"The image {how} {original.id!r}, which the collection has already."
        self._results.append(
            Result(
                work.id,
                Outcome.FAILED,
                DUPLICATE,
                detail,
                duplicate_of=copies.original_of(original),
            )
        )

    def _without_duplicates(
        self, rows: Sequence[tuple[Work, IndexRow]]
    ) -> list[tuple[Work, IndexRow]]:
        """What of embedded pictures may be written."""
        new = [
            (work, row)
            for work, row in rows
            if work.is_new and work.id not in self._originals
        ]
        if not new:
            return list(rows)
        found = copies.near_originals(
            self._ledger,
            self._index,
            [copies.Newcomer(work, self._signatures[work.id]) for work, _ in new],
            np.stack([row.vector for _, row in new]),
        )
        allowed = {work.id for work in self._allowed([one for one, _ in rows], found)}
        return [(work, row) for work, row in rows if work.id in allowed]

    # --- pictures --------------------------------------------------------------------

    def _with_stored_vectors(
        self, metas: Sequence[Work]
    ) -> tuple[list[tuple[Work, IndexRow]], list[Work]]:
        """Rows whose picture is the same, and the work whose vector is not there.

        What the index holds under the key can be the vector of an earlier picture: a
        kill or a late write brings old rows back. Its gen tells.
        """
        if not metas:
            return [], []
        stored = self._index.vectors(self._collection, [work.key for work in metas])
        rows: list[tuple[Work, IndexRow]] = []
        missing: list[Work] = []
        for work in metas:
            held = stored.get(work.key)
            if held is None or held.gen != work.indexed_gen:
                missing.append(work)
                continue
            row = IndexRow(work.key, work.gen, held.vector, work.metadata)
            rows.append((work, row))
        return rows, missing

    def _embedded(self, puts: Sequence[Work]) -> list[tuple[Work, IndexRow]]:
        decoded: list[tuple[Work, Pixels]] = []
        for work in puts:
            try:
                decoded.append((work, self._decode(work, self._embedder.geometry)))
            except (BadImage, OriginalMissing) as error:
                self._fail(work, error)
            except MemoryError:
                # A worker that let this pass would die, and the next one after it.
                self._fail(
                    work,
                    BadImage(
                        "Decoding the image needs more memory than a worker has.",
                        code="image_too_large",
                    ),
                )
        return self._rows(decoded)

    def _decode(self, work: Work, geometry: Geometry) -> Pixels:
        failpoint("decode.started")
        data = self._blobs.read(self._collection.team, work.digest)
        return decode_square(data, geometry, self._limits)

    def _rows(
        self, decoded: Sequence[tuple[Work, Pixels]]
    ) -> list[tuple[Work, IndexRow]]:
        if not decoded:
            return []
        squares = np.stack([square for _, square in decoded])
        try:
            vectors = self._embedder.embed(squares)
        except BadEmbedding as error:
            if len(decoded) == 1:
                self._fail(decoded[0][0], error)
                return []
            # One by one, so that one odd picture fails alone.
            return [row for entry in decoded for row in self._rows([entry])]
        # The signature is made of what is decoded anyway.
        works = [work.id for work, _ in decoded]
        self._signatures |= zip(works, sign(squares), strict=True)
        return [
            (work, IndexRow(work.key, work.gen, vector, work.metadata))
            for (work, _), vector in zip(decoded, vectors, strict=True)
        ]
