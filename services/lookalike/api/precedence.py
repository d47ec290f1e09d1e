"""Who goes first inside one process: searches, which somebody waits for."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from lookalike.errors import Overloaded

LONGEST_SECONDS = 0.025
AT_ONCE = 2  # images of uploads handled at once: one waits for the disk, one computes


class Precedence:
    """Keeps uploads from slowing down the searches of the same process.

    Threads of one process take turns at running Python. So few images of uploads are
    handled at once, each lets running searches end first (for a moment, so that
    uploads go on under any load), and some threads of the server never serve uploads.

    Args:
        uploads: most uploads at once.
        longest_seconds: an image of an upload gives way for so long at most.
    """

    def __init__(
        self, uploads: int, *, longest_seconds: float = LONGEST_SECONDS
    ) -> None:
        self._longest_seconds = longest_seconds
        self._uploads = threading.BoundedSemaphore(uploads)
        self._turns = threading.BoundedSemaphore(AT_ONCE)
        self._changed = threading.Condition()
        self._searches = 0

    @contextlib.contextmanager
    def searching(self) -> Iterator[None]:
        """Around a search whose request was read: uploads give way."""
        with self._changed:
            self._searches += 1
        try:
            yield
        finally:
            with self._changed:
                self._searches -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def uploading(self) -> Iterator[None]:
        """Around an upload, from before its body is read.

        Raises:
            Overloaded: code ``too_many_uploads``; as many are being read as may.
        """
        if not self._uploads.acquire(blocking=False):
            raise Overloaded(
                "Too many uploads are being read at this moment. Send this request "
                "again in a moment.",
                code="too_many_uploads",
            )
        try:
            yield
        finally:
            self._uploads.release()

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Around the handling of one image of an upload, not its arrival."""
        with self._changed:
            self._changed.wait_for(lambda: not self._searches, self._longest_seconds)
        with self._turns:
            yield
