"""Forgetting what ended long ago, a little in each transaction.

Whatever is removed here no one changes any more, except for the images: a deleted one
may be ingested again at any moment. So those go while no one else holds their
collection.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, Delete, delete, exists, select

from lookalike.backends.ledger_database import Database
from lookalike.backends.ledger_locks import known_keys, seize_collection
from lookalike.backends.ledger_tables import (
    idempotency,
    image,
    is_finished,
    is_gone,
    is_pending,
    job,
    verdict,
    work,
)

ROWS = 500  # of one table that a transaction removes, so that no one waits for long


def prune(database: Database, *, ended_before: float, keys_before: float) -> int:
    """Forget what ended, and the keys that were made, before those moments.

    Gives back how many rows that were.
    """
    steps = (
        _prune_jobs(database, ended_before),
        _prune_repairs(database, ended_before),
        _prune_tombstones(database, ended_before),
        _prune_keys(database, keys_before),
    )
    return sum(sum(removed) for removed in steps)


def _prune_jobs(database: Database, before: float) -> Iterator[int]:
    old = select(job.c.id).where(is_finished, job.c.finished_at < before).limit(ROWS)
    while True:
        with database.reading() as connection:
            ids = connection.execute(old).scalars().all()
        if not ids:
            return
        yield from _prune_work_of(database, ids)


def _prune_work_of(database: Database, ids: Sequence[str]) -> Iterator[int]:
    """Forget jobs, after the last of their work."""
    some = select(work.c.id).where(work.c.job.in_(ids)).limit(ROWS)
    removed = ROWS
    while removed >= ROWS:
        with database.writing() as connection:
            removed = _removed(connection, delete(work).where(work.c.id.in_(some)))
            jobs = 0
            if removed < ROWS:
                jobs = _removed(connection, delete(job).where(job.c.id.in_(ids)))
        yield removed + jobs


def _prune_repairs(database: Database, before: float) -> Iterator[int]:
    is_old = (work.c.job.is_(None), work.c.ended_at < before)
    some = select(work.c.id).where(*is_old).limit(ROWS)
    yield from _prune_rows(database, delete(work).where(work.c.id.in_(some)))


def _prune_keys(database: Database, before: float) -> Iterator[int]:
    is_old = idempotency.c.created_at < before
    some = select(idempotency.c.key).where(is_old).limit(ROWS)
    # A key is unique only in its team. Of another one it goes only if it is old, too.
    gone = delete(idempotency).where(is_old, idempotency.c.key.in_(some))
    yield from _prune_rows(database, gone)


def _prune_rows(database: Database, statement: Delete) -> Iterator[int]:
    removed = ROWS
    while removed >= ROWS:
        with database.writing() as connection:
            removed = _removed(connection, statement)
        yield removed


def _prune_tombstones(database: Database, before: float) -> Iterator[int]:
    # Without work that may still write it, a key is unknown as if it had never been.
    is_waiting = exists().where(is_pending, work.c.key == image.c.key)
    is_old = (is_gone, image.c.updated_at < before, ~is_waiting)
    some = select(image.c.collection, image.c.key).where(*is_old).limit(ROWS)
    while True:
        with database.reading() as connection:
            rows = connection.execute(some).all()
        if not rows:
            return
        for uid in sorted({row.collection for row in rows}):
            keys = [row.key for row in rows if row.collection == uid]
            with database.writing() as connection:
                seize_collection(connection, uid)
                gone = delete(image).where(image.c.key.in_(keys), *is_old)
                removed = _removed(connection, gone)
                gone_keys = sorted(set(keys) - known_keys(connection, keys))
                either = verdict.c.a.in_(gone_keys) | verdict.c.b.in_(gone_keys)
                mine = (verdict.c.collection == uid, either)
                removed += _removed(connection, delete(verdict).where(*mine))
            yield removed


def _removed(connection: Connection, statement: Delete) -> int:
    return int(connection.execute(statement).rowcount)
