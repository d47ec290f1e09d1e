"""T16: broken image files through the real API; nothing may crash or hang.

    PYTHONPATH=tests python -m faults.malformed --count 10000 --seed 0

Each file is sent twice: to be ingested, and as the picture of a search. The first
answers 4xx, or an item that ends with a stable code; the second 4xx or matches.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from malformed import Specimen, specimens
from servers.processes import Process, running_up

KNOWN_CODES = frozenset(
    (
        *("image_empty", "image_unsupported", "image_truncated"),
        *("image_broken", "image_too_large", "bad_embedding", "no_images"),
    )
)
SENDERS = 4
END_SECONDS = 300.0
REQUEST_SECONDS = 60.0


@dataclass
class Outcome:
    """What became of all the files."""

    sent: int = 0
    done: int = 0  # turned out whole
    failed: int = 0  # accepted, and failed later
    crashes: int = 0
    server_errors: list[str] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)
    milliseconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0

    def slowest(self, share: float) -> float:
        """Milliseconds within which that share of the requests was answered."""
        ordered = sorted(self.milliseconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]

    @property
    def is_good(self) -> bool:
        """Whether it went as it must."""
        bad = self.crashes or self.server_errors or self.surprises
        return not bad and set(self.codes) <= KNOWN_CODES

    def __str__(self) -> str:
        codes = ", ".join(f"{code} {n}" for code, n in self.codes.most_common())
        lines = [
            f"{self.sent} files sent, {self.done} whole, {self.failed} failed later",
            f"crashes {self.crashes}, answers in 5xx {len(self.server_errors)}, "
            f"others that should not be {len(self.surprises)}",
            f"codes: {codes}",
            f"requests p50 {self.slowest(0.5):.0f} ms, "
            f"p99 {self.slowest(0.99):.0f} ms, slowest {self.slowest(1):.0f} ms",
            f"peak resident memory of the server {self.peak_bytes / 1e6:.0f} MB",
        ]
        return "\n".join([*lines, *self.server_errors[:20], *self.surprises[:20]])


def run(process: Process, address: str, count: int, seed: int = 0) -> Outcome:
    """Send so many broken files to a server that has just started."""
    return _Run(process, address).of(count, seed)


class _Run:
    def __init__(self, process: Process, address: str) -> None:
        self._process = process
        self._outcome = Outcome()
        self._lock = threading.Lock()
        self._api = httpx.Client(base_url=address, timeout=REQUEST_SECONDS)

    def of(self, count: int, seed: int) -> Outcome:
        with self._api:
            made = self._api.post("/v1/collections", json={"name": "broken"})
            made.raise_for_status()
            with ThreadPoolExecutor(SENDERS) as pool:
                for _ in pool.map(self._send, specimens(count, seed)):
                    pass
            self._wait_for_the_end()
            self._count_failures()
        outcome = self._outcome
        outcome.crashes += not self._process.is_running
        outcome.peak_bytes = _peak(self._process.pid) if not outcome.crashes else 0
        return outcome

    def _send(self, specimen: Specimen) -> None:
        broken = "/v1/collections/broken"
        self._post(specimen, f"{broken}/images?id={specimen.number}", accepted=202)
        self._post(specimen, f"{broken}/search", accepted=200)
        with self._lock:
            self._outcome.sent += 1

    def _post(self, specimen: Specimen, path: str, accepted: int) -> None:
        started = time.perf_counter()
        try:
            answer = self._api.post(
                path, content=specimen.data, headers={"Content-Type": "image/jpeg"}
            )
        except httpx.HTTPError as error:
            with self._lock:
                self._outcome.surprises.append(f"{_named(specimen)}: {error!r}")
            return
        taken = (time.perf_counter() - started) * 1000
        with self._lock:
            self._outcome.milliseconds.append(taken)
            self._judge(specimen, answer, accepted)

    def _judge(self, specimen: Specimen, answer: httpx.Response, accepted: int) -> None:
        if answer.status_code == accepted:
            return
        told = f"{_named(specimen)}: {answer.status_code} {answer.text[:200]}"
        if answer.status_code >= 500:
            self._outcome.server_errors.append(told)
        elif answer.status_code >= 400:
            self._outcome.codes[answer.json()["code"]] += 1
        else:
            self._outcome.surprises.append(told)

    def _wait_for_the_end(self) -> None:
        deadline = time.monotonic() + END_SECONDS
        while self._process.is_running and self._counts()["pending"]:
            if time.monotonic() > deadline:
                self._outcome.surprises.append("images are pending at the end")
                return
            time.sleep(0.2)

    def _counts(self) -> Mapping[str, int]:
        counts: Mapping[str, int] = self._get("/v1/collections/broken")["counts"]
        return counts

    def _count_failures(self) -> None:
        if not self._process.is_running:
            return
        counts = self._counts()
        self._outcome.done, self._outcome.failed = counts["indexed"], counts["failed"]
        for job in self._pages("/v1/jobs", "jobs"):
            if job["failed"]:
                for failure in self._pages(
                    f"/v1/jobs/{job['id']}/failures", "failures"
                ):
                    self._outcome.codes[failure["code"]] += 1

    def _pages(self, path: str, key: str) -> list[Any]:
        found: list[Any] = []
        cursor = ""
        while True:
            page = self._get(f"{path}?limit=1000{cursor}")
            found += page[key]
            if page["next_cursor"] is None:
                return found
            cursor = f"&cursor={page['next_cursor']}"

    def _get(self, path: str) -> Any:
        answer = self._api.get(path)
        answer.raise_for_status()
        return answer.json()


def _named(specimen: Specimen) -> str:
    return f"#{specimen.number} ({specimen.name})"


def _peak(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return 0


def main() -> int:
    """Exit status 0 if nothing crashed and every answer was as it must be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        running_up(Path(folder)) as (process, address),
    ):
        started = time.monotonic()
        outcome = run(process, address, asked.count, asked.seed)
        taken = time.monotonic() - started
    print(f"seed {asked.seed}, {taken:.0f} s\n{outcome}")
    return 0 if outcome.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
