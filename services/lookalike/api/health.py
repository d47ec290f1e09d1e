"""Health: whether the process answers, and whether every part really works."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Literal

import numpy as np
from flask import Blueprint, Response, current_app

from lookalike.api.context import team
from lookalike.api.errors import problem
from lookalike.api.operations import operation, tell
from lookalike.api.schemas import Alive, Part, Readiness
from lookalike.bootstrap import Backends
from lookalike.collections import Collection, CollectionUid, Metric, Team
from lookalike.errors import LedgerUnavailable, LookalikeError, Unavailable

bp = Blueprint("health", __name__)

EXTENSION = "lookalike.readiness"
CACHE_SECONDS = 1.0
NO_STORE = {"Cache-Control": "no-store"}


class Probe:
    """Tries every part, at most once a second however many ask."""

    def __init__(
        self, parts: Backends, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._parts = parts
        self._clock = clock
        self._lock = threading.Lock()
        self._known: Readiness | None = None
        self._until = 0.0
        self._searched: Collection | None = None

    def readiness(self, whose: Team) -> Readiness:
        """The state of every part, at most a second old.

        While one caller tries, others get what was known before: a part that hangs
        would otherwise hold up one thread after the other.
        """
        known = self._known
        if known is not None and self._clock() < self._until:
            return known
        if not self._lock.acquire(blocking=known is None):
            assert known is not None
            return known
        try:
            if self._known is None or self._clock() >= self._until:
                self._known = self._try_all(whose)
                self._until = self._clock() + CACHE_SECONDS
            return self._known
        finally:
            self._lock.release()

    def _try_all(self, whose: Team) -> Readiness:
        attempts: dict[str, Callable[[], object]] = {
            "ledger": self._parts.ledger.check,
            "storage": lambda: self._parts.blobs.check(whose),
            "queue": self._parts.queue.check,
            "embedder": self._embed,
            "index": lambda: self._search(whose),
        }
        # Side by side: several that hang take no longer than one.
        with ThreadPoolExecutor(len(attempts)) as pool:
            tried = dict(zip(attempts, pool.map(_try, attempts.values()), strict=True))
        return _judged(tried)

    def _embed(self) -> None:
        side = self._parts.embedder.geometry.side
        self._parts.embedder.embed(_picture(side))

    def _search(self, whose: Team) -> None:
        index = self._parts.index
        vector = np.zeros(self._parts.backbone.dimension, np.float32)
        vector[0] = 1.0
        index.search(self._searchable(whose), vector, 1)

    def _searchable(self, whose: Team) -> Collection:
        """A collection that users search in, or an empty one before there is any."""
        runs = self._parts.backbone.fingerprint
        try:
            found = self._parts.ledger.collections(whose)
        except LedgerUnavailable:  # that is for the ledger's own line to say
            found = [] if self._searched is None else [self._searched]
        for each in found:
            if each.fingerprint == runs:
                self._searched = each
                return each
        empty = Collection(
            uid=CollectionUid(f"readiness{self._parts.backbone.dimension}"),
            team=whose,
            name="readiness",
            fields={},
            backbone=self._parts.backbone.name,
            fingerprint=runs,
            dimension=self._parts.backbone.dimension,
            metric=Metric.COSINE,
            created_at=datetime.now(UTC),
        )
        self._parts.index.create(empty)
        return empty


def _picture(side: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """One square that is not uniform, since that can embed to nothing."""
    ramp = np.linspace(0, 255, side, dtype=np.uint8)
    square = np.stack([np.add.outer(ramp // 2, ramp // 2)] * 3, axis=-1)
    return square[np.newaxis]


def _try(attempt: Callable[[], object]) -> Part:
    started = time.perf_counter()
    error: LookalikeError | None = None
    try:
        attempt()
    except LookalikeError as raised:
        error = raised
    took = round((time.perf_counter() - started) * 1000, 3)
    if error is None:
        return Part(ok=True, took_ms=took)
    return Part(ok=False, took_ms=took, code=error.code, detail=error.detail)


def _judged(parts: dict[str, Part]) -> Readiness:
    """What the state of the parts means for those who call."""

    def work(*names: str) -> bool:
        return all(parts[name].ok for name in names)

    # The queue is not needed to take images in: the ledger keeps their work.
    ingests = work("ledger", "storage")
    searches = work("ledger", "embedder", "index")
    ready = work(*parts)
    status: Literal["ready", "degraded", "down"] = "degraded" if not ready else "ready"
    if not (ingests or searches):
        status = "down"
    return Readiness(
        status=status, ready=ready, ingests=ingests, searches=searches, parts=parts
    )


@bp.get("/healthz")
@operation("Is the process alive?", "health", {200: Alive})
def get_health() -> Response:
    """The process answers; says nothing about its parts."""
    return tell(Alive(), headers=NO_STORE)


@bp.get("/readyz")
@operation("Does every part work?", "health", {200: Readiness}, raises=(Unavailable,))
def get_readiness() -> Response:
    """Tries every part; 503 only when neither ingestion nor search can work.

    While a part is away that only some calls need, the others go on: `status` is then
    `degraded`, the answer 200, and `ingests` and `searches` say which calls work.
    """
    probe: Probe = current_app.extensions[EXTENSION]
    found = probe.readiness(team())
    if found.status != "down":
        return tell(found, headers=NO_STORE)
    broken = [name for name, part in found.parts.items() if not part.ok]
    return problem(
        503,
        "not_ready",
        f"Not working: {', '.join(broken)}.",
        retryable=True,
        extra=found.model_dump(exclude={"status"}),
    )
