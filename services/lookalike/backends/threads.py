"""The work queue inside one process: threads, and nothing to install."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from itertools import islice

from lookalike.errors import Unavailable
from lookalike.interfaces import WorkId

logger = logging.getLogger(__name__)

Handler = Callable[[Sequence[WorkId]], None]


class ThreadQueue:
    """A ``JobQueue`` whose workers are daemon threads of this process.

    Decoding and inference let go of the interpreter lock, so threads use every core.
    Each call of ``handle`` gets at most ``chunk_images`` ids. Its errors are logged and
    end nothing: the ledger still knows the work, and the reconciler rings again.
    """

    def __init__(self, handle: Handler, *, workers: int, chunk_images: int) -> None:
        self._handle = handle
        self._chunk_images = chunk_images
        # An ordered set: the reconciler may ring again for what still waits here.
        self._waiting: dict[WorkId, None] = {}
        self._changed = threading.Condition()
        self._idle = 0
        self._is_closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"worker-{number}", daemon=True)
            for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def ring(self, work: Sequence[WorkId]) -> None:
        """Let idle workers share this work; those that are busy take it later."""
        with self._changed:
            self._waiting.update(dict.fromkeys(work))
            self._changed.notify_all()

    def check(self) -> None:
        """Return if there are workers.

        Raises:
            Unavailable: code ``queue_unavailable``: it was closed.
        """
        if not any(thread.is_alive() for thread in self._threads):
            raise Unavailable("No worker runs any more.", code="queue_unavailable")

    def close(self, timeout: float = 5.0) -> None:
        """Start nothing more and wait for what runs, at most ``timeout`` seconds.

        What still waits stays pending in the ledger and is done after a restart.
        """
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        running = sum(thread.is_alive() for thread in self._threads)
        if running:
            logger.warning("%d chunks did not end in %.0f s", running, timeout)

    def _work(self) -> None:
        while chunk := self._take():
            try:
                self._handle(chunk)
            except Exception:  # MemoryError too: one chunk must not end a worker
                logger.exception("a chunk of %d images ended in an error", len(chunk))

    def _take(self) -> list[WorkId]:
        """The next chunk; empty when the queue was closed."""
        with self._changed:
            self._idle += 1
            while not self._waiting and not self._is_closed:
                self._changed.wait()
            # An even share among the idle: 32 images on two idle workers are two
            # chunks of 16, but nothing is cut small while the others are busy.
            share = -(-len(self._waiting) // self._idle)
            self._idle -= 1
            if self._is_closed:
                return []
            chunk = list(islice(self._waiting, min(share, self._chunk_images)))
            for work in chunk:
                del self._waiting[work]
            return chunk
