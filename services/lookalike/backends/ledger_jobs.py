"""Counting in jobs: each image once, in the transaction that ends its work."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from lookalike.backends.ledger_tables import is_open, job
from lookalike.collections import Collection
from lookalike.errors import JobNotFound
from lookalike.interfaces import JobId

ABANDONED_SECONDS = 3600.0  # an open job that gets no further part for so long ends


@dataclass(frozen=True)
class Part:
    """What one request, or one part of it, adds to a job."""

    total: int
    unchanged: int = 0
    failed: int = 0
    superseded: int = 0

    def columns(self) -> dict[str, int]:
        """The counts by column."""
        return {
            "total": self.total,
            "unchanged": self.unchanged,
            "failed": self.failed,
            "superseded": self.superseded,
        }


def missing(job_id: str) -> JobNotFound:
    """The error for a job that is not there."""
    return JobNotFound(f"There is no job {job_id[:64]!r}.")


def total(connection: Connection, job_id: JobId) -> int:
    """How many images a job has so far.

    Raises:
        JobNotFound: there is no such job.
    """
    found = connection.scalar(select(job.c.total).where(job.c.id == job_id))
    if found is None:
        raise missing(job_id)
    return int(found)


def start(
    connection: Connection,
    collection: Collection,
    part: Part,
    *,
    gen: int,
    now: float,
    more: bool,
) -> Row[Any]:
    """Record a new job; ``more`` keeps it open for further parts."""
    values: dict[str, object] = {
        # Sorts by time, then by order of operations; the rest cannot be guessed.
        "id": f"{int(now * 1000):012x}{gen % 2**32:08x}{secrets.token_hex(6)}",
        "team": collection.team,
        "collection": collection.uid,
        "collection_name": collection.name,
        "open": more,
        "created_at": now,
        "touched_at": now,
        **part.columns(),
    }
    row = connection.execute(insert(job).values(values).returning(job)).one()
    return _finished(connection, row, now) or row


def extend(
    connection: Connection,
    collection: Collection,
    job_id: JobId,
    part: Part,
    *,
    now: float,
    more: bool,
) -> Row[Any]:
    """Add a part to an open job.

    Raises:
        JobNotFound: no such job of this collection is open.
    """
    counts = {name: job.c[name] + count for name, count in part.columns().items()}
    changed = connection.execute(
        update(job)
        .where(job.c.id == job_id, job.c.collection == collection.uid, job.c.open)
        .values(counts | {"open": more, "touched_at": now})
        .returning(job)
    ).one_or_none()
    if changed is None:
        raise missing(job_id)
    return _finished(connection, changed, now) or changed


def count(
    connection: Connection, ended: Iterable[tuple[JobId | None, str]], now: float
) -> list[JobId]:
    """Count pieces of work by job and column; gives back the jobs this finished.

    A repair belongs to no job and is counted nowhere.
    """
    totals: dict[JobId, Counter[str]] = {}
    for job_id, column in ended:
        if job_id is not None:
            totals.setdefault(job_id, Counter())[column] += 1
    return add(connection, totals, now)


def add(
    connection: Connection, totals: Mapping[JobId, Mapping[str, int]], now: float
) -> list[JobId]:
    """Add counts to jobs by column; gives back the jobs this finished."""
    finished = []
    for job_id in sorted(totals):  # always in one order, so that none waits in a ring
        changed = connection.execute(
            update(job)
            .where(job.c.id == job_id)
            .values(_raised(totals[job_id]))
            .returning(job)
        ).one()
        if _finished(connection, changed, now):
            finished.append(job_id)
    return finished


def close_abandoned(connection: Connection, now: float) -> None:
    """Close jobs whose request never sent its last part, so that they can finish."""
    rows = connection.execute(
        select(job.c.id)
        .where(is_open, job.c.touched_at < now - ABANDONED_SECONDS)
        .with_for_update(skip_locked=True)
    )
    for job_id in sorted(rows.scalars().all()):
        close(connection, job_id, now)


def close(connection: Connection, job_id: JobId, now: float) -> None:
    """Have a job finish without the further parts that it was kept open for."""
    closed = connection.execute(
        update(job).where(job.c.id == job_id, is_open).values(open=False).returning(job)
    ).one_or_none()
    if closed is not None:
        _finished(connection, closed, now)


def _raised(counts: Mapping[str, int]) -> dict[str, Any]:
    return {column: job.c[column] + count for column, count in counts.items()}


def _finished(connection: Connection, row: Row[Any], now: float) -> Row[Any] | None:
    """Mark the job finished if it is by now; gives back the row as it is then."""
    counted = row.done + row.unchanged + row.failed + row.superseded
    if row.open or row.finished_at is not None or counted < row.total:
        return None
    return connection.execute(
        update(job).where(job.c.id == row.id).values(finished_at=now).returning(job)
    ).one()
