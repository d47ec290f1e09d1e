"""A web server that hands out one file, resumes it, and fails as it is told to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """What is handed out, how, and what was asked for.

    Attributes:
        content: the bytes of the file, whatever its name.
        cuts: for each answer to come, after how many bytes the connection breaks.
        statuses: for each answer to come, a status in place of the file.
        has_ranges: whether a part can be asked for.
        asked: the ``Range`` of each request; empty for the whole file.
    """

    content: bytes
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    has_ranges: bool = True
    asked: list[str] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(content: bytes) -> Iterator[FileServer]:
    """A running file server; ``url`` is the address of its folder."""
    state = FileServer(content)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            state.asked.append(wanted)
            if state.statuses:
                self.send_error(state.statuses.pop(0))
                return
            start = 0
            if wanted and state.has_ranges:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            self._answer(start, is_part=bool(wanted) and state.has_ranges)

        def _answer(self, start: int, *, is_part: bool) -> None:
            size = len(state.content)
            if start >= size:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{size}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if is_part else 200)
            if is_part:
                self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
            self.send_header("Content-Length", str(size - start))
            self.end_headers()
            body = state.content[start:]
            if state.cuts:
                body = body[: state.cuts.pop(0)]
                self.close_connection = True
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        state.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
