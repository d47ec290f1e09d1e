"""One connection to Milvus: a server, or Milvus Lite opened by this process alone."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
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

from lookalike.backends.milvus_guard import Guard, Timeouts
from lookalike.errors import IndexUnavailable, Misconfigured

NOT_LOADED = 101  # Milvus' code for a collection that is not in memory


# Connecting is also what pymilvus does again within a call when a server was away.
SERVER_TIMEOUTS = Timeouts(connect=2, search=2, write=20, admin=60)
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
        self._process = 0
        # pymilvus logs a traceback for every failed call, values included.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)

    @property
    def client(self) -> Any:
        """The pymilvus client of this process; a server's is guarded.

        Raises:
            IndexUnavailable: Milvus Lite does not answer.
            Misconfigured: Milvus Lite cannot be opened.
        """
        if self._client is None or self._process != os.getpid():
            with self._lock:
                if self._client is None or self._process != os.getpid():
                    self._client = self._open_lite() if self.is_lite else self._guard()
                    self._process = os.getpid()
        return self._client

    def connect(self) -> None:
        """Open the engine now rather than on first use.

        Raises:
            IndexUnavailable: the server does not answer.
            Misconfigured: Milvus Lite cannot be opened.
        """
        client = self.client
        if not self.is_lite:
            client.connected()

    def within(self, seconds: float) -> AbstractContextManager[None]:
        """All calls of this thread in the block together take no longer than this."""
        if self.is_lite:
            return nullcontext()
        guard: Guard = self.client
        return guard.within(seconds)

    def close(self) -> None:
        """Let go of the client, and of Milvus Lite with its lock."""
        with self._lock:
            client, self._client = self._client, None
            if client is None or self._process != os.getpid():
                return
            client.close()
            if self.is_lite:
                _lite_servers().release_server(self._uri)

    def _guard(self) -> Guard:
        return Guard(self._open_server, self.timeouts, self._uri)

    def _open_server(self) -> Any:
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
