"""Calls to Milvus as both engines need them: one writer, loading, translation."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pymilvus.exceptions import MilvusException

from lookalike.backends.milvus_connection import NOT_LOADED, Connection, translated
from lookalike.backends.milvus_counts import Counts
from lookalike.backends.milvus_filter import KEY
from lookalike.backends.milvus_gate import Gate
from lookalike.backends.milvus_guard import Timeouts
from lookalike.errors import IndexUnavailable

LITE_FLUSH_ROWS = 2_000  # unflushed rows are scanned in Python: 36 µs each
LITE_SETTLE_ROWS = 40  # fewer than faiss wants for an index are left unflushed
SERVER_SETTLE_ROWS = 2_000  # fewer are compared one by one in a server's memory
SERVER_SETTLE_SECONDS = 60.0  # a server limits how often it may be asked


class Engine:
    """A Milvus server, or Milvus Lite opened by this process alone.

    Collections are named as Milvus knows them. What goes wrong is raised as
    ``IndexUnavailable``.
    """

    def __init__(self, uri: str, token: str, timeouts: Timeouts | None) -> None:
        self.connection = Connection(uri, token, timeouts)
        self.is_lite = self.connection.is_lite
        self.timeouts = self.connection.timeouts
        self._loaded: set[str] = set()
        self._loading: set[str] = set()
        self._beginning = threading.Lock()
        self._unflushed: dict[str, int] = {}
        self._flushed_at: dict[str, float] = {}
        self._writing = threading.RLock()
        self._gate = Gate()
        self.counts = Counts()

    @property
    def client(self) -> Any:
        """The pymilvus client of this process."""
        return self.connection.client

    def close(self) -> None:
        """Let go of the engine."""
        with self._writing, self._gate.alone():
            self.connection.close()
            self._loaded.clear()
            self._unflushed.clear()

    @contextmanager
    def one_writer(self) -> Iterator[None]:
        """Milvus Lite is not safe with several writers; servers are."""
        if not self.is_lite:
            yield
            return
        with self._writing:
            yield

    @contextmanager
    def one_test(self) -> Iterator[None]:
        """One caller finds out what the engine can do; the others hear of it."""
        with self._writing:
            yield

    @contextmanager
    def nobody_else(self) -> Iterator[None]:
        """Neither writers nor, on Milvus Lite, readers."""
        with self.one_writer(), self._gate.alone():
            yield

    # --- collections -----------------------------------------------------------------

    def load(self, name: str) -> None:
        """Have a collection in memory, however long that takes."""
        self.client.load_collection(name, timeout=self.timeouts.admin)
        self._loaded.add(name)

    def forget(self, name: str) -> None:
        """Know nothing more of a collection, which is gone."""
        self._loaded.discard(name)
        self._unflushed.pop(name, None)
        self._flushed_at.pop(name, None)

    # --- writing ---------------------------------------------------------------------

    def write(self, name: str, rows: list[Any], *, has_upsert: bool) -> None:
        """Store a batch of rows, replacing those of the same keys."""
        client, timeout = self.client, self.timeouts.write
        with translated("store vectors"), self.one_writer():
            if self.is_lite and self._unflushed.get(name, 0) >= LITE_FLUSH_ROWS:
                self._flush(name)
            if has_upsert:
                client.upsert(name, rows, timeout=timeout)
            else:
                keys = [row[KEY] for row in rows]
                client.delete(name, ids=keys, timeout=timeout)
                client.insert(name, rows, timeout=timeout)
            self._unflushed[name] = self._unflushed.get(name, 0) + len(rows)

    def delete(self, name: str, keys: list[str]) -> None:
        """Remove a batch of rows."""
        with translated("delete vectors"), self.one_writer():
            self.client.delete(name, ids=keys, timeout=self.timeouts.write)

    def settle(self, name: str) -> None:
        """Have the engine index what it holds so far only in a buffer.

        A server does that by itself, but only after ten minutes, and until then finds
        as little as half of what a narrow filter keeps.
        """
        written = self._unflushed.get(name, 0)
        if written < (LITE_SETTLE_ROWS if self.is_lite else SERVER_SETTLE_ROWS):
            return
        since = time.monotonic() - self._flushed_at.get(name, -SERVER_SETTLE_SECONDS)
        if self.is_lite or since >= SERVER_SETTLE_SECONDS:
            with translated("flush"), self.one_writer():
                self._flush(name)

    def _flush(self, name: str) -> None:
        self._flushed_at[name] = time.monotonic()
        if not self.is_lite:
            self._unflushed[name] = 0
            self.client.flush(name, timeout=self.timeouts.write)
            return
        # While Lite flushes, what it flushes cannot be found: readers wait.
        with self._gate.alone():
            self.client.flush(name, timeout=self.timeouts.admin)
            self._unflushed[name] = 0

    # --- reading ---------------------------------------------------------------------

    def read(self, name: str, doing: str, call: Callable[[], Any]) -> Any:
        """What a reading call of the client gives, the collection loaded before."""
        with translated(doing):
            if self.is_lite and name not in self._loaded:
                with self.one_writer():  # a crash may have left rows unflushed
                    self._flush(name)
            with self._reading():
                return self._loaded_call(name, call)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        if not self.is_lite:
            yield
            return
        with self._gate.together():
            yield

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
        # Asked first because this fails fast when the server is down.
        timeout = self.timeouts.search
        state = self.client.get_load_state(name, timeout=timeout)["state"]
        if state.name != "Loaded" and self.is_lite:
            self.client.load_collection(name, timeout=self.timeouts.admin)
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
        try:
            self.client.load_collection(name, timeout=self.timeouts.search)
        finally:
            self._loading.discard(name)
