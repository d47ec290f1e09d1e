"""The threads that ring again for work, and keep house, while the process runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from lookalike.errors import LookalikeError
from lookalike.interfaces import Stop

T = TypeVar("T")

logger = logging.getLogger(__name__)

LONG_SWEEP = 1_000  # work rung for in one sweep; then more is likely to wait
HOUSEKEEPING_SECONDS = 60.0


class Reconciler:
    """Calls ``reconcile`` now and then every few seconds, until it is stopped.

    It runs where the work is done: in ``lookalike up``, and in one child of every
    Celery worker. With no worker alive, ringing would only fill Redis. Of several at
    once one sweeps, which the ledger's lease decides; the others find nothing.

    Args:
        reconcile: rings for what is pending; gives back how much that was.
        seconds: from one sweep to the next.
        housekeep: called about once a minute in a thread of its own, since it may take
            hours. It finds out itself what is due (``Ledger.turn`` tells one process
            of all), and comes to an end soon after what it is given says so.
        housekeeping_seconds: from one call of it to the next.
    """

    def __init__(
        self,
        reconcile: Callable[[], int],
        *,
        seconds: float,
        housekeep: Callable[[Stop], object] | None = None,
        housekeeping_seconds: float = HOUSEKEEPING_SECONDS,
    ) -> None:
        self._reconcile = reconcile
        self._seconds = seconds
        self._housekeep = housekeep
        self._housekeeping_seconds = housekeeping_seconds
        self._stopping = threading.Event()
        self._failing: set[str] = set()
        self._threads = [
            threading.Thread(target=self._sweep_often, name="reconciler", daemon=True)
        ]
        if housekeep is not None:
            self._threads.append(
                threading.Thread(
                    target=self._keep_house, name="housekeeping", daemon=True
                )
            )

    def start(self) -> None:
        """Start the threads; the first sweep is at once, to go on after a restart."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float = 1.0) -> None:
        """Begin nothing more, and wait a moment for what runs."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout)

    def _sweep_often(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            found = self._answered("pending work cannot be looked for", self._reconcile)
            if found:
                logger.info("rang again for %d pieces of work", found)
            # A long backlog, as after the loss of all Redis data, is rung faster than
            # workers do it, yet slowly enough for the ledger.
            is_long = found is not None and found >= LONG_SWEEP
            pause = self._seconds / 5 if is_long else self._seconds

    def _keep_house(self) -> None:
        housekeep = self._housekeep
        assert housekeep is not None
        # The first is not at once: a process that has just started has enough to do.
        while not self._stopping.wait(self._housekeeping_seconds):
            self._answered(
                "housekeeping has to wait", lambda: housekeep(self._stopping.is_set)
            )

    def _answered(self, trouble: str, call: Callable[[], T]) -> T | None:
        """What a call gives back; None if it failed, as the thread must go on."""
        try:
            answer = call()
        except LookalikeError as error:
            if trouble not in self._failing:  # one line for an outage, not one a sweep
                logger.warning("%s: %s", trouble, error.detail)
            self._failing.add(trouble)
            return None
        except Exception:  # this thread must outlive anything that a driver raises
            logger.exception("%s", trouble)
            return None
        self._failing.discard(trouble)
        return answer
