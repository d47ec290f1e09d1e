"""T15: clients leave in the middle of their uploads, at every tenth of them."""

from __future__ import annotations

import contextlib
import random
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from sqlalchemy import text

from faults import records
from faults.acks import Item
from faults.clients import COLLECTION, upload
from faults.platforms import Platform, single
from faults.reports import Report
from faults.trials import Options

NAME = "T15"
TRIES = 1_000
AT_ONCE = 16
IMAGES = 20
ROWS = text("SELECT count(*) FROM image")
LIMIT = 60.0


def run(options: Options) -> Report:
    """No row and no file is left, and no thread is held."""
    began = time.monotonic()
    report = Report(NAME, options.seed)
    tries = options.some(TRIES, least=50)
    with single(options.folder) as platform:
        generator = random.Random(options.seed)
        cuts = [(n, (n % 10 + generator.random()) / 10) for n in range(tries)]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda cut: leave(platform, *cut), cuts))
        until = time.monotonic() + LIMIT
        while _left(platform) and time.monotonic() < until:
            time.sleep(0.2)
        rows = records.number(platform.database, ROWS)
        left = _left(platform)
        asked = time.monotonic()
        answer = _honest(platform)
        # The server may still hold places for those whose going it has not noticed.
        while answer.status_code == 429 and time.monotonic() < asked + LIMIT:
            time.sleep(0.2)
            answer = _honest(platform)
        took = time.monotonic() - asked
    report.figures = {
        "disconnects": tries,
        "files left": len(left),
        "rows left": rows,
        "honest request after, s": round(took, 2),
    }
    if rows or left or answer.status_code != 202:
        report.breaches.append(f"T15: {report.figures}, then {answer.status_code}")
    report.seconds = time.monotonic() - began
    return report


def leave(platform: Platform, number: int, share: float) -> None:
    """Send a share of a request, and hang up."""
    where = urlsplit(platform.url)
    items = [Item(f"left-{number}-{n}", 1) for n in range(IMAGES)]
    request = httpx.Request(
        "POST", f"{platform.url}/v1/collections/{COLLECTION}/images", **upload(items)
    )
    lines = [f"POST {request.url.path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    head = "\r\n".join([*lines, "", ""]).encode()
    body = request.read()
    with contextlib.suppress(OSError):
        address = (str(where.hostname), int(where.port or 0))
        with socket.create_connection(address, timeout=30) as connection:
            connection.sendall(head + body[: int(len(body) * share)])


def _honest(platform: Platform) -> httpx.Response:
    """A whole request."""
    return httpx.post(
        f"{platform.url}/v1/collections/{COLLECTION}/images",
        timeout=60,
        **upload([Item("honest", 1)]),
    )


def _left(platform: Platform) -> list[Path]:
    return [path for path in platform.originals.glob("*/*/*") if path.is_file()]
