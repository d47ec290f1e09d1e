"""How work ends: counted once, noted on its image, and repaired where it came late.

The index cannot refuse a late write. So whenever work for an older operation may have
been written, the newest state of that image is written once more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    func,
    insert,
    select,
    update,
)

from lookalike.backends import ledger_jobs as jobs
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
END_WORK = (
    update(work)
    .where(work.c.id == bindparam("its_id"))
    .values(
        state=bindparam("state"),
        lease_until=0.0,
        error_code=bindparam("error_code"),
        error_detail=bindparam("error_detail"),
        retryable=bindparam("retryable"),
    )
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
    heads = lock_images(connection, (row.key for row in known))
    rows = lock_pending(connection, told, *conditions)
    ends = {row.id: _true_end(told[row.id], is_overtaken(row, heads)) for row in rows}
    _end(connection, ends)
    doubted = _note(connection, rows, ends, heads)
    # Others may have ended this work, for a worker that was merely slow.
    ended_before = [
        row
        for row in known
        if row.id not in ends and told[row.id].outcome is Outcome.DONE
    ]
    _repair(connection, heads, _late(rows, ended_before, heads), doubted)
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
    connection.execute(
        update(work).where(*mine).values(state="superseded", lease_until=0.0)
    )
    jobs.add(connection, by_job, now)


def _read(connection: Connection, ids: Iterable[int]) -> Rows:
    """The rows of that work, in whatever state, not locked."""
    found: Rows = []
    for chunk in chunks(sorted(ids)):
        query = select(work).where(work.c.id.in_(chunk), work.c.key.is_not(None))
        found.extend(connection.execute(query))
    return found


def _true_end(result: Result, overtaken: bool) -> Result:
    """What was done for an operation that was overtaken meanwhile is superseded."""
    if overtaken and result.outcome is Outcome.DONE:
        return Result(result.work, Outcome.SUPERSEDED)
    return result


def _end(connection: Connection, ends: Mapping[int, Result]) -> None:
    rows = []
    for number, result in ends.items():
        is_failed = result.outcome is Outcome.FAILED
        rows.append(
            {
                "its_id": number,
                "state": result.outcome.value,
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
            (doubted if is_doubtful else indexed).add(row.key)
    for chunk in chunks(sorted(indexed)):
        connection.execute(
            update(image)
            .where(image.c.key.in_(chunk))
            .values(indexed_gen=image.c.gen, failed=None)
        )
    if broken:
        rows_broken = [{"its_key": k, "code": broken[k]} for k in sorted(broken)]
        connection.execute(FAIL_IMAGE, rows_broken)
    return doubted


def _late(rows: Rows, ended_before: Rows, heads: RowsByKey) -> set[str]:
    """Images whose newest state a late write may have covered."""
    late = {row.key for row in rows if row.claims and is_overtaken(row, heads)}
    for row in ended_before:
        # Metadata are written with the vector that was stored a while ago.
        if is_overtaken(row, heads) or row.op == Operation.META:
            late.add(row.key)
    return late & heads.keys()


def _repair(
    connection: Connection, heads: RowsByKey, late: set[str], doubted: set[str]
) -> None:
    """Have the newest state of those images written once more."""
    pending = _pending(connection, late | doubted)
    reusing = {
        row.key
        for row in pending
        if row.op == Operation.META and row.gen == heads[row.key].gen
    }
    # Written after this, by work that no one has begun: that is a repair.
    untouched = {
        row.key for row in pending if not row.claims and row.gen == heads[row.key].gen
    }
    # Nothing can be written of what could not be made.
    broken = {key for key in late if heads[key].want == "present" and heads[key].failed}
    # Whoever reuses a stored vector may have read it; repaired when that has ended.
    _doubt(connection, late & reusing, is_doubtful=True)
    _doubt(connection, doubted, is_doubtful=False)
    wanted = doubted | (late - reusing - untouched - broken)
    if wanted:
        rows = [_repair_row(heads, key) for key in sorted(wanted)]
        connection.execute(insert(work), rows)


def _repair_row(heads: RowsByKey, key: str) -> dict[str, object]:
    """Work that belongs to no job. It is due at once, as no one rings for it."""
    head = heads[key]
    operation = Operation.PUT if head.want == "present" else Operation.DELETE
    return {
        "position": 0,
        "collection": head.collection,
        "key": key,
        "image_id": head.image_id,
        "gen": head.gen,
        "op": operation.value,
    }


def _pending(connection: Connection, keys: Iterable[str]) -> Rows:
    found: Rows = []
    for chunk in chunks(sorted(keys)):
        query = select(work).where(is_pending, work.c.key.in_(chunk))
        found.extend(connection.execute(query))
    return found


def _doubt(connection: Connection, keys: set[str], *, is_doubtful: bool) -> None:
    for chunk in chunks(sorted(keys)):
        connection.execute(
            update(image).where(image.c.key.in_(chunk)).values(doubtful=is_doubtful)
        )
