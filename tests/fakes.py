"""The core's interfaces, in memory. ``tests/contract`` proves the index."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lookalike.collections import Collection, CollectionUid, IndexKind, Metric
from lookalike.errors import BadEmbedding, IndexUnavailable, Unavailable
from lookalike.filters import Filter, matches
from lookalike.images import Geometry
from lookalike.index_kinds import unsupported
from lookalike.interfaces import (
    Hit,
    ImageKey,
    IndexRow,
    Maps,
    Pixels,
    StoredVector,
    Vectors,
    WorkId,
)
from lookalike.metrics import prepare, score


class MemoryIndex:
    """A ``VectorIndex`` that compares with every row.

    Set ``is_down`` to have every call fail as if the engine did not answer.
    """

    def __init__(self) -> None:
        self.is_down = False
        self.settled: list[CollectionUid] = []
        self._rows: dict[CollectionUid, dict[ImageKey, IndexRow]] = {}
        self._lock = threading.Lock()

    def create(self, collection: Collection) -> None:
        self._check()
        if collection.index.kind is IndexKind.GPU_CAGRA:
            known = [kind for kind in IndexKind if kind is not IndexKind.GPU_CAGRA]
            raise unsupported(collection.index.kind, known)
        self._rows.setdefault(collection.uid, {})

    def drop(self, collection: Collection) -> None:
        self._check()
        self._rows.pop(collection.uid, None)

    def upsert(self, collection: Collection, rows: Sequence[IndexRow]) -> None:
        prepared = [
            IndexRow(row.key, row.gen, _prepared(row.vector, collection), row.metadata)
            for row in rows
        ]
        with self._lock:
            self._of(collection).update({row.key: row for row in prepared})

    def delete(self, collection: Collection, keys: Sequence[ImageKey]) -> None:
        with self._lock:
            for key in keys:
                self._of(collection).pop(key, None)

    def vectors(
        self, collection: Collection, keys: Sequence[ImageKey]
    ) -> dict[ImageKey, StoredVector]:
        rows = self._of(collection)
        return {
            key: StoredVector(rows[key].gen, rows[key].vector)
            for key in keys
            if key in rows
        }

    def search(
        self,
        collection: Collection,
        vector: npt.NDArray[np.float32],
        limit: int,
        condition: Filter | None = None,
    ) -> list[Hit]:
        return self.search_many(collection, vector[np.newaxis], limit, condition)[0]

    def search_many(
        self,
        collection: Collection,
        vectors: Vectors,
        limit: int,
        condition: Filter | None = None,
    ) -> list[list[Hit]]:
        queries = [_prepared(vector, collection) for vector in vectors]
        rows = self._matching(collection, condition)
        return [_nearest(query, rows, collection.metric, limit) for query in queries]

    def count_matching(self, collection: Collection, condition: Filter | None) -> int:
        return len(self._matching(collection, condition))

    def count(self, collection: Collection) -> int:
        return len(self._of(collection))

    def rows(
        self,
        collection: Collection,
        after: ImageKey | None,
        limit: int,
        upto: ImageKey | None = None,
    ) -> list[tuple[ImageKey, int]]:
        with self._lock:
            held = sorted((row.key, row.gen) for row in self._of(collection).values())
        return [
            (key, gen)
            for key, gen in held
            if (after is None or key > after) and (upto is None or key <= upto)
        ][:limit]

    def settle(self, collection: Collection) -> None:
        self._check()
        self.settled.append(collection.uid)

    def close(self) -> None:
        pass

    def _check(self) -> None:
        if self.is_down:
            raise IndexUnavailable("The index is down.")

    def _matching(
        self, collection: Collection, condition: Filter | None
    ) -> list[IndexRow]:
        with self._lock:
            rows = list(self._of(collection).values())
        return [
            row for row in rows if condition is None or matches(condition, row.metadata)
        ]

    def _of(self, collection: Collection) -> dict[ImageKey, IndexRow]:
        self._check()
        if collection.uid not in self._rows:
            raise IndexUnavailable("The index has no such collection.")
        return self._rows[collection.uid]


class FakeEmbedder:
    """An ``Embedder`` whose vector is the picture's 8x8 mean colours."""

    fingerprint = "fake"
    geometry = Geometry(side=64, resize=72)
    dimension = 192

    def __init__(self) -> None:
        self.embedded = 0

    def embed(self, pixels: Pixels) -> Vectors:
        side = self.geometry.side
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (side, side, 3):
            raise BadEmbedding(f"expected [N, {side}, {side}, 3] uint8")
        self.embedded += len(pixels)
        blocks = pixels.reshape(len(pixels), 8, 8, 8, 8, 3).mean(axis=(2, 4))
        flat = blocks.reshape(len(pixels), self.dimension) + 1.0  # black is no zero
        vectors: Vectors = (flat / np.linalg.norm(flat, axis=1, keepdims=True)).astype(
            np.float32
        )
        return vectors

    def feature_maps(self, pixels: Pixels) -> Maps:
        side = self.geometry.side
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (side, side, 3):
            raise BadEmbedding(f"expected [N, {side}, {side}, 3] uint8")
        blocks = pixels.reshape(len(pixels), 8, 8, 8, 8, 3).mean(axis=(2, 4))
        maps: Maps = (blocks + 1.0).astype(np.float32)
        return maps


class RecordingQueue:
    """A ``JobQueue`` that only remembers what it was rung for."""

    def __init__(self) -> None:
        self.rung: list[list[WorkId]] = []
        self.is_closed = False
        self.is_down = False

    def ring(self, work: Sequence[WorkId]) -> None:
        self.rung.append(list(work))

    def take(self) -> list[list[WorkId]]:
        """What it was rung for since the last time this was asked."""
        rung, self.rung = self.rung, []
        return rung

    def check(self) -> None:
        if self.is_down:
            raise Unavailable("The queue is down.", code="queue_unavailable")

    def close(self) -> None:
        self.is_closed = True


def _prepared(
    vector: npt.NDArray[np.float32], collection: Collection
) -> npt.NDArray[np.float32]:
    if np.shape(vector) != (collection.dimension,):
        raise BadEmbedding("A vector is of the right length.")
    made: npt.NDArray[np.float32] = prepare([vector], collection.metric)[0]
    return made


def _nearest(
    query: npt.NDArray[np.float32], rows: list[IndexRow], metric: Metric, limit: int
) -> list[Hit]:
    if not rows:
        return []
    scores = score(query, np.stack([row.vector for row in rows]), metric)
    hits = [
        Hit(row.key, row.gen, float(closeness))
        for row, closeness in zip(rows, scores, strict=True)
    ]
    return sorted(hits, key=lambda hit: (-hit.score, hit.key))[: max(0, limit)]
