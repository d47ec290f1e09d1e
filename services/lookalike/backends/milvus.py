"""The vector index on Milvus: one code for Milvus Lite and for servers."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np
import numpy.typing as npt

from lookalike.backends.milvus_connection import translated
from lookalike.backends.milvus_engine import Engine
from lookalike.backends.milvus_filter import KEY, compile_filter
from lookalike.backends.milvus_guard import Timeouts
from lookalike.backends.milvus_kinds import arrangement, index_params
from lookalike.backends.milvus_reader import Reader, batches
from lookalike.backends.milvus_rows import (
    GEN,
    engine_name,
    engine_rows,
    prepared,
    schema,
)
from lookalike.backends.milvus_search import Nearest
from lookalike.backends.milvus_selftest import Capabilities, find_capabilities
from lookalike.backends.milvus_trial import Trials
from lookalike.backends.milvus_walk import rows_in_order
from lookalike.collections import Collection
from lookalike.filters import Filter
from lookalike.interfaces import Hit, ImageKey, IndexRow, StoredVector, Vectors


class MilvusIndex:
    """Implements ``VectorIndex``; connects on first use, so it may be built early.

    Args:
        uri: ``http://host:19530`` of a server, or the path of a Milvus Lite file,
            which this process alone may open.
        token: ``user:password`` of a server.
        consistency: how fresh a server's answers are. ``Bounded`` may miss the last
            moments; ``Strong`` sees every write before, and takes 200 ms.
        timeouts: instead of those fit for a server or for Milvus Lite.
    """

    def __init__(
        self,
        uri: str,
        token: str = "",
        *,
        consistency: str = "Bounded",
        timeouts: Timeouts | None = None,
    ) -> None:
        self._engine = Engine(uri, token, timeouts)
        self._consistency = consistency
        self._trials = Trials(self._engine)
        self._capabilities: Capabilities | None = None

    @property
    def is_lite(self) -> bool:
        """Whether the engine is Milvus Lite."""
        return self._engine.is_lite

    def connect(self) -> None:
        """Open the engine now rather than on first use.

        Raises:
            IndexUnavailable: the server does not answer.
            Misconfigured: Milvus Lite cannot be opened; another process has it.
        """
        self._engine.connection.connect()

    # --- collections -----------------------------------------------------------------

    def create(self, collection: Collection) -> None:
        """Make room for a collection; does nothing if it is there already.

        Raises:
            BadRequest: code ``index_unsupported``: the engine has no such index.
        """
        name, timeout = engine_name(collection), self._engine.timeouts.admin
        arranged = arrangement(collection, is_lite=self._engine.is_lite)
        self._test_engine()
        if collection.index.kind is not None:
            self._trials.require(collection.index.kind)
        with translated("create a collection"), self._engine.one_writer():
            client = self._engine.client
            if not client.has_collection(name, timeout=timeout):
                made = schema(collection.fields, collection.dimension)
                client.create_collection(name, schema=made, timeout=timeout)
            # A crash can have come between any two of these steps.
            if not client.list_indexes(name, timeout=timeout):
                params = index_params(arranged, collection.metric)
                client.create_index(name, params, timeout=timeout)
            self._engine.load(name)

    def drop(self, collection: Collection) -> None:
        """Forget a collection; does nothing if it is gone already."""
        name, timeout = engine_name(collection), self._engine.timeouts.admin
        with translated("drop a collection"), self._engine.nobody_else():
            client = self._engine.client
            if client.has_collection(name, timeout=timeout):
                client.drop_collection(name, timeout=timeout)
            self._engine.forget(name)

    # --- rows ------------------------------------------------------------------------

    def upsert(self, collection: Collection, rows: Sequence[IndexRow]) -> None:
        """Store rows, replacing those of the same keys. Keys are distinct."""
        name, made = engine_name(collection), engine_rows(collection, rows)
        has_upsert = self._test_engine().has_upsert
        for batch in batches(made):
            self._engine.write(name, batch, has_upsert=has_upsert)

    def delete(self, collection: Collection, keys: Sequence[ImageKey]) -> None:
        """Remove rows; unknown keys are ignored."""
        for batch in batches(keys):
            self._engine.delete(engine_name(collection), list(batch))

    def vectors(
        self, collection: Collection, keys: Sequence[ImageKey]
    ) -> dict[ImageKey, StoredVector]:
        """The stored vectors of those keys that are there, of each key the newest."""
        found: dict[ImageKey, StoredVector] = {}
        for batch in batches(keys):
            with self._within_search():
                found |= self._reader(collection).vectors(batch)
        return found

    def count(self, collection: Collection) -> int:
        """How many rows are stored, as far as the engine knows by now."""
        return self.count_matching(collection, None)

    def count_matching(self, collection: Collection, condition: Filter | None) -> int:
        """How many rows satisfy the filter, as far as the engine knows by now."""
        return self._reader(collection).count(_expression(condition))

    def rows(
        self,
        collection: Collection,
        after: ImageKey | None,
        limit: int,
        upto: ImageKey | None = None,
    ) -> list[tuple[ImageKey, int]]:
        """The next keys in order, each with its gen: ``limit`` of them, or the rest.

        Every write that ended before the call is seen, which costs a server 200 ms a
        query; a call makes one query if no more rows than ``limit`` are in the range.
        """
        reader = self.with_consistency("Strong")._reader(collection)

        def ask(expression: str, most: int) -> list[tuple[str, int]]:
            rows = reader.rows([GEN], filter=expression, limit=most)
            return [(row[KEY], row[GEN]) for row in rows]

        found = rows_in_order(ask, after, limit, upto)
        return [(ImageKey(key), gen) for key, gen in found]

    def settle(self, collection: Collection) -> None:
        """Have the engine index what it holds so far only in a buffer."""
        self._engine.settle(engine_name(collection))

    def close(self) -> None:
        """Let go of the engine."""
        self._engine.close()

    # --- search ----------------------------------------------------------------------

    def search(
        self,
        collection: Collection,
        vector: npt.NDArray[np.float32],
        limit: int,
        condition: Filter | None = None,
    ) -> list[Hit]:
        """The nearest rows that satisfy the filter, best first, at most ``limit``.

        Gives ``limit`` hits whenever that many rows satisfy the filter.
        """
        return self._search(collection, [vector], limit, condition)[0]

    def search_many(
        self,
        collection: Collection,
        vectors: Vectors,
        limit: int,
        condition: Filter | None = None,
    ) -> list[list[Hit]]:
        """What ``search`` gives, of each of the vectors ``[Q, D]``; much cheaper."""
        return self._search(collection, list(vectors), limit, condition)

    def _search(
        self,
        collection: Collection,
        vectors: Sequence[npt.NDArray[np.float32]],
        limit: int,
        condition: Filter | None,
    ) -> list[list[Hit]]:
        if limit < 1 or not vectors:
            return [[] for _ in vectors]
        queries = prepared(vectors, collection)
        reader = self._reader(collection)
        with self._within_search():
            nearest = Nearest(reader, queries, limit, collection.metric)
            return nearest.find(_expression(condition))

    # --- the engine ------------------------------------------------------------------

    def with_consistency(self, consistency: str) -> MilvusIndex:
        """The same index through the same connection, read at another freshness."""
        other = copy.copy(self)
        other._consistency = consistency
        return other

    def _reader(self, collection: Collection) -> Reader:
        return Reader(self._engine, collection, self._consistency)

    def _within_search(self) -> AbstractContextManager[None]:
        return self._engine.connection.within(self._engine.timeouts.search)

    def _test_engine(self) -> Capabilities:
        if self._capabilities is None:
            with self._engine.one_test():
                if self._capabilities is None:
                    self._capabilities = find_capabilities(self._engine.connection)
        return self._capabilities


def _expression(condition: Filter | None) -> str:
    return "" if condition is None else compile_filter(condition)
