"""Saying that a command waits for the server, and why."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from rich.console import Console
from rich.text import Text

from lookalike.errors import LookalikeError

SAID_AGAIN_SECONDS = 30.0
SHORTEST_SECONDS = 1.0  # what is over sooner is not worth a line


class Waiting:
    """Prints a line when a call waits, but not one for each; safe from many threads."""

    def __init__(
        self, console: Console, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console
        self._clock = clock
        self._lock = threading.Lock()
        self._next = float("-inf")

    def __call__(self, refused: LookalikeError, seconds: float) -> None:
        """Say what the server refused, and that it is asked again."""
        if seconds < SHORTEST_SECONDS:
            return
        with self._lock:
            now = self._clock()
            if now < self._next:
                return
            self._next = now + SAID_AGAIN_SECONDS
        # As text, so that brackets in a sentence are not taken for markup.
        line = Text(f"Waiting: {refused.detail}", style="yellow")
        self._console.print(line, highlight=False, soft_wrap=True)
