"""Work that writes the newest state of an image to the index once more.

The index cannot refuse a late write. So whenever work for an older operation may have
been written, or the index was found to differ, the newest state is written again. Such
work belongs to no job and is counted nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, insert, select, update

from lookalike.backends.ledger_locks import lock_images
from lookalike.backends.ledger_tables import image, is_pending, work
from lookalike.backends.ledger_values import Rows, RowsByKey, chunks, is_overtaken
from lookalike.collections import Collection
from lookalike.interfaces import DUPLICATE, Operation, WorkId


def repair(
    connection: Connection, collection: Collection, keys: Iterable[str], now: float
) -> list[WorkId]:
    """Have those images of a collection that is held written once more.

    Nothing is done for what waits to be written anyway, and nothing can be for what
    failed.
    """
    rows = lock_images(connection, keys)
    heads = {k: row for k, row in rows.items() if row.collection == collection.uid}
    waiting = {row.key for row in _pending(connection, heads)}
    wanted = sorted(heads.keys() - waiting - _broken(heads, heads))
    if not wanted:
        return []
    rung = {"hinted_at": now}  # whoever asked for it rings at once
    again = [_work(heads, key, collection.team) | rung for key in wanted]
    connection.execute(insert(work), again)
    return sorted(WorkId(row.id) for row in _pending(connection, wanted))


def late_keys(rows: Rows, ended_before: Rows, heads: RowsByKey) -> set[str]:
    """Images whose newest state a late write may have covered."""
    late = {row.key for row in rows if row.claims and is_overtaken(row, heads)}
    for row in ended_before:
        # Metadata are written with the vector that was stored a while ago; and another
        # worker may have refused as a duplicate what this one has written.
        is_old = is_overtaken(row, heads) or row.op == Operation.META
        if is_old or heads[row.key].failed == DUPLICATE:
            late.add(row.key)
    return late & heads.keys()


def repair_late(
    connection: Connection,
    ended: Rows,
    heads: RowsByKey,
    late: set[str],
    doubted: set[str],
) -> None:
    """Have the newest state written once more of images that work has ended for.

    The doubted are those whose newest write may have reused a wrong vector.
    """
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
    # Whoever reuses a stored vector may have read it; repaired when that has ended.
    _doubt(connection, late & reusing, is_doubtful=True)
    _doubt(connection, doubted, is_doubtful=False)
    wanted = doubted | (late - reusing - untouched - _broken(heads, late))
    if wanted:
        teams = {row.key: row.team for row in ended}
        rows = [_work(heads, key, teams[key]) for key in sorted(wanted)]
        connection.execute(insert(work), rows)


def _broken(heads: RowsByKey, keys: Iterable[str]) -> set[str]:
    """Those of the images that nothing can be written of, as it could not be made.

    What was refused as a duplicate is tried, and refused, again: that removes it.
    """
    return {
        key
        for key in keys
        if heads[key].want == "present" and heads[key].failed not in (None, DUPLICATE)
    }


def _work(heads: RowsByKey, key: str, team: str) -> dict[str, object]:
    """Work that is due at once, as no one rings for it."""
    head = heads[key]
    operation = Operation.PUT if head.want == "present" else Operation.DELETE
    return {
        "team": team,
        "position": 0,
        "collection": head.collection,
        "key": key,
        "image_id": head.image_id,
        "gen": head.gen,
        "op": operation.value,
        "hinted_at": 0.0,
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
