"""The ledger in a SQL database: SQLite in a file, or PostgreSQL."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from sqlalchemy import select

from lookalike.backends import ledger_claims as claims
from lookalike.backends import ledger_ends as ends
from lookalike.backends import ledger_jobs as jobs
from lookalike.backends import ledger_leases as leases
from lookalike.backends import ledger_retries as retries
from lookalike.backends.ledger_backlog import BacklogCounter
from lookalike.backends.ledger_calibrations import SqlCalibrations
from lookalike.backends.ledger_catalogue import SqlCatalogue, no_image
from lookalike.backends.ledger_database import Database
from lookalike.backends.ledger_duplicates import SqlDuplicates
from lookalike.backends.ledger_facets import SqlFacets
from lookalike.backends.ledger_idempotency import Keyed
from lookalike.backends.ledger_recording import Recording
from lookalike.backends.ledger_tables import collection as collections
from lookalike.backends.ledger_tables import is_failed, work
from lookalike.backends.ledger_tables import job as job_rows
from lookalike.backends.ledger_upkeep import SqlUpkeep
from lookalike.backends.ledger_values import (
    Rows,
    is_storable,
    storable,
    to_collection,
    to_failure,
    to_job,
)
from lookalike.collections import Collection, Metadata, Team
from lookalike.failpoints import failpoint
from lookalike.interfaces import (
    Accepted,
    Backlog,
    Failure,
    Idempotency,
    ImageId,
    Job,
    JobId,
    NewImage,
    Result,
    Work,
    WorkId,
)


class SqlLedger(SqlCatalogue, SqlDuplicates, SqlFacets, SqlCalibrations, SqlUpkeep):
    """The record of what was accepted and what became of it (a ``Ledger``).

    Safe to use from several threads and processes. Not to be carried over a fork.

    Args:
        url: a SQLAlchemy URL: ``sqlite:///…`` or ``postgresql+psycopg://…``.
        lease_seconds: claimed work is given to another after this.
        ring_again_seconds: pending work is due when it was not rung for so long.
        sweep_lease_seconds: another ledger on the same database may sweep when the
            one that did has not for so long.
        idempotency_hours: how long the key of a request is remembered.

    Raises:
        Misconfigured: the URL cannot be used, or another version wrote the schema.
        LedgerUnavailable: the database does not answer.
    """

    def __init__(
        self,
        url: str,
        *,
        lease_seconds: int = 180,
        ring_again_seconds: float = 30.0,
        sweep_lease_seconds: float = 30.0,
        idempotency_hours: float = 48.0,
    ) -> None:
        self._database = Database(url)
        self._backlog = BacklogCounter(self._database)
        self._owner = secrets.token_hex(16)
        self._lease_seconds = lease_seconds
        self._ring_again_seconds = ring_again_seconds
        self._sweep_lease_seconds = sweep_lease_seconds
        self._idempotency_seconds = idempotency_hours * 3600

    # --- what requests change --------------------------------------------------------

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
        """Record a job: its images, their work rows, and what was refused already."""
        with self._database.writing() as connection:
            recording = Recording(self._database, connection, collection)
            record = partial(recording.accept, images, failures, job, more=more)
            accepted = self._once(recording, record, idempotency, job, more=more)
            failpoint("accept.recorded")
        failpoint("accept.committed")
        return accepted

    def update_metadata(
        self, collection: Collection, image_id: ImageId, metadata: Metadata
    ) -> Accepted:
        """Replace an image's metadata; the job has one image."""
        if not is_storable(image_id):
            raise no_image(image_id)
        with self._database.writing() as connection:
            recording = Recording(self._database, connection, collection)
            accepted = recording.update_metadata(image_id, metadata)
            failpoint("accept.recorded")
        failpoint("accept.committed")
        return accepted

    def delete_images(
        self,
        collection: Collection,
        image_ids: Sequence[ImageId],
        *,
        job: JobId | None = None,
        more: bool = False,
        idempotency: Idempotency | None = None,
    ) -> Accepted:
        """Delete those images that exist; from the return on none can be found."""
        known = [one for one in image_ids if is_storable(one)]
        with self._database.writing() as connection:
            recording = Recording(self._database, connection, collection)
            record = partial(recording.delete, known, job, more=more)
            deleted = self._once(recording, record, idempotency, job, more=more)
            failpoint("delete.recorded")
        failpoint("delete.committed")
        return deleted

    def retry(
        self, team: Team, job_id: JobId, idempotency: Idempotency | None = None
    ) -> Accepted:
        """Try a job's retryable failures again, as a new job."""
        collection = self._collection_of(team, job_id)
        accepted: Accepted | None = None
        for failures, more in retries.pages(self._database, job_id):
            job = None if accepted is None else accepted.job.id
            part = self._retry(collection, failures, idempotency, job, more=more)
            earlier = [] if accepted is None else accepted.work
            accepted = replace(part, work=earlier + part.work)
            if accepted.replayed:
                break
        assert accepted is not None
        return accepted

    def cancel(self, team: Team, job_id: JobId) -> Job:
        """End what no one has begun of a job, as failed with the code ``cancelled``."""
        self.job(team, job_id)
        last: WorkId | None = WorkId(0)
        while last is not None:
            with self._database.writing() as connection:
                now = self._database.now(connection)
                last = ends.cancel(connection, job_id, last, now)
        return self.job(team, job_id)

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
            failpoint("claim.marked")
        failpoint("claim.committed")
        if overtaken:
            # Ending work locks images, which no one may do who holds work already.
            with self._database.writing() as connection:
                ends.supersede(connection, overtaken, self._database.now(connection))
        return taken

    def finish(self, results: Sequence[Result]) -> list[JobId]:
        """End pieces of work and count them in their jobs, in one transaction."""
        with self._database.writing() as connection:
            ended = ends.finish(connection, results, self._database.now(connection))
            failpoint("finish.counted")
        failpoint("finish.committed")
        return ended

    def release(self, ids: Sequence[WorkId], delay_seconds: float) -> None:
        """Give claimed work back without using up an attempt; due after the delay."""
        with self._database.writing() as connection:
            now = self._database.now(connection)
            claims.release(connection, ids, delay_seconds, now)
        failpoint("release.committed")

    def due(self, limit: int) -> list[WorkId]:
        """Pending work that no one holds and no one was rung for lately."""
        seconds = self._sweep_lease_seconds
        if not leases.take(self._database, leases.SWEEP, self._owner, seconds):
            return []
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

    def backlog(self, team: Team) -> Backlog:
        """How many images wait to be worked on; quick, however many there are."""
        return self._backlog.backlog(team)

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

    # --- parts of these --------------------------------------------------------------

    def _once(
        self,
        recording: Recording,
        record: Callable[[], Accepted],
        idempotency: Idempotency | None,
        job: JobId | None,
        *,
        more: bool,
    ) -> Accepted:
        """Record a part of a request, unless it was recorded before."""
        if idempotency is None:
            return record()
        forget_before = recording.now - self._idempotency_seconds
        keyed = Keyed(recording, idempotency, forget_before)
        earlier = keyed.earlier(job)
        if earlier is not None:
            return Accepted(to_job(earlier), replayed=True)
        accepted = record()
        keyed.remember(accepted.job.id, is_first=job is None, more=more)
        return accepted

    def _retry(
        self,
        collection: Collection,
        failures: Rows,
        idempotency: Idempotency | None,
        job: JobId | None,
        *,
        more: bool,
    ) -> Accepted:
        """Take a page of failures in again."""
        with self._database.writing() as connection:
            recording = Recording(self._database, connection, collection)
            record = partial(recording.retry, failures, job, more=more)
            part = self._once(recording, record, idempotency, job, more=more)
            if job is None and not (part.work or part.replayed or more):
                raise retries.nothing_to_retry()
            failpoint("accept.recorded")
        failpoint("accept.committed")
        return part

    def _collection_of(self, team: Team, job_id: JobId) -> Collection:
        """The collection of a job whose failures are to be tried again."""
        self.job(team, job_id)
        query = (
            select(collections)
            .join(job_rows, job_rows.c.collection == collections.c.uid)
            .where(job_rows.c.id == job_id)
        )
        with self._database.reading() as connection:
            if row := connection.execute(query).one_or_none():
                return to_collection(row)
        raise retries.nothing_to_retry()  # the images are gone with their collection
