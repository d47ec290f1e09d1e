"""One connection to Milvus: a server, or Milvus Lite opened by this process alone."""

from __future__ import annotations

import fcntl
import logging
import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from pymilvus import MilvusClient
from pymilvus.exceptions import (
    ConnectionConfigException,
    DataNotMatchException,
    MilvusException,
    ParamError,
)

from lookalike.errors import IndexUnavailable, Misconfigured

RETRY_SECONDS = 2.0  # who comes sooner after a failure gets the same answer
NOT_LOADED = 101  # Milvus' code for a collection that is not in memory


@dataclass(frozen=True)
class Timeouts:
    """How long Milvus may take, in seconds."""

    connect: float
    search: float
    write: float
    admin: float


SERVER_TIMEOUTS = Timeouts(connect=5, search=2, write=20, admin=60)
LITE_TIMEOUTS = Timeouts(connect=60, search=30, write=120, admin=300)


class Connection:
    """Builds the client on first use, and anew in a forked child."""

    def __init__(self, uri: str, token: str, timeouts: Timeouts | None) -> None:
        self.is_lite = "://" not in uri
        self.timeouts = timeouts or (LITE_TIMEOUTS if self.is_lite else SERVER_TIMEOUTS)
        self._uri = uri
        self._token = token
        self._lock = threading.Lock()
        self._client: Any = None
        self._failure: IndexUnavailable | None = None
        self._failed_at = -math.inf
        self._process = 0
        # pymilvus logs a traceback for every failed call, values included.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)

    @property
    def client(self) -> Any:
        """The pymilvus client of this process.

        Raises:
            IndexUnavailable: the server does not answer.
            Misconfigured: Milvus Lite cannot be opened.
        """
        if self._client is None or self._process != os.getpid():
            with self._lock:
                if self._client is None or self._process != os.getpid():
                    self._client = self._open_or_fail_fast()
                    self._process = os.getpid()
        return self._client

    def close(self) -> None:
        """Let go of the client, and of Milvus Lite with its lock."""
        with self._lock:
            client, self._client = self._client, None
            if client is None or self._process != os.getpid():
                return
            client.close()
            if self.is_lite:
                _lite_servers().release_server(self._uri)

    def _open_or_fail_fast(self) -> Any:
        """Many threads can wait here: one of them tries, the others hear of it."""
        if self._failure and time.monotonic() - self._failed_at < RETRY_SECONDS:
            raise IndexUnavailable(self._failure.detail) from self._failure
        try:
            return self._open()
        except IndexUnavailable as error:
            self._failure, self._failed_at = error, time.monotonic()
            raise

    def _open(self) -> Any:
        if self.is_lite:
            return self._open_lite()
        with translated("connect"):
            # Dedicated: pymilvus would share a channel, even across a fork.
            return MilvusClient(
                self._uri,
                token=self._token,
                timeout=self.timeouts.connect,
                dedicated=True,
            )

    def _open_lite(self) -> Any:
        path = Path(self._uri)
        if path.suffix != ".db":
            raise Misconfigured(
                f"LOOKALIKE_MILVUS_URI is neither a URL nor a path ending in .db: "
                f"{self._uri!r}."
            )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Milvus Lite logs the traceback of what is reported here.
            logging.getLogger("milvus_lite").setLevel(logging.CRITICAL)
            return MilvusClient(
                self._uri, timeout=self.timeouts.connect, dedicated=True
            )
        except (OSError, MilvusException) as error:
            if not isinstance(error, OSError | ConnectionConfigException):
                raise IndexUnavailable(
                    f"Milvus Lite does not answer: {error}"
                ) from error
            reason = (
                "another process has it open; only one process may (stop the other, "
                "or set LOOKALIKE_MILVUS_URI to a Milvus server)"
                if _is_locked(path)
                else f"{error}"
            )
            raise Misconfigured(f"Milvus Lite cannot open {path}: {reason}.") from error


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn a failure of Milvus into ours; mistakes of our own calls stay as they are.

    Raises:
        IndexUnavailable: Milvus did not do it, for whatever reason.
    """
    try:
        yield
    except (ParamError, DataNotMatchException):
        raise
    except MilvusException as error:
        raise IndexUnavailable(f"Milvus could not {doing}: {error.message}") from error
    except grpc.RpcError as error:
        said = error.details() if isinstance(error, grpc.Call) else error
        raise IndexUnavailable(f"Milvus could not {doing}: {said}") from error
    except OSError as error:
        raise IndexUnavailable(f"Milvus could not {doing}: {error}") from error


def _lite_servers() -> Any:
    from milvus_lite.server_manager import server_manager_instance

    return server_manager_instance


def _is_locked(path: Path) -> bool:
    try:
        with (path / "LOCK").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
