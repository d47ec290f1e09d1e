"""What stands between Lookalike and the client of a Milvus server."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from pymilvus.exceptions import MilvusException

from lookalike.backends.breaker import Breaker
from lookalike.errors import IndexUnavailable

log = logging.getLogger(__name__)

PROBE_SECONDS = 1.0  # between two looks whether a server that was away is back
FRESH_SECONDS = 1.0  # so long after an answer a server counts as there
LEAST_SECONDS = 0.05  # a call with less time left is not worth making
CONNECT_FAILED = 2  # pymilvus' own code

_AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


@dataclass(frozen=True)
class Timeouts:
    """How long Milvus may take, in seconds."""

    connect: float
    search: float
    write: float
    admin: float


class Guard:
    """Calls the client: with a deadline, and not at all while the server is away.

    Three calls in a row that end without an answer open a breaker. From then on every
    call fails at once, and a thread looks each second whether the server is back: so
    no request ever pays for trying. A call that may take long asks first, briefly,
    whether anyone is there.

    Args:
        connect: builds a client; raises ``IndexUnavailable``.
        timeouts: how long the server may take.
        name: the server, as an operator knows it.
    """

    def __init__(
        self, connect: Callable[[], Any], timeouts: Timeouts, name: str
    ) -> None:
        self._connect = connect
        self._timeouts = timeouts
        self._name = name
        # Never half open for callers: the thread alone tries.
        self._breaker = Breaker(failures=3, seconds=math.inf)
        self._lock = threading.Lock()
        self._client: Any = None
        self._answered_at = -math.inf
        self._deadline = threading.local()
        self._probing: threading.Thread | None = None
        self._closing = threading.Event()

    @property
    def is_away(self) -> bool:
        """Whether calls are turned away because the server did not answer."""
        return self._breaker.is_open

    def __getattr__(self, method: str) -> Callable[..., Any]:
        """The client's method of that name, guarded."""

        def guarded(*args: Any, **options: Any) -> Any:
            return self._call(method, args, options)

        return guarded

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """All calls of this thread in the block together take no longer than this."""
        before = getattr(self._deadline, "at", math.inf)
        self._deadline.at = min(before, time.monotonic() + seconds)
        try:
            yield
        finally:
            self._deadline.at = before

    def connected(self) -> Any:
        """The client itself, built if need be.

        Raises:
            IndexUnavailable: the server does not answer.
        """
        if self._breaker.is_open:
            raise self._away()
        if self._client is None:
            with self._lock:  # one thread tries, the others hear of it
                if self._breaker.is_open:
                    raise self._away()
                if self._client is None:
                    self._client = self._built()
        return self._client

    def close(self) -> None:
        """Let go of the client."""
        self._closing.set()
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    # --- calls -----------------------------------------------------------------------

    def _call(self, method: str, args: Any, options: dict[str, Any]) -> Any:
        client = self.connected()
        if options.get("timeout", 0) > self._timeouts.connect:
            self._knock(client)
        if "timeout" in options:
            options["timeout"] = self._left(options["timeout"])
        return self._noted(lambda: getattr(client, method)(*args, **options))

    def _knock(self, client: Any) -> None:
        """Find out soon that a server hangs, rather than after a long deadline."""
        if time.monotonic() - self._answered_at > FRESH_SECONDS:
            patience = self._left(self._timeouts.connect)
            self._noted(lambda: client.get_server_version(timeout=patience))

    def _left(self, seconds: float) -> float:
        left = getattr(self._deadline, "at", math.inf) - time.monotonic()
        if left < LEAST_SECONDS:
            raise IndexUnavailable(f"Milvus at {self._name} did not answer in time.")
        return min(seconds, left)

    def _noted(self, ask: Callable[[], Any]) -> Any:
        try:
            answer = ask()
        except (MilvusException, grpc.RpcError) as error:
            if is_away(error):
                self._breaker.failed()
                if self._breaker.is_open:
                    self._begin_probing()
            else:
                self._there()
            raise
        self._there()
        return answer

    def _there(self) -> None:
        self._answered_at = time.monotonic()
        self._breaker.worked()

    def _built(self) -> Any:
        try:
            client = self._connect()
        except IndexUnavailable:
            self._breaker.open()
            self._begin_probing()
            raise
        self._there()
        return client

    def _away(self) -> IndexUnavailable:
        return IndexUnavailable(
            f"Milvus at {self._name} does not answer; it is tried again each second."
        )

    # --- the way back ----------------------------------------------------------------

    def _begin_probing(self) -> None:
        if self._closing.is_set():
            return
        if self._probing is None or not self._probing.is_alive():
            log.warning("Milvus at %s does not answer", self._name)
            self._probing = threading.Thread(
                target=self._probe, name="milvus-probe", daemon=True
            )
            self._probing.start()

    def _probe(self) -> None:
        while not self._closing.wait(PROBE_SECONDS):
            try:
                if self._client is None:
                    self._client = self._connect()
                self._client.get_server_version(timeout=self._timeouts.connect)
            # A client whose server is dying may raise anything, and this thread is
            # the only way back.
            except Exception as error:
                log.debug("Milvus is still away: %s", error)
            else:
                self._there()
                log.info("Milvus at %s answers again", self._name)
                return


def is_away(error: Exception) -> bool:
    """Whether a call ended without any answer of the server."""
    if isinstance(error, grpc.Call):
        return error.code() in _AWAY
    if isinstance(error, MilvusException):
        return error.code == CONNECT_FAILED or error.code in _AWAY
    return True
