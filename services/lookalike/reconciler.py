"""The thread that rings again for work which nobody attends to."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from lookalike.errors import LookalikeError

logger = logging.getLogger(__name__)

LONG_SWEEP = 1_000  # work rung for in one sweep; then more is likely to wait


class Reconciler:
    """Calls ``reconcile`` now and then every few seconds, until it is stopped.

    It runs where the work is done: in ``lookalike up``, and in one child of every
    Celery worker. With no worker alive, ringing would only fill Redis. Several at once
    are harmless, because the ledger notes each ring and names no work twice.
    """

    def __init__(self, reconcile: Callable[[], int], *, seconds: float) -> None:
        self._reconcile = reconcile
        self._seconds = seconds
        self._stopping = threading.Event()
        self._is_failing = False
        self._thread = threading.Thread(
            target=self._run, name="reconciler", daemon=True
        )

    def start(self) -> None:
        """Start the thread; the first sweep is at once, to go on after a restart."""
        self._thread.start()

    def stop(self, timeout: float = 1.0) -> None:
        """Sweep no more, and wait a moment for a sweep that runs."""
        self._stopping.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            found = self._sweep()
            # A long backlog, as after the loss of all Redis data, is rung faster than
            # workers do it, yet slowly enough for the ledger.
            pause = self._seconds / 5 if found >= LONG_SWEEP else self._seconds

    def _sweep(self) -> int:
        try:
            found = self._reconcile()
        except LookalikeError as error:
            if not self._is_failing:  # one line for an outage, not one a sweep
                logger.warning("pending work cannot be looked for: %s", error.detail)
            self._is_failing = True
            return 0
        except Exception:  # this thread must outlive anything that a driver raises
            logger.exception("looking for pending work ended in an error")
            return 0
        self._is_failing = False
        if found:
            logger.info("rang again for %d pieces of work", found)
        return found
