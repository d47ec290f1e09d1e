"""Readers beside the clients: they search, and look for what must never be seen."""

from __future__ import annotations

import random
import threading
import time

import httpx

from faults import specimens
from faults.calls import Calls
from faults.clients import COLLECTION, PATIENCE, Gone

COUNTERS = ("done", "unchanged", "failed", "superseded")


class Searcher(threading.Thread):
    """Searches for what was deleted last.

    Attributes:
        stale: matches whose deletion was acknowledged before the search began.
        answered: when the last search began that was answered.
    """

    def __init__(
        self, url: str, seed: int, calls: Calls, gone: Gone, pause: float = 0.2
    ) -> None:
        super().__init__(name="searcher", daemon=True)
        self._http = httpx.Client(base_url=url, timeout=PATIENCE)
        self._random = random.Random(seed)
        self._calls = calls
        self._gone = gone
        self._pause = pause
        self._stopping = threading.Event()
        self.stale: list[str] = []
        self.answered = 0.0
        self.searches = 0

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        while not self._stopping.wait(self._pause):
            began = time.monotonic()
            try:
                matches = self._search()
            except httpx.TransportError:
                continue
            if matches is not None:
                self.answered = began
                self.searches += 1
                self.stale += sorted(self._gone.before(began) & matches)

    def _search(self) -> set[str] | None:
        """The ids that were found; none if there was an error."""
        with self._calls.timed("search") as call:
            answer = self._http.post(
                f"/v1/collections/{COLLECTION}/search?limit=200",
                content=self._query(),
                headers={"Content-Type": "image/png"},
            )
            call.answered(answer)
        if answer.status_code != 200:
            return None
        return {match["id"] for match in answer.json()["matches"]}

    def _query(self) -> bytes:
        deleted = self._gone.newest()
        if deleted is None or self._random.random() < 0.2:
            return specimens.picture(self._random.randrange(specimens.PALETTE))
        return specimens.picture(specimens.number_of(deleted, 1))


class Counter(threading.Thread):
    """Watches the newest jobs: counters only go up, and never past the total.

    Attributes:
        wrong: what was seen that must not be.
    """

    def __init__(self, url: str, calls: Calls, pause: float = 1.0) -> None:
        super().__init__(name="counter", daemon=True)
        self._http = httpx.Client(base_url=url, timeout=PATIENCE)
        self._calls = calls
        self._pause = pause
        self._stopping = threading.Event()
        self._seen: dict[str, dict[str, int]] = {}
        self.wrong: list[str] = []

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        while not self._stopping.wait(self._pause):
            try:
                with self._calls.timed("read") as call:
                    answer = self._http.get("/v1/jobs?limit=100")
                    call.answered(answer)
            except httpx.TransportError:
                continue
            if answer.status_code == 200:
                for job in answer.json()["jobs"]:
                    self._look(job)

    def _look(self, job: dict[str, int]) -> None:
        name = str(job["id"])
        before = self._seen.get(name, {})
        if any(job[each] < before.get(each, 0) for each in COUNTERS):
            self.wrong.append(f"a counter of job {name} went down: {before} -> {job}")
        if sum(job[each] for each in COUNTERS) > job["total"]:
            self.wrong.append(f"job {name} counts more than its total: {job}")
        self._seen[name] = {each: job[each] for each in COUNTERS}
