"""One job that deletes images, part by part."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Self

from lookalike.collections import Collection
from lookalike.errors import JobNotFound, LookalikeError
from lookalike.filters import Filter, matches
from lookalike.idempotency import overtaken
from lookalike.ingest import ring
from lookalike.interfaces import (
    Accepted,
    Idempotency,
    Image,
    ImageId,
    JobId,
    JobQueue,
    Ledger,
)

PART = 500  # images in one ledger transaction of a long deletion
# A long search for what is to be deleted shows once in so many images that it goes on.
SHOWN_AFTER = 20_000


class Deletion:
    """Deletes images of one collection, in one transaction or in several.

    Used as a context it closes the job of what was deleted when something goes wrong.
    """

    def __init__(
        self, ledger: Ledger, queue: JobQueue, collection: Collection, chunk_images: int
    ) -> None:
        self._ledger = ledger
        self._queue = queue
        self._collection = collection
        self._chunk_images = chunk_images
        self._key: tuple[str, str] | None = None  # and the digest of the request
        self._job: JobId | None = None
        self._is_replay = False

    def identify(self, key: str, digest: str) -> None:
        """Make it a request that can be sent twice: its key, and what it asks for."""
        self._key = key, digest

    def walk(self, pages: Iterable[Sequence[Image]], condition: Filter) -> Accepted:
        """Delete what satisfies the filter among all images of these pages."""
        found: list[ImageId] = []
        looked = 0
        for page in pages:
            found += [image.id for image in page if matches(condition, image.metadata)]
            looked += len(page)
            if len(found) > PART or looked >= SHOWN_AFTER:
                part, found, looked = found[:PART], found[PART:], 0
                if self._delete(part, more=True).replayed:
                    return self.end([])
        return self.end(found)

    def end(self, ids: Sequence[ImageId]) -> Accepted:
        """Delete the last part, or the only one."""
        return self._delete(ids, more=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: object, error: BaseException | None, trace: object
    ) -> None:
        if error is not None and self._job is not None and not self._is_replay:
            # The first error is the one to tell, even if giving up fails as well.
            with contextlib.suppress(LookalikeError):
                self._ledger.delete_images(self._collection, [], job=self._job)

    def _delete(self, ids: Sequence[ImageId], *, more: bool) -> Accepted:
        try:
            accepted = self._ledger.delete_images(
                self._collection,
                ids,
                job=self._job,
                more=more,
                idempotency=self._idempotency(more=more),
            )
        except JobNotFound as error:
            if self._key is None:
                raise
            raise overtaken() from error
        self._job = accepted.job.id
        self._is_replay = accepted.replayed
        ring(self._queue, accepted.work, self._chunk_images)
        return accepted

    def _idempotency(self, *, more: bool) -> Idempotency | None:
        if self._key is None:
            return None
        # The digest comes last: so a request that died half-way is nothing to repeat.
        key, digest = self._key
        return Idempotency(key, None if more else digest)
