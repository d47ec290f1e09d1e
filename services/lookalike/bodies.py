"""Request bodies that a view leaves unread, and what becomes of them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

PIECE = 64 * 2**10  # bytes
DRAIN_SECONDS = 5.0
DRAIN_BYTES = 2**30


def drained(app: WSGIApplication) -> WSGIApplication:
    """The application, with a defined end for bodies that it does not read.

    A view that refuses an upload answers before the caller has sent all of it. Closing
    then resets the connection, and the caller may never see why; reading on without
    end lets anyone keep a thread. So the answer goes out at once, and the rest is read
    and forgotten, up to a limit, before the connection is closed.
    """

    def answer(
        environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        body = Body(environ)
        environ["wsgi.input"] = body

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            if body.left is not None and body.left <= PIECE:
                body.skip(PIECE)  # cheaper than another connection
            if body.left != 0:
                headers = [*headers, ("Connection", "close")]
            return start_response(status, headers, *more)

        return _Answer(app(environ, start), body)

    return answer


class _Answer:
    """What the application answers; afterwards the body is drained."""

    def __init__(self, pieces: Iterable[bytes], body: Body) -> None:
        self._pieces = pieces
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)

    def close(self) -> None:
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()
        self._body.skip(DRAIN_BYTES)


class Body:
    """The body of a request, which knows how much of it was not read yet."""

    def __init__(self, environ: WSGIEnvironment) -> None:
        self._source: Any = environ["wsgi.input"]
        self.left = _length(environ)  # None: only its end tells

    def read(self, size: int | None = -1) -> bytes:
        """Up to ``size`` bytes; all that is left if that is negative or None."""
        if size is None or size < 0:
            data = self._all()
        else:
            data = self._source.read(self._at_most(size))
        return self._counted(data, size)

    def readline(self, size: int | None = -1) -> bytes:
        """The rest of this line, but at most ``size`` bytes."""
        limit = self.left if size is None or size < 0 else self._at_most(size)
        read = self._source.readline
        return self._counted(read() if limit is None else read(limit), size)

    def readlines(self, hint: int | None = -1) -> list[bytes]:
        """All lines that are left."""
        return list(self)

    def __iter__(self) -> Iterator[bytes]:
        while line := self.readline():
            yield line

    def skip(self, limit: int) -> None:
        """Read and forget what is left, up to a number of bytes and 5 seconds."""
        deadline = time.monotonic() + DRAIN_SECONDS
        # Whatever a broken-off or malformed body raises, the answer is out already.
        with contextlib.suppress(Exception):
            while self.left != 0 and limit > 0 and time.monotonic() < deadline:
                limit -= len(self.read(min(limit, PIECE)))

    def _all(self) -> bytes:
        data: bytes = (
            self._source.read() if self.left is None else self._source.read(self.left)
        )
        self.left = len(data)  # what follows is the end
        return data

    def _at_most(self, size: int) -> int:
        return size if self.left is None else min(size, self.left)

    def _counted(self, data: bytes, size: int | None) -> bytes:
        if not data and size != 0:
            self.left = 0
        elif self.left is not None:
            self.left -= len(data)
        return data


def _length(environ: WSGIEnvironment) -> int | None:
    if environ.get("wsgi.input_terminated"):
        return None
    try:
        return max(0, int(environ.get("CONTENT_LENGTH") or 0))
    except ValueError:
        return 0
