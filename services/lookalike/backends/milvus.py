"""The vector index on Milvus: one code for Milvus Lite and for servers."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from pymilvus.exceptions import MilvusException

from lookalike.backends.milvus_connection import NOT_LOADED, Connection, translated
from lookalike.backends.milvus_filter import EVERYTHING, KEY, compile_filter
from lookalike.backends.milvus_gate import Gate
from lookalike.backends.milvus_guard import Timeouts
from lookalike.backends.milvus_rows import (
    GEN,
    METRIC,
    VECTOR,
    engine_name,
    engine_rows,
    index_params,
    schema,
    unit,
)
from lookalike.backends.milvus_selftest import Capabilities, find_capabilities
from lookalike.backends.milvus_walk import rows_in_order
from lookalike.collections import Collection
from lookalike.errors import IndexUnavailable
from lookalike.filters import Filter
from lookalike.interfaces import Hit, ImageKey, IndexRow, StoredVector

T = TypeVar("T")

BATCH_ROWS = 500  # with 16 KiB of metadata each it stays below a server's 64 MiB
WIDEST = 32_768  # the largest `ef` a server takes
EXACT_ROWS = 5_000  # so many vectors are fetched and compared here at most
LITE_LISTS = 1_024  # more than there are: every row is compared
LITE_FLUSH_ROWS = 2_000  # unflushed rows are scanned in Python: 36 µs each
LITE_SETTLE_ROWS = 40  # fewer than faiss wants for an index are left unflushed


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
        self._connection = Connection(uri, token, timeouts)
        self._consistency = consistency
        self._is_lite = self._connection.is_lite
        self._timeouts = self._connection.timeouts
        self._capabilities: Capabilities | None = None
        self._loaded: set[str] = set()
        self._loading: set[str] = set()
        self._beginning = threading.Lock()
        self._unflushed: dict[str, int] = {}
        self._writing = threading.RLock()
        self._gate = Gate()

    def connect(self) -> None:
        """Open the engine now rather than on first use.

        Raises:
            IndexUnavailable: the server does not answer.
            Misconfigured: Milvus Lite cannot be opened; another process has it.
        """
        self._connection.connect()

    # --- collections -----------------------------------------------------------------

    def create(self, collection: Collection) -> None:
        """Make room for a collection; does nothing if it is there already."""
        name, timeout = engine_name(collection), self._timeouts.admin
        self._test_engine()
        with translated("create a collection"), self._one_writer():
            client = self._connection.client
            if not client.has_collection(name, timeout=timeout):
                made = schema(collection.fields, collection.dimension)
                client.create_collection(name, schema=made, timeout=timeout)
            # A crash can have come between any two of these steps.
            if not client.list_indexes(name, timeout=timeout):
                params = index_params(is_lite=self._is_lite)
                client.create_index(name, params, timeout=timeout)
            client.load_collection(name, timeout=timeout)
            self._loaded.add(name)

    def drop(self, collection: Collection) -> None:
        """Forget a collection; does nothing if it is gone already."""
        name, timeout = engine_name(collection), self._timeouts.admin
        with translated("drop a collection"), self._one_writer(), self._gate.alone():
            client = self._connection.client
            if client.has_collection(name, timeout=timeout):
                client.drop_collection(name, timeout=timeout)
            self._loaded.discard(name)
            self._unflushed.pop(name, None)

    # --- rows ------------------------------------------------------------------------

    def upsert(self, collection: Collection, rows: Sequence[IndexRow]) -> None:
        """Store rows, replacing those of the same keys. Keys are distinct."""
        name = engine_name(collection)
        prepared = engine_rows(collection, rows)
        has_upsert = self._test_engine().has_upsert
        for batch in _batches(prepared):
            with translated("store vectors"), self._one_writer():
                self._make_room(name)
                self._write(name, batch, has_upsert)
                self._count_unflushed(name, len(batch))

    def delete(self, collection: Collection, keys: Sequence[ImageKey]) -> None:
        """Remove rows; unknown keys are ignored."""
        name, timeout = engine_name(collection), self._timeouts.write
        for batch in _batches(keys):
            with translated("delete vectors"), self._one_writer():
                self._connection.client.delete(name, ids=batch, timeout=timeout)

    def vectors(
        self, collection: Collection, keys: Sequence[ImageKey]
    ) -> dict[ImageKey, StoredVector]:
        """The stored vectors of those keys that are there, of each key the newest."""
        found: dict[ImageKey, StoredVector] = {}
        for batch in _batches(keys):
            with self._connection.within(self._timeouts.search):
                rows = self._query(
                    engine_name(collection), [GEN, VECTOR], ids=batch, limit=BATCH_ROWS
                )
            for row in sorted(rows, key=lambda row: row[GEN]):
                vector = np.asarray(row[VECTOR], dtype=np.float32)
                found[ImageKey(row[KEY])] = StoredVector(row[GEN], vector)
        return found

    def count(self, collection: Collection) -> int:
        """How many rows are stored, as far as the engine knows by now."""
        return self._count(engine_name(collection), "")

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
        reader, name = self.with_consistency("Strong"), engine_name(collection)

        def ask(expression: str, most: int) -> list[tuple[str, int]]:
            rows = reader._query(name, [GEN], filter=expression, limit=most)
            return [(row[KEY], row[GEN]) for row in rows]

        found = rows_in_order(ask, after, limit, upto)
        return [(ImageKey(key), gen) for key, gen in found]

    def settle(self, collection: Collection) -> None:
        """Have Milvus Lite index what it has so far only in a buffer.

        A server does that by itself, and limits how often it may be asked.
        """
        name = engine_name(collection)
        if not self._is_lite or self._unflushed.get(name, 0) < LITE_SETTLE_ROWS:
            return
        with translated("flush"), self._one_writer():
            self._flush(name)

    def close(self) -> None:
        """Let go of the engine."""
        with self._writing, self._gate.alone():
            self._connection.close()
            self._loaded.clear()
            self._unflushed.clear()

    # --- search ----------------------------------------------------------------------

    def search(
        self,
        collection: Collection,
        vector: npt.NDArray[np.float32],
        limit: int,
        condition: Filter | None = None,
    ) -> list[Hit]:
        """The nearest rows that satisfy the filter, best first, at most ``limit``.

        Gives ``limit`` hits whenever that many rows satisfy the filter. A score is
        the cosine of the angle between the two vectors.
        """
        if limit < 1:
            return []
        name = engine_name(collection)
        query = unit([vector], collection.dimension)[0]
        expression = "" if condition is None else compile_filter(condition)
        effort = _effort(limit, condition)
        with self._connection.within(self._timeouts.search):
            hits = self._nearest(name, query, limit, expression, effort)
            if self._is_lite or len(hits) >= limit:
                return hits
            return self._complete(name, query, limit, expression, hits)

    def _complete(
        self,
        name: str,
        query: npt.NDArray[np.float32],
        limit: int,
        expression: str,
        hits: list[Hit],
    ) -> list[Hit]:
        """What a server's approximate search left out, if there is any."""
        there = self._count(name, expression)
        if len(hits) >= min(limit, there):
            return hits
        if there <= EXACT_ROWS:
            return self._exact(name, query, limit, expression)
        return self._nearest(name, query, limit, expression, WIDEST)

    def _nearest(
        self,
        name: str,
        query: npt.NDArray[np.float32],
        limit: int,
        expression: str,
        effort: int,
    ) -> list[Hit]:
        params = {"nprobe": LITE_LISTS} if self._is_lite else {"ef": effort}
        found = self._read(
            name,
            "search",
            lambda: self._connection.client.search(
                name,
                [query],
                filter=expression,
                limit=limit,
                output_fields=[GEN],
                search_params={"metric_type": METRIC, "params": params},
                anns_field=VECTOR,
                consistency_level=self._consistency,
                timeout=self._timeouts.search,
            ),
        )[0]
        return _ranked(
            [(hit.id, hit["entity"][GEN], hit["distance"]) for hit in found], limit
        )

    def _exact(
        self,
        name: str,
        query: npt.NDArray[np.float32],
        limit: int,
        expression: str,
    ) -> list[Hit]:
        """The nearest of all rows that satisfy the filter, compared one by one."""
        rows = self._query(
            name, [GEN, VECTOR], filter=expression or EVERYTHING, limit=EXACT_ROWS
        )
        if not rows:
            return []
        scores = np.asarray([row[VECTOR] for row in rows], dtype=np.float32) @ query
        return _ranked(
            [
                (row[KEY], row[GEN], score)
                for row, score in zip(rows, scores, strict=True)
            ],
            limit,
        )

    def with_consistency(self, consistency: str) -> MilvusIndex:
        """The same index through the same connection, read at another freshness."""
        other = copy.copy(self)
        other._consistency = consistency
        return other

    # --- the engine ------------------------------------------------------------------

    def _query(self, name: str, fields: list[str], **which: Any) -> list[Any]:
        rows: list[Any] = self._read(
            name,
            "read vectors",
            lambda: self._connection.client.query(
                name,
                output_fields=[KEY, *fields],
                consistency_level=self._consistency,
                timeout=self._timeouts.write,
                **which,
            ),
        )
        return rows

    def _count(self, name: str, expression: str) -> int:
        rows = self._read(
            name,
            "count",
            lambda: self._connection.client.query(
                name,
                filter=expression,
                output_fields=["count(*)"],
                consistency_level=self._consistency,
                timeout=self._timeouts.search,
            ),
        )
        return int(rows[0]["count(*)"])

    def _read(self, name: str, doing: str, call: Callable[[], Any]) -> Any:
        with translated(doing):
            if self._is_lite and name not in self._loaded:
                with self._one_writer():  # a crash may have left rows unflushed
                    self._flush(name)
            with self._reading():
                return self._loaded_call(name, call)

    def _loaded_call(self, name: str, call: Callable[[], Any]) -> Any:
        if name not in self._loaded:
            self._load(name)
        try:
            return call()
        except MilvusException as error:
            if error.code != NOT_LOADED:
                raise
        self._load(name)  # it was released behind our back
        return call()

    def _load(self, name: str) -> None:
        client = self._connection.client
        # Asked first because this fails fast when the server is down.
        state = client.get_load_state(name, timeout=self._timeouts.search)["state"]
        if state.name != "Loaded" and self._is_lite:
            client.load_collection(name, timeout=self._timeouts.admin)
        elif state.name != "Loaded":
            self._load_or_fail_fast(name)
        self._loaded.add(name)

    def _load_or_fail_fast(self, name: str) -> None:
        """One caller waits a moment; the others hear that it takes a while.

        A server that was just started takes minutes, in which all would wait.
        """
        with self._beginning:
            if name in self._loading:
                raise IndexUnavailable("Milvus is loading the collection into memory.")
            self._loading.add(name)
        client, timeout = self._connection.client, self._timeouts.search
        try:
            client.load_collection(name, timeout=timeout)
        finally:
            self._loading.discard(name)

    def _write(self, name: str, rows: list[Any], has_upsert: bool) -> None:
        client, timeout = self._connection.client, self._timeouts.write
        if has_upsert:
            client.upsert(name, rows, timeout=timeout)
            return
        client.delete(name, ids=[row[KEY] for row in rows], timeout=timeout)
        client.insert(name, rows, timeout=timeout)

    def _make_room(self, name: str) -> None:
        if self._unflushed.get(name, 0) >= LITE_FLUSH_ROWS:
            self._flush(name)

    def _count_unflushed(self, name: str, rows: int) -> None:
        if self._is_lite:
            self._unflushed[name] = self._unflushed.get(name, 0) + rows

    def _flush(self, name: str) -> None:
        # While Lite flushes, what it flushes cannot be found: readers wait.
        with self._gate.alone():
            self._connection.client.flush(name, timeout=self._timeouts.admin)
            self._unflushed[name] = 0

    def _test_engine(self) -> Capabilities:
        if self._capabilities is None:
            with self._writing:
                if self._capabilities is None:
                    self._capabilities = find_capabilities(self._connection)
        return self._capabilities

    @contextmanager
    def _one_writer(self) -> Iterator[None]:
        """Milvus Lite is not safe with several writers; servers are."""
        if not self._is_lite:
            yield
            return
        with self._writing:
            yield

    @contextmanager
    def _reading(self) -> Iterator[None]:
        if not self._is_lite:
            yield
            return
        with self._gate.together():
            yield


def _batches(entries: Sequence[T]) -> Iterator[list[T]]:
    for start in range(0, len(entries), BATCH_ROWS):
        yield list(entries[start : start + BATCH_ROWS])


def _effort(limit: int, condition: Filter | None) -> int:
    """How many candidates a server's search keeps; a filter hides some of them."""
    wanted = max(64, 2 * limit) if condition is None else max(512, 8 * limit)
    return min(WIDEST, wanted)


def _ranked(found: Sequence[tuple[str, int, float]], limit: int) -> list[Hit]:
    """Hits by score, each key once."""
    best: dict[str, Hit] = {}
    for key, gen, score in sorted(found, key=lambda each: (-each[2], each[0])):
        if key not in best:
            score = min(1.0, max(-1.0, float(score)))
            best[key] = Hit(ImageKey(key), int(gen), score)
    return list(best.values())[:limit]
