"""Handing out work: claimed, given back, and rung for again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, select, update

from lookalike.backends.ledger_locks import lock_pending
from lookalike.backends.ledger_tables import (
    collection,
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
    to_collection,
)
from lookalike.interfaces import (
    Digest,
    ImageId,
    ImageKey,
    Operation,
    Work,
    WorkId,
)

SUSPECT_ATTEMPTS = 2  # after so many tries that no one answered, work is tried alone


def claim(
    connection: Connection, ids: Iterable[WorkId], now: float, lease_seconds: int
) -> tuple[list[Work], list[WorkId]]:
    """Lease what may be worked on now; gives it back, and what was overtaken."""
    rows = lock_pending(
        connection,
        ids,
        work.c.lease_until <= now,
        work.c.not_before <= now,
        ~is_spent,
    )
    heads = _heads(connection, (row.key for row in rows))
    overtaken = [WorkId(row.id) for row in rows if is_overtaken(row, heads)]
    taken = _apart(connection, [row for row in rows if not is_overtaken(row, heads)])
    for chunk in chunks(row.id for row in taken):
        connection.execute(
            update(work)
            .where(work.c.id.in_(chunk))
            .values(
                attempts=work.c.attempts + 1,
                claims=work.c.claims + 1,
                lease_until=now + lease_seconds,
            )
        )
    return _to_work(connection, taken, heads), overtaken


def release(
    connection: Connection, ids: Iterable[WorkId], delay_seconds: float, now: float
) -> None:
    """Give claimed work back, as if it had not been tried."""
    rows = lock_pending(connection, ids, work.c.lease_until > 0)
    for chunk in chunks(row.id for row in rows):
        connection.execute(
            update(work)
            .where(work.c.id.in_(chunk))
            .values(
                attempts=work.c.attempts - 1,
                lease_until=0.0,
                not_before=now + delay_seconds,
                hinted_at=0.0,  # due as soon as the delay is over
            )
        )


def due(
    connection: Connection, limit: int, now: float, rung_before: float
) -> list[WorkId]:
    """Work that no one holds and no one was rung for since then, longest first."""
    query = (
        select(work.c.id)
        .where(
            is_pending,
            work.c.hinted_at <= rung_before,
            work.c.lease_until <= now,
            work.c.not_before <= now,
            ~is_spent,
        )
        .order_by(work.c.hinted_at, work.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = [WorkId(number) for number in connection.execute(query).scalars()]
    _hint(connection, ids, now)
    return ids


def _heads(connection: Connection, keys: Iterable[str]) -> RowsByKey:
    """The images as their newest operations want them.

    They are not locked. What changes meanwhile is found out when the work is finished.
    """
    found: RowsByKey = {}
    for chunk in chunks(sorted(set(keys))):
        rows = connection.execute(select(image).where(image.c.key.in_(chunk)))
        found.update({row.key: row for row in rows})
    return found


def _apart(connection: Connection, rows: Rows) -> Rows:
    """What to try together: one image that kills its worker must not fail others.

    Work whose tries went unanswered is left aside while there is other work, and is
    then taken one by one. An image is taken once, so that keys are distinct. What is
    left aside is due at once.
    """
    calm = [row for row in rows if row.attempts < SUSPECT_ATTEMPTS]
    once = {row.key: row for row in reversed(calm or rows[:1])}
    taken = list(reversed(once.values()))
    aside = {row.id for row in rows if row.hinted_at > 0} - {row.id for row in taken}
    _hint(connection, sorted(aside), 0.0)
    return taken


def _hint(connection: Connection, ids: Sequence[int], moment: float) -> None:
    """Note when work was rung for last."""
    for chunk in chunks(ids):
        connection.execute(
            update(work).where(work.c.id.in_(chunk)).values(hinted_at=moment)
        )


def _to_work(connection: Connection, rows: Rows, heads: RowsByKey) -> list[Work]:
    uids = sorted({row.collection for row in rows})
    found = connection.execute(select(collection).where(collection.c.uid.in_(uids)))
    collections = {row.uid: to_collection(row) for row in found}
    return [
        Work(
            id=WorkId(row.id),
            operation=Operation(row.op),
            collection=collections[row.collection],
            key=ImageKey(row.key),
            image_id=ImageId(row.image_id),
            gen=row.gen,
            digest=Digest(heads[row.key].digest),
            metadata=json.loads(heads[row.key].metadata),
        )
        for row in rows
        if row.collection in collections
    ]
