"""Recording a request: what it changes, and the work that this makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from lookalike.backends import ledger_jobs as jobs
from lookalike.backends.ledger_database import Database
from lookalike.backends.ledger_locks import hold_collections, known_keys, lock_images
from lookalike.backends.ledger_tables import collection as collections
from lookalike.backends.ledger_tables import image, is_pending, work
from lookalike.backends.ledger_values import (
    chunks,
    image_state,
    metadata_text,
    storable,
    to_job,
)
from lookalike.collections import Collection, Metadata
from lookalike.errors import CollectionNotFound, ImageNotFound
from lookalike.interfaces import (
    Accepted,
    Digest,
    Failure,
    ImageId,
    ImageKey,
    ImageState,
    JobId,
    NewImage,
    Operation,
    WorkId,
    image_key,
)

MAX_NAME = 512  # characters kept of an id that was refused

# Sets whichever columns the rows given with it name.
UPDATE_IMAGE = update(image).where(image.c.key == bindparam("its_key"))


@dataclass(frozen=True)
class Change:
    """One piece of work to come."""

    position: int
    key: ImageKey
    image_id: ImageId
    operation: Operation
    gen: int


class Recording:
    """One transaction that changes images of one collection.

    Attributes:
        connection: where it runs.
        collection: whose images it changes; it cannot be deleted meanwhile.
        now: when it began, in seconds since 1970 by the database's clock.

    Raises:
        CollectionNotFound: the collection was deleted meanwhile.
    """

    def __init__(
        self, database: Database, connection: Connection, collection: Collection
    ) -> None:
        self._database = database
        self.connection = connection
        self.collection = collection
        self.now = database.now(connection)
        hold_collections(connection, [collection.uid])
        known = select(collections.c.uid).where(collections.c.uid == collection.uid)
        if connection.execute(known).one_or_none() is None:
            raise CollectionNotFound(f"There is no collection {collection.name!r}.")

    def accept(
        self,
        entries: Sequence[NewImage],
        failures: Sequence[Failure],
        job: JobId | None,
        *,
        more: bool,
    ) -> Accepted:
        """Take images in, and note what was refused already."""
        latest = {self._key(entry.id): entry for entry in entries}
        gen = self._database.next_generation(self.connection)
        new = self._insert(latest, gen)
        ways = dict.fromkeys(new, (Operation.PUT, gen))
        rows = lock_images(self.connection, latest.keys() - new)
        if operations := self._operations(latest, rows):
            # Only a number taken after the lock is higher than what the rows have.
            gen = self._database.next_generation(self.connection)
            self._replace(latest, {key: rows[key] for key in operations}, gen)
            ways |= {key: (operation, gen) for key, operation in operations.items()}
        changes = [
            Change(entry.position, key, entry.id, *ways[key])
            for key, entry in latest.items()
            if key in ways
        ]
        part = jobs.Part(
            total=len(entries) + len(failures),
            unchanged=len(latest) - len(changes),
            failed=len(failures),
            superseded=len(entries) - len(latest),
        )
        accepted = self._record(part, changes, gen, job, more=more)
        self._note(accepted.job.id, failures)
        return accepted

    def update_metadata(self, image_id: ImageId, metadata: Metadata) -> Accepted:
        """Take a stored image in again, with other metadata."""
        row = lock_images(self.connection, [self._key(image_id)]).get(
            self._key(image_id)
        )
        if row is None or row.want != "present":
            raise ImageNotFound(f"There is no image {image_id[:80]!r}.")
        again = NewImage(
            position=0,
            id=image_id,
            digest=Digest(row.digest),
            bytes=row.bytes,
            width=row.width,
            height=row.height,
            format=row.format,
            metadata=metadata,
        )
        return self.accept([again], (), None, more=False)

    def delete(
        self, image_ids: Sequence[ImageId], job: JobId | None, *, more: bool
    ) -> Accepted:
        """Want those images gone that exist."""
        before = 0 if job is None else jobs.total(self.connection, job)
        places = {
            self._key(one): (place, self._key(one), one)
            for place, one in enumerate(image_ids, before)
        }
        rows = lock_images(self.connection, places)
        keys = [key for key in rows if rows[key].want == "present"]
        gen = self._database.next_generation(self.connection)
        if keys:
            gone = {
                "gen": gen,
                "want": "absent",
                "failed": None,
                "doubtful": False,
                "updated_at": self.now,
            }
            rows_gone = [{"its_key": key} | gone for key in keys]
            self.connection.execute(UPDATE_IMAGE, rows_gone)
        changes = [
            Change(*places[key], Operation.DELETE, gen)
            for key in places
            if key in set(keys)
        ]
        part = jobs.Part(len(changes))
        return self._record(part, changes, gen, job, more=more)

    def retry(
        self, failures: Sequence[Row[Any]], job: JobId | None, *, more: bool
    ) -> Accepted:
        """Take those images in again whose newest operation these failures still are.

        The failures are rows with the columns position, key, image_id and gen.
        """
        rows = lock_images(self.connection, (failure.key for failure in failures))
        again = [
            failure
            for failure in failures
            if failure.key in rows and rows[failure.key].gen == failure.gen
        ]
        gen = self._database.next_generation(self.connection)
        if again:
            afresh = {
                "gen": gen,
                "failed": None,
                "doubtful": False,
                "updated_at": self.now,
            }
            rows_again = [{"its_key": failure.key} | afresh for failure in again]
            self.connection.execute(UPDATE_IMAGE, rows_again)
        changes = [
            # The stored vector may be of another picture, if there is one at all.
            Change(one.position, one.key, one.image_id, Operation.PUT, gen)
            for one in again
        ]
        return self._record(jobs.Part(len(changes)), changes, gen, job, more=more)

    def _key(self, image_id: ImageId) -> ImageKey:
        return image_key(self.collection.team, self.collection.uid, image_id)

    def _insert(self, latest: Mapping[ImageKey, NewImage], gen: int) -> set[ImageKey]:
        """Make the rows of images that are new here; gives back which were.

        New rows are made in order, and all of them before the first lock is taken:
        two requests that bring the same images wait for each other one way only.
        """
        keys = sorted(latest.keys() - known_keys(self.connection, latest))
        if not keys:
            return set()
        rest = {
            "collection": self.collection.uid,
            "gen": gen,
            "want": "present",
            "born_gen": gen,
            "indexed_gen": 0,
            "created_at": self.now,
            "updated_at": self.now,
        }
        rows = [
            {"key": key, "image_id": latest[key].id} | _facts(latest[key]) | rest
            for key in keys
        ]
        made = (sqlite if self._database.is_sqlite else postgresql).insert(image)
        self.connection.execute(made.on_conflict_do_nothing(), rows)
        # No other request has this number, so whatever has it was made here.
        mine = known_keys(self.connection, keys, image.c.gen == gen)
        return {key for key in keys if key in mine}

    def _operations(
        self, latest: Mapping[ImageKey, NewImage], rows: Mapping[str, Row[Any]]
    ) -> dict[ImageKey, Operation]:
        """What is to be done about known images; nothing for those left out."""
        alive = {key: row for key, row in rows.items() if row.want == "present"}
        kept = [k for k in alive if alive[k].digest == latest[ImageKey(k)].digest]
        waiting = self._pending(kept)
        found = {}
        for key in (key for key in latest if key in rows):
            row = rows[key]
            is_waiting = (key, row.gen) in waiting
            wanted = _operation(latest[key], row, is_waiting=is_waiting)
            if wanted is not None:
                found[key] = wanted
        return found

    def _pending(self, keys: Sequence[str]) -> set[tuple[str, int]]:
        """Key and gen of the pending work for those images."""
        found: set[tuple[str, int]] = set()
        for chunk in chunks(sorted(keys)):
            query = select(work.c.key, work.c.gen).where(
                is_pending, work.c.key.in_(chunk)
            )
            rows = self.connection.execute(query)
            found.update((row.key, row.gen) for row in rows)
        return found

    def _replace(
        self,
        latest: Mapping[ImageKey, NewImage],
        changed: Mapping[ImageKey, Row[Any]],
        gen: int,
    ) -> None:
        if not changed:
            return
        rows = []
        for key, row in changed.items():
            lives = row.want == "present"
            rows.append(
                _facts(latest[key])
                | {
                    "its_key": key,
                    "gen": gen,
                    "want": "present",
                    "born_gen": row.born_gen if lives else gen,
                    "failed": None,
                    "doubtful": False,
                    "created_at": row.created_at if lives else self.now,
                    "updated_at": self.now,
                }
            )
            # UPDATE_IMAGE sets what the first of its rows names.
            stays = lives and row.digest == latest[key].digest
            rows[-1]["signature"] = row.signature if stays else None
            rows[-1]["duplicate_of"] = row.duplicate_of if stays else None
        self.connection.execute(UPDATE_IMAGE, rows)

    def _record(
        self,
        part: jobs.Part,
        changes: Sequence[Change],
        gen: int,
        job: JobId | None,
        *,
        more: bool,
    ) -> Accepted:
        """The job with these changes, and the work that they are."""
        if job is None:
            row = jobs.start(
                *(self.connection, self.collection, part),
                gen=gen,
                now=self.now,
                more=more,
            )
        else:
            row = jobs.extend(
                *(self.connection, self.collection, job, part),
                now=self.now,
                more=more,
            )
        if not changes:
            return Accepted(to_job(row))
        self.connection.execute(
            insert(work),
            [
                {
                    "team": self.collection.team,
                    "job": row.id,
                    "position": change.position,
                    "collection": self.collection.uid,
                    "key": change.key,
                    "image_id": change.image_id,
                    "gen": change.gen,
                    "op": change.operation.value,
                    "hinted_at": self.now,  # whoever asked for it rings at once
                }
                for change in changes
            ],
        )
        return Accepted(to_job(row), self._made(row.id, changes))

    def _made(self, job: JobId, changes: Sequence[Change]) -> list[WorkId]:
        """The ids of the work that these changes are.

        Cheaper than having each id returned as it is made.
        """
        ids: list[WorkId] = []
        first = min(change.gen for change in changes)
        for keys in chunks(change.key for change in changes):
            query = select(work.c.id, work.c.job).where(
                is_pending,
                work.c.key.in_(keys),
                work.c.gen >= first,  # an earlier part may have had the same image
            )
            # Asking for the job, SQLite would walk through all the work of it.
            rows = self.connection.execute(query)
            ids.extend(WorkId(row.id) for row in rows if row.job == job)
        return sorted(ids)

    def _note(self, job: JobId, failures: Sequence[Failure]) -> None:
        """Keep what was refused before it became work."""
        if not failures:
            return
        self.connection.execute(
            insert(work),
            [
                {
                    "team": self.collection.team,
                    "job": job,
                    "position": failure.position,
                    "collection": self.collection.uid,
                    "image_id": storable(failure.image_id, MAX_NAME)
                    if failure.image_id is not None
                    else None,
                    "gen": 0,
                    "op": Operation.PUT.value,
                    "state": "failed",
                    "error_code": storable(failure.code),
                    "error_detail": storable(failure.detail),
                    "retryable": failure.retryable,
                }
                for failure in failures
            ],
        )


def _operation(new: NewImage, row: Row[Any], *, is_waiting: bool) -> Operation | None:
    """What makes the image of this row so; nothing if it is, or will be anyway.

    The stored vector is kept only if it is known to be of the same picture: not while
    the image waits for its first vector or for a repair.
    """
    if row.want != "present" or row.digest != new.digest:
        return Operation.PUT
    is_indexed = image_state(row) is ImageState.INDEXED
    if row.metadata == metadata_text(new.metadata) and (is_indexed or is_waiting):
        return None
    return Operation.META if is_indexed and not is_waiting else Operation.PUT


def _facts(new: NewImage) -> dict[str, object]:
    """The columns that say what an image is."""
    return {
        "digest": new.digest,
        "bytes": new.bytes,
        "width": new.width,
        "height": new.height,
        "format": new.format,
        "metadata": metadata_text(new.metadata),
    }
