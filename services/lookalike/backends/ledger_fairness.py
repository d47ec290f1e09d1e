"""Taking turns: no team waits behind another one's flood.

Messages come in the order in which they were sent, so those of a small request stand
behind those of a large one. Whoever claims therefore shares its room with the other
teams that have work, whatever its message names.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, zip_longest
from typing import TypeVar

from sqlalchemy import Connection, select, text

from lookalike.backends.ledger_tables import SUSPECT_ATTEMPTS, is_pending, work

T = TypeVar("T")

MAX_TEAMS = 16  # that one claim looks at; which, is drawn by lot
LOOK_AHEAD = 5_000  # of a team's work in its order, past what is held or delayed

# Steps from one team to the next in the index, however much work each has.
PENDING_TEAMS = text("""
WITH RECURSIVE step(team) AS (
    SELECT (SELECT work.team FROM work WHERE work.state = 'pending'
            ORDER BY work.team LIMIT 1)
    UNION ALL
    SELECT (SELECT work.team FROM work
            WHERE work.state = 'pending' AND work.team > step.team
            ORDER BY work.team LIMIT 1)
    FROM step WHERE step.team IS NOT NULL
)
SELECT step.team FROM step WHERE step.team IS NOT NULL
""")


def pending_teams(connection: Connection) -> list[str]:
    """The teams that have work to be done, due or not."""
    return list(connection.execute(PENDING_TEAMS).scalars())


def drawn(teams: Iterable[str], most: int = MAX_TEAMS) -> list[str]:
    """So many of the teams at most, by lot."""
    known = sorted(teams)
    return random.sample(known, min(most, len(known)))


def next_of(connection: Connection, team: str, limit: int, now: float) -> list[int]:
    """The ids of a team's work whose turn is next; not locked."""
    queue = (
        select(work.c.id, work.c.lease_until, work.c.not_before, work.c.attempts)
        .where(is_pending, work.c.team == team)
        .order_by(work.c.hinted_at, work.c.id)
        .limit(LOOK_AHEAD)
        .subquery()
    )
    query = select(queue.c.id).where(
        queue.c.lease_until <= now,
        queue.c.not_before <= now,
        queue.c.attempts < SUSPECT_ATTEMPTS,
    )
    return list(connection.execute(query.limit(limit)).scalars())


def in_turns(queues: Mapping[str, Sequence[T]]) -> list[T]:
    """The first of each team, then the second of each, and so on."""
    nothing = object()
    rounds = zip_longest(*queues.values(), fillvalue=nothing)
    return [one for one in chain.from_iterable(rounds) if one is not nothing]  # type: ignore[misc]
