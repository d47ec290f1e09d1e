"""The ledger in a SQL database: SQLite in a file, or PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import case, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from lookalike.backends import ledger_claims as claims
from lookalike.backends import ledger_ends as ends
from lookalike.backends import ledger_jobs as jobs
from lookalike.backends.ledger_database import Database
from lookalike.backends.ledger_locks import seize_collection
from lookalike.backends.ledger_recording import Recording
from lookalike.backends.ledger_tables import (
    collection as collections,
)
from lookalike.backends.ledger_tables import image as images
from lookalike.backends.ledger_tables import (
    is_failed,
    is_pending,
    is_present,
    schema,
    work,
)
from lookalike.backends.ledger_tables import job as job_rows
from lookalike.backends.ledger_values import (
    chunks,
    collection_row,
    is_storable,
    row_type,
    storable,
    to_collection,
    to_failure,
    to_image,
    to_job,
)
from lookalike.collections import Collection, Metadata, Team
from lookalike.errors import CollectionExists, CollectionNotFound, ImageNotFound
from lookalike.interfaces import (
    Accepted,
    Failure,
    Hit,
    Image,
    ImageId,
    ImageKey,
    ImageState,
    Job,
    JobId,
    NewImage,
    Result,
    Work,
    WorkId,
    image_key,
)

DELETE_SECONDS = 600  # a collection of millions of images takes its time

# Every search asks these two.
CollectionRow = row_type(collections)
ImageRow = row_type(images)
FIND_COLLECTION = (
    f"SELECT {', '.join(CollectionRow._fields)} FROM collection "
    "WHERE team = ? AND name = ?"
)
FIND_IMAGES = (
    f"SELECT {', '.join(ImageRow._fields)} FROM image "
    "WHERE want = 'present' AND key IN "
)


class SqlLedger:
    """The record of what was accepted and what became of it (a ``Ledger``).

    Safe to use from several threads and processes. Not to be carried over a fork.

    Args:
        url: a SQLAlchemy URL: ``sqlite:///…`` or ``postgresql+psycopg://…``.
        lease_seconds: claimed work is given to another after this.
        ring_again_seconds: pending work is due when it was not rung for so long.

    Raises:
        Misconfigured: the URL cannot be used, or another version wrote the schema.
        LedgerUnavailable: the database does not answer.
    """

    def __init__(
        self, url: str, *, lease_seconds: int = 180, ring_again_seconds: float = 30.0
    ) -> None:
        self._database = Database(url)
        self._lease_seconds = lease_seconds
        self._ring_again_seconds = ring_again_seconds

    # --- collections -----------------------------------------------------------------

    def create_collection(self, collection: Collection) -> None:
        """Record a collection."""
        with self._database.writing() as connection:
            try:
                row = collection_row(collection)
                connection.execute(insert(collections).values(row))
            except IntegrityError as error:
                raise CollectionExists(
                    f"There is a collection {collection.name!r} already."
                ) from error

    def collection(self, team: Team, name: str) -> Collection:
        """A collection by name."""
        if is_storable(name):
            for row in self._database.fetch(FIND_COLLECTION, (team, name)):
                return to_collection(CollectionRow(*row))
        raise CollectionNotFound(f"There is no collection {name[:80]!r}.")

    def collections(self, team: Team) -> list[Collection]:
        """All collections of a team, by name."""
        query = select(collections).where(collections.c.team == team)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(collections.c.name))
            return [to_collection(row) for row in rows]

    def delete_collection(self, collection: Collection) -> None:
        """Forget a collection with its images; pending work is superseded."""
        uid = collection.uid
        with self._database.writing(seconds=DELETE_SECONDS) as connection:
            seize_collection(connection, uid)
            ends.supersede_collection(connection, uid, self._database.now(connection))
            connection.execute(delete(images).where(images.c.collection == uid))
            connection.execute(delete(collections).where(collections.c.uid == uid))

    def image_counts(self, collection: Collection) -> dict[ImageState, int]:
        """How many images the collection has, by state."""
        state = case(
            (images.c.indexed_gen == images.c.gen, ImageState.INDEXED.value),
            (images.c.failed.is_(None), ImageState.PENDING.value),
            else_=ImageState.FAILED.value,
        ).label("state")
        query = (
            select(state, func.count().label("images"))
            .where(images.c.collection == collection.uid, is_present)
            .group_by(state)
        )
        counts = dict.fromkeys(ImageState, 0)
        with self._database.reading() as connection:
            for row in connection.execute(query):
                counts[ImageState(row.state)] = row.images
        return counts

    # --- images ----------------------------------------------------------------------

    def image(self, collection: Collection, image_id: ImageId) -> Image:
        """One image."""
        if is_storable(image_id):
            key = image_key(collection.team, collection.uid, image_id)
            query = select(images).where(images.c.key == key, is_present)
            with self._database.reading() as connection:
                if row := connection.execute(query).one_or_none():
                    return to_image(row)
        raise no_image(image_id)

    def images(
        self, collection: Collection, after: ImageId | None, limit: int
    ) -> list[Image]:
        """The next images in order of id, at most ``limit``."""
        query = select(images).where(images.c.collection == collection.uid, is_present)
        if after is not None:
            query = query.where(images.c.image_id > storable(after))
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(images.c.image_id).limit(limit))
            return [to_image(row) for row in rows]

    def verified(
        self, collection: Collection, hits: Sequence[Hit]
    ) -> dict[ImageKey, Image]:
        """The images behind those hits that may be returned now."""
        gens = {hit.key: hit.gen for hit in hits}
        found: dict[ImageKey, Image] = {}
        for keys in chunks(gens):
            places = ", ".join("?" * len(keys))
            for fetched in self._database.fetch(f"{FIND_IMAGES} ({places})", keys):
                row = ImageRow(*fetched)
                # Asking for the collection too would make SQLite walk all of it.
                is_mine = row.collection == collection.uid
                # An older vector is of a life that a deletion has ended.
                if is_mine and gens[row.key] >= row.born_gen:
                    found[row.key] = to_image(row)
        return found

    # --- what requests change --------------------------------------------------------

    def accept(
        self,
        collection: Collection,
        images: Sequence[NewImage],
        failures: Sequence[Failure] = (),
        *,
        job: JobId | None = None,
        more: bool = False,
    ) -> Accepted:
        """Record a job: its images, their work rows, and what was refused already."""
        with self._database.writing() as connection:
            recording = Recording(self._database, connection, collection)
            return recording.accept(images, failures, job, more=more)

    def update_metadata(
        self, collection: Collection, image_id: ImageId, metadata: Metadata
    ) -> Accepted:
        """Replace an image's metadata; the job has one image."""
        if not is_storable(image_id):
            raise no_image(image_id)
        with self._database.writing() as connection:
            recording = Recording(self._database, connection, collection)
            return recording.update_metadata(image_id, metadata)

    def delete_images(
        self, collection: Collection, image_ids: Sequence[ImageId]
    ) -> Accepted:
        """Delete those images that exist; from the return on none can be found."""
        known = [one for one in image_ids if is_storable(one)]
        with self._database.writing() as connection:
            return Recording(self._database, connection, collection).delete(known)

    # --- work ------------------------------------------------------------------------

    def claim(self, ids: Sequence[WorkId]) -> list[Work]:
        """Take pending, unleased work; raises each row's attempts before the work.

        Work whose earlier tries were never answered comes one piece at a time, so that
        an image that kills its worker fails alone: call again with the same ids until
        nothing comes.
        """
        # Whoever holds the work does not outlive a power cut either.
        with self._database.writing(durable=False) as connection:
            now = self._database.now(connection)
            taken, overtaken = claims.claim(connection, ids, now, self._lease_seconds)
        if overtaken:
            # Ending work locks images, which no one may do who holds work already.
            with self._database.writing() as connection:
                ends.supersede(connection, overtaken, self._database.now(connection))
        return taken

    def finish(self, results: Sequence[Result]) -> list[JobId]:
        """End pieces of work and count them in their jobs, in one transaction."""
        with self._database.writing() as connection:
            return ends.finish(connection, results, self._database.now(connection))

    def release(self, ids: Sequence[WorkId], delay_seconds: float) -> None:
        """Give claimed work back without using up an attempt; due after the delay."""
        with self._database.writing() as connection:
            now = self._database.now(connection)
            claims.release(connection, ids, delay_seconds, now)

    def due(self, limit: int) -> list[WorkId]:
        """Pending work that no one holds and no one was rung for lately."""
        with self._database.writing() as connection:
            now = self._database.now(connection)
            ends.give_up(connection, now)
            jobs.close_abandoned(connection, now)
            return claims.due(connection, limit, now, now - self._ring_again_seconds)

    # --- jobs ------------------------------------------------------------------------

    def job(self, team: Team, job_id: JobId) -> Job:
        """One job."""
        query = select(job_rows).where(job_rows.c.id == job_id, job_rows.c.team == team)
        if is_storable(job_id):
            with self._database.reading() as connection:
                if row := connection.execute(query).one_or_none():
                    return to_job(row)
        raise jobs.missing(job_id)

    def jobs(self, team: Team, before: JobId | None, limit: int) -> list[Job]:
        """Jobs, newest first, at most ``limit``."""
        query = select(job_rows).where(job_rows.c.team == team)
        if before is not None:
            query = query.where(job_rows.c.id < storable(before))
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(job_rows.c.id.desc()).limit(limit))
            return [to_job(row) for row in rows]

    def failures(
        self, team: Team, job_id: JobId, after: int | None, limit: int
    ) -> list[Failure]:
        """A job's failures in order of position."""
        self.job(team, job_id)
        query = select(work).where(work.c.job == job_id, is_failed)
        if after is not None:
            query = query.where(work.c.position > after)
        query = query.order_by(work.c.position, work.c.id).limit(limit)
        with self._database.reading() as connection:
            return [to_failure(row) for row in connection.execute(query)]

    # --- the ledger itself -----------------------------------------------------------

    def pending(self) -> int:
        """How many pieces of work are not finished."""
        query = select(func.count()).select_from(work).where(is_pending)
        with self._database.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def has_pending(self) -> bool:
        """Whether any piece of work is not finished."""
        query = select(work.c.id).where(is_pending).limit(1)
        with self._database.reading() as connection:
            return connection.execute(query).first() is not None

    def recover(self) -> None:
        """Make all pending work due now, whoever held it."""
        unheld = update(work).where(is_pending).values(lease_until=0.0, hinted_at=0.0)
        with self._database.writing() as connection:
            connection.execute(unheld)

    def check(self) -> None:
        """Return if the ledger can be read and written now."""
        with self._database.writing() as connection:
            now = self._database.now(connection)
            connection.execute(update(schema).values(checked_at=now))

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()


def no_image(image_id: ImageId) -> ImageNotFound:
    """The error for an image that is not there."""
    return ImageNotFound(f"There is no image {image_id[:80]!r}.")
