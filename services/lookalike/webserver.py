"""The HTTP server of ``lookalike up``: cheroot on a socket that listens already.

Unlike a server that stores each request before the application sees it, this one
hands over the body while it arrives: long uploads are worked on as they come, and
an upload that is refused is refused at once.
"""

from __future__ import annotations

import io
import socket
import threading
from typing import TYPE_CHECKING, Any

from cheroot.wsgi import Gateway_10, Server

from lookalike.bodies import drained
from lookalike.errors import Misconfigured

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from _typeshed.wsgi import WSGIApplication

PORTS_TO_TRY = 20
STOP_SECONDS = 2  # for requests that run when the server is stopped
IDLE_SECONDS = 30  # for a connection without a byte, between requests or inside one
MAX_HEADER_BYTES = 2**16


def listen(host: str, port: int, *, exactly: bool) -> socket.socket:
    """A listening socket on this port or, unless ``exactly``, one of the next 20.

    Raises:
        Misconfigured: no such port is free, or there is no such address here.
    """
    last = port if exactly or port == 0 else min(port + PORTS_TO_TRY, 65_535)
    for candidate in range(port, last):
        try:
            return _listen(host, candidate)
        except OSError:
            continue
    try:
        return _listen(host, last)
    except OSError as error:
        raise Misconfigured(
            f"Cannot listen on {host} port {last}: {error.strerror or error}. "
            "Give another --host or --port.",
            code="cannot_listen",
        ) from error


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        # Without it, a port stays taken for a minute after a restart.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


class WebServer:
    """Answers what comes to a listening socket with an application, until stopped."""

    def __init__(
        self, listener: socket.socket, app: WSGIApplication, *, threads: int
    ) -> None:
        self._server = _Server(listener, drained(app), threads)
        # Threads made by a daemon thread are daemons: no stream of events that is
        # still open can keep the process from ending.
        self._thread = threading.Thread(target=self._serve, name="http", daemon=True)

    def start(self) -> None:
        """Start to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Take no new request, and give those that run two seconds to end."""
        # In a thread, since it waits for ever for a view that does not end.
        stopping = threading.Thread(target=self._server.stop, daemon=True)
        stopping.start()
        stopping.join(STOP_SECONDS)

    def _serve(self) -> None:
        self._server.prepare()
        self._server.serve()


class _Server(Server):
    """Cheroot on a socket that is bound already."""

    def __init__(
        self, listener: socket.socket, app: WSGIApplication, threads: int
    ) -> None:
        super().__init__(
            listener.getsockname()[:2],
            app,
            numthreads=threads,
            max=threads,
            timeout=IDLE_SECONDS,
            shutdown_timeout=STOP_SECONDS,
            request_queue_size=128,
        )
        self.gateway = _Gateway
        self.max_request_header_size = MAX_HEADER_BYTES
        self._listener = listener

    def bind(self, family: int, type: int, proto: int = 0) -> socket.socket:
        """Take the socket that is there, whatever the address resolves to."""
        self.socket = self._listener
        return self._listener


class _Gateway(Gateway_10):
    """Cheroot's gateway, with chunked bodies and closing done by the book."""

    def get_environ(self) -> Any:
        """The environment of the request."""
        environ = super().get_environ()  # type: ignore[no-untyped-call]
        if self.req.chunked_read:
            # Cheroot's own reader holds a whole chunk in memory, however long, and
            # its readline never ends.
            chunks = _Chunks(self.req.conn.rfile)
            environ["wsgi.input"] = io.BufferedReader(chunks, 2**16)
        return environ

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Any:
        """Note the answer's head; ``Connection: close`` does close."""
        write = super().start_response(status, headers, exc_info)
        if ("Connection", "close") in headers:
            # Otherwise cheroot reads the rest of the body into memory at once.
            self.req.close_connection = True
        return write


class _Chunks(io.RawIOBase):
    """The bytes of a body in chunked transfer coding."""

    def __init__(self, source: io.BufferedReader) -> None:
        self._source = source
        self._left: int = 0  # of this chunk
        self._has_ended = False

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill the buffer from one chunk; 0 at the end."""
        if self._left == 0 and not self._has_ended:
            self._next_chunk()
        if self._has_ended:
            return 0
        view = memoryview(buffer)
        data = self._source.read(min(len(view), self._left))
        if not data:
            raise ConnectionError("the caller went away in the middle of the body")
        view[: len(data)] = data
        self._left -= len(data)
        if self._left == 0 and self._source.read(2) != b"\r\n":
            raise ValueError("a chunk of the body is longer than it says")
        return len(data)

    def _next_chunk(self) -> None:
        size = self._source.readline(1024).split(b";")[0].strip()
        self._left = int(size, 16)
        if self._left < 0:
            raise ValueError("a chunk of the body has a negative length")
        if self._left == 0:
            self._has_ended = True
            # Trailers mean nothing here; they end with an empty line.
            while self._source.readline(MAX_HEADER_BYTES).strip():
                pass
