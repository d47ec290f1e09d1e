"""How work ends: counted once, noted on its image, and repaired where it came late."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    func,
    select,
    update,
)

from lookalike.backends import ledger_claims as claims
from lookalike.backends import ledger_jobs as jobs
from lookalike.backends import ledger_originals as originals
from lookalike.backends import ledger_repairs as repairs
from lookalike.backends.ledger_locks import hold_collections, lock_images, lock_pending
from lookalike.backends.ledger_tables import (
    MAX_ATTEMPTS,
    image,
    is_pending,
    is_spent,
    work,
)
from lookalike.backends.ledger_values import (
    Rows,
    RowsByKey,
    chunks,
    is_overtaken,
    storable,
)
from lookalike.interfaces import JobId, Operation, Outcome, Result, WorkId

SWEEP = 1_000  # most rows out of attempts that one sweep ends
EXHAUSTED = Result(
    WorkId(0),
    Outcome.FAILED,
    code="attempts_exhausted",
    detail=f"Given up after {MAX_ATTEMPTS} attempts, none of which came to an end.",
    retryable=True,
)
CANCELLED = Result(
    WorkId(0),
    Outcome.FAILED,
    code="cancelled",
    detail="The job was cancelled before this image's turn came.",
    retryable=True,
)
END_WORK = (
    update(work)
    .where(work.c.id == bindparam("its_id"))
    .values(
        state=bindparam("state"),
        lease_until=0.0,
        ended_at=bindparam("ended_at"),
        error_code=bindparam("error_code"),
        error_detail=bindparam("error_detail"),
        retryable=bindparam("retryable"),
    )
)
INDEX_IMAGE = (
    update(image)
    .where(image.c.key == bindparam("its_key"))
    .values(indexed_gen=image.c.gen, failed=None, signature=bindparam("signature"))
)
LINK_IMAGE = (
    update(image)
    .where(image.c.key == bindparam("its_key"))
    .values(duplicate_of=bindparam("original"))
)
FAIL_IMAGE = (
    update(image)
    .where(image.c.key == bindparam("its_key"))
    # What the index holds of it is not known now, so it does not count as indexed.
    .values(failed=bindparam("code"), indexed_gen=0)
)


def finish(
    connection: Connection,
    results: Iterable[Result],
    now: float,
    *conditions: ColumnElement[bool],
) -> list[JobId]:
    """End work, count it, and note on each image what became of it."""
    told = {result.work: result for result in results}
    known = _read(connection, told)
    hold_collections(connection, (row.collection for row in known))
    keys = {row.key for row in known} | originals.named(told.values())
    heads = lock_images(connection, keys)
    rows = lock_pending(connection, told, *conditions)
    again = {row.id for row in rows if originals.is_gone(told[row.id], heads)}
    claims.release(connection, again, 0.0, now)
    rows = [row for row in rows if row.id not in again]
    ends = {row.id: _true_end(told[row.id], is_overtaken(row, heads)) for row in rows}
    _end(connection, ends, now)
    doubted = _note(connection, rows, ends, heads)
    # Others may have ended this work, for a worker that was merely slow.
    ended_before = [
        row
        for row in known
        if row.id not in ends and told[row.id].outcome is Outcome.DONE
    ]
    late = repairs.late_keys(rows, ended_before, heads)
    repairs.repair_late(connection, known, heads, late, doubted)
    counted = [(row.job, ends[row.id].outcome.value) for row in rows]
    return jobs.count(connection, counted, now)


def supersede(connection: Connection, ids: Iterable[WorkId], now: float) -> None:
    """End work that was overtaken and that no one holds."""
    results = [Result(number, Outcome.SUPERSEDED) for number in ids]
    finish(connection, results, now, work.c.lease_until <= now)


def give_up(connection: Connection, now: float) -> None:
    """End work whose last attempt ran out of time too."""
    is_over = (is_spent, work.c.lease_until <= now)
    query = select(work.c.id).where(is_pending, *is_over).limit(SWEEP)
    ids = connection.execute(query).scalars().all()
    if ids:
        results = [replace(EXHAUSTED, work=WorkId(number)) for number in ids]
        finish(connection, results, now, *is_over)


def cancel(
    connection: Connection, job_id: JobId, after: WorkId, now: float
) -> WorkId | None:
    """End some work of a job that no one holds; None if no more of it comes after.

    Deletions are left alone.
    """
    is_free = work.c.lease_until <= now
    query = (
        select(work.c.id)
        .where(work.c.job == job_id, is_pending, is_free, work.c.id > after)
        .where(work.c.op != Operation.DELETE.value)
        .order_by(work.c.id)
        .limit(SWEEP)
    )
    ids = connection.execute(query).scalars().all()
    results = [replace(CANCELLED, work=WorkId(number)) for number in ids]
    finish(connection, results, now, is_free)
    return WorkId(ids[-1]) if ids else None


def supersede_collection(connection: Connection, uid: str, now: float) -> None:
    """End all pending work of a collection that no one accepts for any more."""
    mine = (is_pending, work.c.collection == uid)
    ordered = select(work.c.id).where(*mine).order_by(work.c.id).with_for_update()
    connection.execute(select(func.count()).select_from(ordered.subquery()))
    counts = connection.execute(
        select(work.c.job, func.count().label("images"))
        .where(*mine, work.c.job.is_not(None))
        .group_by(work.c.job)
    )
    by_job = {JobId(row.job): Counter(superseded=row.images) for row in counts}
    ended = {"state": "superseded", "lease_until": 0.0, "ended_at": now}
    connection.execute(update(work).where(*mine).values(ended))
    jobs.add(connection, by_job, now)


def _read(connection: Connection, ids: Iterable[int]) -> Rows:
    """The rows of that work, in whatever state, not locked."""
    found: Rows = []
    for chunk in chunks(sorted(ids)):
        query = select(work).where(work.c.id.in_(chunk), work.c.key.is_not(None))
        found.extend(connection.execute(query))
    return found


def _true_end(result: Result, overtaken: bool) -> Result:
    """What was done for an operation that was overtaken meanwhile is superseded.

    So is what was to be cancelled: a failure would ask for another try.
    """
    is_cancelled = result.code == CANCELLED.code
    if overtaken and (result.outcome is Outcome.DONE or is_cancelled):
        return Result(result.work, Outcome.SUPERSEDED)
    return result


def _end(connection: Connection, ends: Mapping[int, Result], now: float) -> None:
    rows = []
    for number, result in ends.items():
        is_failed = result.outcome is Outcome.FAILED
        rows.append(
            {
                "its_id": number,
                "state": result.outcome.value,
                "ended_at": now,
                "error_code": storable(result.code or "failed") if is_failed else None,
                "error_detail": storable(result.detail or "") if is_failed else None,
                "retryable": is_failed and result.retryable,
            }
        )
    if rows:
        connection.execute(END_WORK, rows)


def _note(
    connection: Connection, rows: Rows, ends: Mapping[int, Result], heads: RowsByKey
) -> set[str]:
    """Note on images how their newest operation ended; gives back the doubtful ones.

    Those were written with a stored vector that a late write may have covered.
    """
    indexed: set[str] = set()
    seen: dict[str, bytes] = {}
    linked: dict[str, str] = {}
    doubted: set[str] = set()
    broken: dict[str, str] = {}
    for row in rows:
        end = ends[row.id]
        if is_overtaken(row, heads):
            continue
        if end.outcome is Outcome.FAILED:
            broken[row.key] = storable(end.code or "failed")
        elif end.outcome is Outcome.DONE:
            is_doubtful = row.op == Operation.META and heads[row.key].doubtful
            if end.signature is not None:
                seen[row.key] = end.signature
            else:
                (doubted if is_doubtful else indexed).add(row.key)
            if (original := originals.link(end, heads)) is not None:
                linked[row.key] = original
    for chunk in chunks(sorted(indexed)):
        connection.execute(
            update(image)
            .where(image.c.key.in_(chunk))
            .values(indexed_gen=image.c.gen, failed=None)
        )
    if seen:
        rows_seen = [{"its_key": k, "signature": seen[k]} for k in sorted(seen)]
        connection.execute(INDEX_IMAGE, rows_seen)
    if linked:
        rows_linked = [{"its_key": k, "original": linked[k]} for k in sorted(linked)]
        connection.execute(LINK_IMAGE, rows_linked)
    if broken:
        rows_broken = [{"its_key": k, "code": broken[k]} for k in sorted(broken)]
        connection.execute(FAIL_IMAGE, rows_broken)
    return doubted
