"""Requests that are sent again: recorded once, and answered with the same job."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, select, update
from sqlalchemy.dialects import postgresql, sqlite

from lookalike.backends import ledger_jobs as jobs
from lookalike.backends.ledger_recording import Recording
from lookalike.backends.ledger_tables import idempotency as keys
from lookalike.backends.ledger_tables import job as job_rows
from lookalike.errors import IdempotencyConflict, IdempotencyInUse
from lookalike.interfaces import Idempotency, JobId

SILENT_SECONDS = 60.0  # after so long without a part, an open request is given up


class Keyed:
    """The key of a request, in the transaction that records a part of it.

    Of two requests with one key the second waits here for the first one's commit, and
    then finds what that one has recorded.

    Args:
        forget_before: keys that were made before this count as unknown; seconds since
            1970 by the database's clock.
    """

    def __init__(
        self, recording: Recording, idempotency: Idempotency, forget_before: float
    ) -> None:
        self._connection = recording.connection
        self._team = recording.collection.team
        self._given = idempotency
        self._now = recording.now
        self._forget_before = forget_before
        self._is_mine = (keys.c.team == self._team) & (keys.c.key == idempotency.key)
        self._given_up: JobId | None = None

    def earlier(self, job: JobId | None) -> Row[Any] | None:
        """The job that a request with this key made before; None: it is to be made.

        Args:
            job: what an earlier part of the same request was answered with, if any.

        Raises:
            JobNotFound: another request has taken the key over since that part.
            IdempotencyConflict: the earlier request had other content.
            IdempotencyInUse: the earlier request has not come to its end.
        """
        known = self._hold()
        made = self._job(known)
        if job is not None:
            return self._go_on(job, known, made)
        if known is None or made is None or known.created_at < self._forget_before:
            return None
        if known.digest is not None:
            return self._compared(known, made)
        if made.open:
            self._give_up(made)
        return None

    def remember(self, job: JobId, *, is_first: bool, more: bool) -> None:
        """Note the job of a part that was recorded; the digest with the last."""
        if self._given_up is not None:
            jobs.close(self._connection, self._given_up, self._now)
        if is_first or not more:
            digest = None if more else self._given.digest
            values: dict[str, object] = {"job": job, "digest": digest}
            if is_first:
                values["created_at"] = self._now
            self._connection.execute(update(keys).where(self._is_mine).values(values))

    def _hold(self) -> Row[Any] | None:
        """The row of the key, locked; made and not given back if there was none."""
        found = self._locked()
        if found is not None:
            return found
        values = {
            "team": self._team,
            "key": self._given.key,
            "job": "",
            "created_at": self._now,
        }
        is_sqlite = self._connection.dialect.name == "sqlite"
        made = (sqlite if is_sqlite else postgresql).insert(keys).values(values)
        added = made.on_conflict_do_nothing().returning(keys.c.key)
        if self._connection.execute(added).one_or_none() is not None:
            return None
        return self._locked()  # another was quicker, and has committed by now

    def _locked(self) -> Row[Any] | None:
        query = select(keys).where(self._is_mine).with_for_update()
        return self._connection.execute(query).one_or_none()

    def _job(self, known: Row[Any] | None) -> Row[Any] | None:
        if known is None:
            return None
        query = select(job_rows).where(job_rows.c.id == known.job)
        return self._connection.execute(query).one_or_none()

    def _go_on(
        self, job: JobId, known: Row[Any] | None, made: Row[Any] | None
    ) -> Row[Any] | None:
        """What a later part of a request is to be answered with, if it is a repeat."""
        if known is None or made is None or known.job != job:
            raise jobs.missing(job)
        return None if known.digest is None else self._compared(known, made)

    def _compared(self, known: Row[Any], made: Row[Any]) -> Row[Any]:
        # The content of a long request is known, and compared, with its last part.
        if self._given.digest not in (None, known.digest):
            raise IdempotencyConflict(
                "This Idempotency-Key was used for a request with other content; use "
                "a new key for each request."
            )
        return made

    def _give_up(self, made: Row[Any]) -> None:
        """Take over the key of a request that was never answered."""
        silent = self._now - made.touched_at
        if silent < SILENT_SECONDS:
            raise IdempotencyInUse(
                "A request with this Idempotency-Key is being read; send this one "
                "again later.",
                extra={"retry_after_seconds": SILENT_SECONDS - silent},
            )
        self._given_up = JobId(made.id)
