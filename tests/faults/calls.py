"""How long calls took, and which were answered later than they may be."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import numpy as np

# The longest that a call may take, in seconds, whatever is broken. A write waits for
# the database at most 30 s (for its turn, or for a lock); a search waits 2 s for Milvus
# and 5 s for Triton, and then says what is missing.
DEADLINES = {"put": 30.0, "delete": 30.0, "patch": 30.0, "search": 10.0, "read": 30.0}
GRACE = 1.0


@dataclass
class Call:
    """One call: when it began, how long it took, and how it was answered."""

    kind: str
    began: float
    took: float = 0.0
    status: int = 0
    code: str = ""

    def answered(self, answer: httpx.Response) -> None:
        """Note an answer."""
        self.status = answer.status_code
        if answer.status_code >= 400:
            try:
                self.code = str(answer.json()["code"])
            except (ValueError, KeyError):
                self.code = ""

    def is_late(self, outages: Sequence[tuple[float, float]]) -> bool:
        """Whether it took longer than it may, while there was anyone to answer it.

        A server that starts takes connections long before it can answer them.
        """
        ended = self.began + self.took
        nobody = sum(
            max(0.0, min(ended, until) - max(self.began, since))
            for since, until in outages
        )
        return self.took - nobody > DEADLINES[self.kind] + GRACE

    @property
    def is_unclear(self) -> bool:
        """Whether it was an error without a stable code."""
        return self.status >= 400 and self.code in ("", "internal_error")


@dataclass
class Calls:
    """Every call of every client. For any number of threads."""

    made: list[Call] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def timed(self, kind: str) -> Iterator[Call]:
        """Time a call, however it ends."""
        call = Call(kind, time.monotonic())
        try:
            yield call
        finally:
            call.took = time.monotonic() - call.began
            with self._lock:
                self.made.append(call)

    def late(self, outages: Sequence[tuple[float, float]] = ()) -> list[Call]:
        """Calls past their deadline and the grace, but for the API's own outages."""
        return [call for call in self._all() if call.is_late(outages)]

    def unclear(self) -> list[Call]:
        """Errors without a stable code."""
        return [call for call in self._all() if call.is_unclear]

    def answers(self, kind: str) -> Counter[int]:
        """How often each status was the answer; 0 stands for none."""
        return Counter(call.status for call in self._all() if call.kind == kind)

    def milliseconds(
        self,
        kind: str,
        *percentiles: float,
        status: int | None = None,
        since: float = 0.0,
        until: float = float("inf"),
    ) -> list[float]:
        """Percentiles of how long calls took that were answered; none if none were."""
        took = [
            call.took * 1000
            for call in self._all()
            if call.kind == kind
            and (call.status == status if status is not None else call.status)
            and since <= call.began < until
        ]
        return (
            [float(value) for value in np.percentile(took, percentiles)] if took else []
        )

    def _all(self) -> list[Call]:
        with self._lock:
            return list(self.made)
