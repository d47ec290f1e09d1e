from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from flask import Flask, Response, request

from lookalike.webserver import WebServer, listen

MEGABYTE = 2**20


@pytest.fixture
def port() -> Iterator[int]:
    with listen("127.0.0.1", 0, exactly=True) as listener:
        server = WebServer(listener, application(), threads=4)
        server.start()
        yield listener.getsockname()[1]
        server.stop()


@pytest.fixture
def caller(port: int) -> Iterator[http.client.HTTPConnection]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as caller:
        yield caller


def application() -> Flask:
    app = Flask(__name__)

    @app.post("/refuse/<int:status>")
    def refuse(status: int) -> tuple[str, int]:
        return "no", status

    @app.post("/count")
    def count() -> dict[str, int]:
        return {"bytes": sum(map(len, iter(lambda: request.stream.read(65536), b"")))}

    @app.post("/lines")
    def lines() -> list[str]:
        return [line.decode() for line in request.stream]

    @app.post("/first-line")
    def first_line() -> bytes:
        return request.stream.readline()

    @app.get("/endless")
    def endless() -> Response:
        def tick() -> Iterator[str]:
            while True:
                yield "data: tick\n\n"
                time.sleep(0.05)

        return Response(tick(), mimetype="text/event-stream")

    return app


def chunked(*pieces: bytes) -> bytes:
    coded = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return coded + b"0\r\n\r\n"


def send_raw(port: int, path: str, body: bytes) -> tuple[int, bytes]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as caller:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        caller.sendall(head.encode() + body)
        answer = http.client.HTTPResponse(caller)
        answer.begin()
        return answer.status, answer.read()


@pytest.mark.parametrize("status", [400, 413])
@pytest.mark.parametrize("size", [1000, 5 * MEGABYTE, 60 * MEGABYTE])
def test_a_refused_upload_gets_its_answer(
    caller: http.client.HTTPConnection, status: int, size: int
) -> None:
    caller.request("POST", f"/refuse/{status}", bytes(size))

    answer = caller.getresponse()

    assert (answer.status, answer.read()) == (status, b"no")


def test_a_small_unread_body_keeps_the_connection(
    caller: http.client.HTTPConnection,
) -> None:
    for _ in range(3):
        caller.request("POST", "/refuse/400", bytes(1000))
        answer = caller.getresponse()
        answer.read()

        assert not answer.will_close


def test_an_answer_to_a_refused_upload_does_not_wait_for_its_end(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as caller:
        length = 50 * MEGABYTE
        head = f"POST /refuse/400 HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n"
        caller.sendall(head.encode() + b"\r\nonly the beginning")

        answer = http.client.HTTPResponse(caller)
        answer.begin()

        assert answer.status == 400
        assert answer.headers["Connection"] == "close"


def test_a_body_of_known_length_is_read_whole(
    caller: http.client.HTTPConnection,
) -> None:
    caller.request("POST", "/count", bytes(20 * MEGABYTE))

    assert json.load(caller.getresponse()) == {"bytes": 20 * MEGABYTE}


def test_a_chunked_body_is_read_whole(caller: http.client.HTTPConnection) -> None:
    pieces = (bytes(size) for size in (1, 100_000, 3 * MEGABYTE, 7))

    caller.request("POST", "/count", pieces, encode_chunked=True)

    assert json.load(caller.getresponse()) == {"bytes": 3 * MEGABYTE + 100_008}


def test_lines_are_lines_however_they_are_cut_into_chunks(port: int) -> None:
    status, answer = send_raw(port, "/lines", chunked(b"on", b"e\ntwo\nth", b"ree"))

    assert status == 200
    assert json.loads(answer) == ["one\n", "two\n", "three"]


def test_the_first_line_is_there_before_the_last_is_sent(port: int) -> None:
    beginning = chunked(b"first\n").removesuffix(b"0\r\n\r\n")

    status, answer = send_raw(port, "/first-line", beginning)

    assert (status, answer) == (200, b"first\n")


@pytest.mark.parametrize(
    "body", [b"zz\r\nhello\r\n", b"-5\r\nhello\r\n", b"3\r\nhello\r\n0\r\n\r\n"]
)
def test_a_malformed_chunk_ends_one_request_and_nothing_else(
    port: int, caller: http.client.HTTPConnection, body: bytes
) -> None:
    status, _ = send_raw(port, "/count", body)

    caller.request("POST", "/count", b"12345")
    assert json.load(caller.getresponse()) == {"bytes": 5}
    assert status >= 400


def test_an_open_stream_does_not_keep_the_server_from_stopping() -> None:
    with listen("127.0.0.1", 0, exactly=True) as listener:
        server = WebServer(listener, application(), threads=2)
        server.start()
        address = listener.getsockname()
        with socket.create_connection(address, timeout=10) as caller:
            caller.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
            assert caller.recv(10) == b"HTTP/1.1 2"
            started = time.monotonic()

            server.stop()

            assert time.monotonic() - started < 3
    assert threading.current_thread() is threading.main_thread()
