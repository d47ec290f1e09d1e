"""One collection of Milvus, read at one freshness: rows, counts and searches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from lookalike.backends.milvus_engine import Engine
from lookalike.backends.milvus_filter import KEY
from lookalike.backends.milvus_kinds import (
    Arrangement,
    arrangement,
    engine_metric,
    measured,
)
from lookalike.backends.milvus_rows import GEN, VECTOR, engine_name
from lookalike.collections import Collection
from lookalike.interfaces import Hit, ImageKey, StoredVector, Vectors
from lookalike.metrics import score

T = TypeVar("T")
Vector = npt.NDArray[np.float32]  # [D]

BATCH_ROWS = 500  # with 16 KiB of metadata each it stays below a server's 64 MiB
MOST_ROWS = 16_384  # a server gives no more in one answer
MOST_BYTES = 32 * 2**20  # of one answer; servers and clients stop at 64 MiB
HIT_BYTES = 64  # of a key, a gen and a score, as they are sent


@dataclass(frozen=True)
class Answer:
    """What one query of a search gave.

    Attributes:
        hits: the best of them, each key once.
        rows: how many rows the engine gave in all.
    """

    hits: list[Hit]
    rows: int


class Reader:
    """Reads a collection.

    Args:
        engine: where it is.
        collection: which.
        consistency: how fresh the answers are, in Milvus' words.
    """

    def __init__(
        self, engine: Engine, collection: Collection, consistency: str
    ) -> None:
        self._engine = engine
        self._name = engine_name(collection)
        self._metric = collection.metric
        self._consistency = consistency
        self.arranged: Arrangement = arrangement(collection, is_lite=engine.is_lite)
        of_vector = 4 * collection.dimension if self.arranged.is_coarse else 0
        self._hits_at_once = MOST_BYTES // (HIT_BYTES + of_vector)

    @property
    def most_rows(self) -> int:
        """How many rows a query of a search can be given."""
        return min(MOST_ROWS, self._hits_at_once)

    def rows(self, fields: list[str], **which: Any) -> list[Any]:
        """Some fields of some rows, and their keys."""
        found: list[Any] = self._engine.read(
            self._name,
            "read vectors",
            lambda: self._engine.client.query(
                self._name,
                output_fields=[KEY, *fields],
                consistency_level=self._consistency,
                timeout=self._engine.timeouts.write,
                **which,
            ),
        )
        return found

    def estimate(self, expression: str) -> int:
        """How many rows satisfied an expression some seconds ago; never waits."""
        return self._engine.counts.get(
            self._name, expression, lambda: self._count(expression, "Eventually")
        )

    def count(self, expression: str) -> int:
        """How many rows satisfy an expression."""
        count = self._count(expression, self._consistency)
        self._engine.counts.put(self._name, expression, count)
        return count

    def _count(self, expression: str, consistency: str) -> int:
        rows = self._engine.read(
            self._name,
            "count",
            lambda: self._engine.client.query(
                self._name,
                filter=expression,
                output_fields=["count(*)"],
                consistency_level=consistency,
                timeout=self._engine.timeouts.search,
            ),
        )
        return int(rows[0]["count(*)"])

    def vectors(self, keys: Sequence[str]) -> dict[ImageKey, StoredVector]:
        """The stored vectors of those keys that are there, of each key the newest."""
        found: dict[ImageKey, StoredVector] = {}
        for batch in batches(keys):
            rows = self.rows([GEN, VECTOR], ids=batch, limit=BATCH_ROWS)
            for row in sorted(rows, key=lambda row: row[GEN]):
                vector = np.asarray(row[VECTOR], dtype=np.float32)
                found[ImageKey(row[KEY])] = StoredVector(row[GEN], vector)
        return found

    def nearest(
        self,
        queries: Vectors,
        limit: int,
        expression: str,
        effort: dict[str, int],
        wanted: int,
    ) -> list[Answer]:
        """The ``limit`` nearest as the engine finds them, the ``wanted`` best of each.

        Scores of a coarse index are replaced by those of the stored vectors.
        """
        at_once = max(1, self._hits_at_once // limit)
        if self._engine.is_lite and engine_metric(self._metric) == "L2":
            at_once = 1  # it holds all differences of all queries in memory
        return [
            self._answer(found, query, wanted)
            for group in batches(list(queries), at_once)
            for query, found in zip(
                group, self._search(group, limit, expression, effort), strict=True
            )
        ]

    def _search(
        self,
        queries: list[Vector],
        limit: int,
        expression: str,
        effort: dict[str, int],
    ) -> Any:
        fields = [GEN, VECTOR] if self.arranged.is_coarse else [GEN]
        metric = engine_metric(self._metric)
        return self._engine.read(
            self._name,
            "search",
            lambda: self._engine.client.search(
                self._name,
                queries,
                filter=expression,
                limit=limit,
                output_fields=fields,
                search_params={"metric_type": metric, "params": effort},
                anns_field=VECTOR,
                consistency_level=self._consistency,
                timeout=self._engine.timeouts.search,
            ),
        )

    def _answer(self, found: Any, query: Vector, wanted: int) -> Answer:
        if self.arranged.is_coarse and len(found) > 0:
            stored = np.asarray([hit["entity"][VECTOR] for hit in found], np.float32)
            scores = score(query, stored, self._metric)
            rows = [
                (hit.id, hit["entity"][GEN], float(closeness))
                for hit, closeness in zip(found, scores, strict=True)
            ]
            return Answer(ranked(rows, wanted), len(found))
        # They come best first. A few more, because a key can be there twice.
        best = islice(found, wanted + wanted // 8 + 8)
        rows = [
            (
                hit.id,
                hit["entity"][GEN],
                measured(hit["distance"], self._metric),
            )
            for hit in best
        ]
        return Answer(ranked(rows, wanted), len(found))


def ranked(rows: Sequence[tuple[str, int, float]], limit: int) -> list[Hit]:
    """The best of some keys, gens and scores: by score, each key once."""
    best: dict[str, Hit] = {}
    for key, gen, closeness in sorted(rows, key=lambda each: (-each[2], each[0])):
        if key not in best:
            best[key] = Hit(ImageKey(key), int(gen), closeness)
    return list(best.values())[:limit]


def batches(entries: Sequence[T], size: int = BATCH_ROWS) -> Iterator[list[T]]:
    """The same entries in lists of at most this size."""
    for start in range(0, len(entries), size):
        yield list(entries[start : start + size])
