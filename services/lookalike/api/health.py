"""Health: whether the process answers, and whether every part really works."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
from flask import Blueprint, Response, current_app

from lookalike.api.context import team
from lookalike.api.errors import problem
from lookalike.api.operations import operation, tell
from lookalike.api.schemas import Alive, Part, Readiness
from lookalike.bootstrap import Backends
from lookalike.collections import Collection, CollectionUid, Metric, Team
from lookalike.errors import LookalikeError, Unavailable

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

    def readiness(self, whose: Team) -> Readiness:
        """The state of every part, at most a second old."""
        with self._lock:
            if self._known is None or self._clock() >= self._until:
                self._known = self._try_all(whose)
                self._until = self._clock() + CACHE_SECONDS
            return self._known

    def _try_all(self, whose: Team) -> Readiness:
        tried = {
            "ledger": _try(self._parts.ledger.check),
            "storage": _try(lambda: self._parts.blobs.check(whose)),
            "embedder": _try(self._embed),
            "index": _try(lambda: self._search(whose)),
        }
        return Readiness(ready=all(part.ok for part in tried.values()), parts=tried)

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
        for found in self._parts.ledger.collections(whose):
            if found.fingerprint == runs:
                return found
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


@bp.get("/healthz")
@operation("Is the process alive?", "health", {200: Alive})
def get_health() -> Response:
    """The process answers; says nothing about its parts."""
    return tell(Alive(), headers=NO_STORE)


@bp.get("/readyz")
@operation("Does every part work?", "health", {200: Readiness}, raises=(Unavailable,))
def get_readiness() -> Response:
    """Embeds a picture, searches the index, writes to the ledger and to storage."""
    probe: Probe = current_app.extensions[EXTENSION]
    found = probe.readiness(team())
    if found.ready:
        return tell(found, headers=NO_STORE)
    broken = [name for name, part in found.parts.items() if not part.ok]
    return problem(
        503,
        "not_ready",
        f"Not working: {', '.join(broken)}.",
        retryable=True,
        extra=found.model_dump(),
    )
