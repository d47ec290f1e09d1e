"""Handing out work: claimed, given back, and rung for again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import chain
from math import ceil
from typing import Any

from sqlalchemy import Connection, Row, select, update

from lookalike.backends import ledger_fairness as fairness
from lookalike.backends.ledger_locks import lock_pending
from lookalike.backends.ledger_tables import (
    SUSPECT_ATTEMPTS,
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


def claim(
    connection: Connection, ids: Iterable[WorkId], now: float, lease_seconds: int
) -> tuple[list[Work], list[WorkId]]:
    """Lease what may be worked on now; gives it back, and what was overtaken."""
    asked = set(ids)
    is_free = (work.c.lease_until <= now, work.c.not_before <= now, ~is_spent)
    own = lock_pending(connection, asked, *is_free)
    next_ids = _of_others(connection, own, len(asked), now)
    rows = own + lock_pending(connection, next_ids, *is_free, skip_locked=True)
    heads = _heads(connection, (row.key for row in rows))
    overtaken = [WorkId(row.id) for row in rows if is_overtaken(row, heads)]
    current = [row for row in rows if not is_overtaken(row, heads)]
    taken = _shared(_apart(current), len(asked))
    _set_aside(connection, [row for row in current if row.id in asked], taken)
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
    """Work that no one holds and no one was rung for since then, longest first.

    The teams take turns. What one leaves of its share goes to the others.
    """
    found: dict[str, list[int]] = {}
    teams = fairness.drawn(fairness.pending_teams(connection), limit)
    while teams and (room := limit - sum(map(len, found.values()))) > 0:
        share = max(1, room // len(teams))
        for team in list(teams):
            ids = _due_of(connection, team, min(share, room), now, rung_before)
            _hint(connection, ids, now)
            found.setdefault(team, []).extend(ids)
            room -= len(ids)
            if len(ids) < share:
                teams.remove(team)
            if not room:
                break
    return [WorkId(number) for number in fairness.in_turns(found)]


def _due_of(
    connection: Connection, team: str, limit: int, now: float, rung_before: float
) -> list[int]:
    query = (
        select(work.c.id)
        .where(
            is_pending,
            work.c.team == team,
            work.c.hinted_at <= rung_before,
            work.c.lease_until <= now,
            work.c.not_before <= now,
            ~is_spent,
        )
        .order_by(work.c.hinted_at, work.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return list(connection.execute(query).scalars())


def _of_others(connection: Connection, own: Rows, room: int, now: float) -> list[int]:
    """What the teams that the message does not name would take of its room."""
    if own and not any(_is_calm(row) for row in own):
        return []  # its turn has come, and it is tried alone
    named = {row.team for row in own}
    teams = fairness.pending_teams(connection)
    others = fairness.drawn(set(teams) - named)
    if len(teams) < 2 or not others:
        return []
    share = ceil(room / (len(named) + len(others)))
    queues = (fairness.next_of(connection, team, share, now) for team in others)
    return list(chain.from_iterable(queues))


def _is_calm(row: Row[Any]) -> bool:
    """Whether no earlier try of the work has gone unanswered too often."""
    return bool(row.attempts < SUSPECT_ATTEMPTS)


def _apart(rows: Rows) -> Rows:
    """What may be tried together: an image that kills its worker must not fail others.

    Work whose tries went unanswered is left aside while there is other work, and is
    then taken one by one. An image is taken once, so that keys are distinct.
    """
    calm = [row for row in rows if _is_calm(row)]
    once = {row.key: row for row in reversed(calm or rows[:1])}
    return list(reversed(once.values()))


def _shared(rows: Rows, room: int) -> Rows:
    """As many rows as there is room for, the teams in turns."""
    queues: dict[str, Rows] = {}
    for row in rows:
        queues.setdefault(row.team, []).append(row)
    return fairness.in_turns(queues)[:room]


def _set_aside(connection: Connection, own: Rows, taken: Rows) -> None:
    """Have what gave up its place rung for again at once."""
    aside = {row.id for row in own if row.hinted_at > 0} - {row.id for row in taken}
    _hint(connection, sorted(aside), 0.0)


def _heads(connection: Connection, keys: Iterable[str]) -> RowsByKey:
    """The images as their newest operations want them.

    They are not locked. What changes meanwhile is found out when the work is finished.
    """
    found: RowsByKey = {}
    for chunk in chunks(sorted(set(keys))):
        rows = connection.execute(select(image).where(image.c.key.in_(chunk)))
        found.update({row.key: row for row in rows})
    return found


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
            indexed_gen=heads[row.key].indexed_gen,
            digest=Digest(heads[row.key].digest),
            metadata=json.loads(heads[row.key].metadata),
            born_gen=heads[row.key].born_gen,
        )
        for row in rows
        if row.collection in collections
    ]
