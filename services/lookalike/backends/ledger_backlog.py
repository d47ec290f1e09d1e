"""How much waits, counted often by those who take in more."""

from __future__ import annotations

import threading
import time

from lookalike.backends.ledger_database import Database
from lookalike.collections import Team
from lookalike.interfaces import Backlog

QUICK_SECONDS = 0.02  # counting that takes no longer is done each time it is asked for
REST = 10  # otherwise an answer is given again for so many times as long as it took

# What each unfinished job has not counted yet. Repairs belong to none.
WAITING = """
SELECT team, SUM(total - done - unchanged - failed - superseded)
FROM job WHERE finished_at IS NULL GROUP BY team
"""


class BacklogCounter:
    """Counts what waits, without ever spending most of its time on that.

    Safe to use from several threads.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._counting = threading.Lock()
        self._known: dict[str, int] | None = None
        self._known_until = 0.0
        self._took = 0.0

    def backlog(self, team: Team) -> Backlog:
        """How many images of a team and of all wait to be worked on."""
        known = self._counts()
        return Backlog(team=known.get(team, 0), all=sum(known.values()))

    def _counts(self) -> dict[str, int]:
        known = self._known
        if known is not None and time.monotonic() < self._known_until:
            return known
        # While one thread counts, the others make do with what was known.
        if not self._counting.acquire(blocking=known is None):
            assert known is not None
            return known
        try:
            return self._count()
        finally:
            self._counting.release()

    def _count(self) -> dict[str, int]:
        began = time.monotonic()
        counts = {team: int(count) for team, count in self._database.fetch(WAITING, ())}
        before, self._took = self._took, time.monotonic() - began
        # The shorter of two, as on a busy machine anything may take long once.
        took = min(before, self._took)
        self._known = counts
        self._known_until = began + took * (1 + REST) if took > QUICK_SECONDS else 0.0
        return counts
