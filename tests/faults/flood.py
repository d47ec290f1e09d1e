"""A flood of images at a fixed rate, whatever the answers are.

A program of its own, so that what it costs is not in what others measure:
``python -m faults.flood URL RATE SECONDS NAME LOG``. It writes its ack log to LOG, and
prints every call it made as a line of JSON.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import httpx

from faults.acks import AckLog, Item, Operation
from faults.calls import Call, Calls
from faults.clients import COLLECTION, upload

BATCH = 50
AT_ONCE = 48


class Flood:
    """Another process that floods; ``calls`` and the log are complete after ``end``."""

    def __init__(
        self, url: str, rate: float, seconds: float, name: str, folder: Path
    ) -> None:
        self.log = folder / f"{name}.jsonl"
        self._calls = folder / f"{name}.calls"
        command = [sys.executable, "-m", "faults.flood", url, str(rate), str(seconds)]
        paths = [os.environ.get("PYTHONPATH", ""), str(Path(__file__).parents[1])]
        with self._calls.open("wb") as calls:
            self._process = subprocess.Popen(
                [*command, name, str(self.log)],
                stdout=calls,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(filter(None, paths)),
                },
            )

    def end(self, log: AckLog, calls: Calls) -> None:
        """Wait for its end, and take in what it noted."""
        status = self._process.wait()
        assert status == 0, f"the flood ended with {status}"
        log.adopt(self.log)
        told = self._calls.read_text().splitlines()
        calls.made.extend(Call(**json.loads(line)) for line in told)


def main(url: str, rate: str, seconds: str, name: str, log: str) -> None:
    """Flood; what cannot be sent in time is not made up for."""
    http = httpx.Client(
        base_url=url, timeout=75, limits=httpx.Limits(max_connections=AT_ONCE)
    )
    acks, calls = AckLog(Path(log)), Calls()
    began = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as pool, http:
        for number in itertools.count():
            now = time.monotonic() - began
            if now >= float(seconds):
                break
            pool.submit(_send, http, acks, calls, f"{name}-{number}")
            time.sleep(max(0.0, (number + 1) / float(rate) - now))
        pool.shutdown(cancel_futures=True)
    for call in calls.made:
        print(json.dumps(asdict(call)))


def _send(http: httpx.Client, log: AckLog, calls: Calls, name: str) -> None:
    items = tuple(Item(f"{name}-{n}", 1, n) for n in range(BATCH))
    operation = Operation("put", name, items)
    tried = log.tried(operation)
    try:
        with calls.timed("put") as call:
            answer = http.post(
                f"/v1/collections/{COLLECTION}/images",
                headers={"Idempotency-Key": operation.key},
                **upload(items),
            )
            call.answered(answer)
    except httpx.TransportError as error:
        call.code = type(error).__name__
        log.noted("late", tried, detail=call.code)
        return
    if answer.status_code == 202:
        log.noted("ack", tried, status=202, job=answer.json()["job"]["id"])
    else:
        log.noted("refused", tried, status=answer.status_code)


if __name__ == "__main__":
    main(*sys.argv[1:6])
