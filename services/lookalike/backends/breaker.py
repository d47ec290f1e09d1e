"""A breaker: while a server cannot be reached, callers hear so at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Breaker:
    """Opens after several failures in a row, and lets one caller try now and then.

    Ask ``allows`` before a call, and say how it went with ``worked`` or ``failed``. A
    call of which neither is known may go unsaid.

    Args:
        failures: in a row, to open it.
        seconds: between two tries while it is open; infinite if callers never try.
        clock: gives the time in seconds; tests turn it themselves.
    """

    def __init__(
        self,
        *,
        failures: int = 3,
        seconds: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = failures
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._next_try = 0.0

    @property
    def is_open(self) -> bool:
        """Whether callers are turned away, but for one now and then."""
        return self._failures >= self._most

    def allows(self) -> bool:
        """Whether to call; while open, True to one caller in each interval."""
        with self._lock:
            if not self.is_open:
                return True
            now = self._clock()
            if now < self._next_try:
                return False
            self._next_try = now + self._seconds
            return True

    def worked(self) -> None:
        """The server answered, whatever it said: closed."""
        with self._lock:
            self._failures = 0

    def open(self) -> None:
        """There is no doubt that the server is away, whatever was counted."""
        with self._lock:
            self._failures = max(self._failures, self._most)
            self._next_try = self._clock() + self._seconds

    def failed(self) -> None:
        """The server could not be reached, or did not answer in time."""
        with self._lock:
            self._failures += 1
            self._next_try = self._clock() + self._seconds
