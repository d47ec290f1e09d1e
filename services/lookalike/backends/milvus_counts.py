"""Remembers for a moment how many rows satisfy a filter, for planning a search."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

KEEP_SECONDS = 10.0
KEPT = 1_000  # of all collections


class Counts:
    """Counts that may be some seconds old, so that equal filters are counted once."""

    def __init__(self, keep_seconds: float = KEEP_SECONDS) -> None:
        self._keep_seconds = keep_seconds
        self._known: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, collection: str, expression: str, ask: Callable[[], int]) -> int:
        """How many rows satisfy an expression, asked for if that is not known."""
        now = time.monotonic()
        with self._lock:
            asked_at, count = self._known.get((collection, expression), (0.0, 0))
        if asked_at and now - asked_at < self._keep_seconds:
            return count
        count = ask()
        self.put(collection, expression, count)
        return count

    def put(self, collection: str, expression: str, count: int) -> None:
        """Remember what was counted just now."""
        with self._lock:
            self._known.pop((collection, expression), None)
            self._known[collection, expression] = (time.monotonic(), count)
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
