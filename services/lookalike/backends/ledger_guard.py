"""Deadlines for a PostgreSQL server that the client keeps: one that hangs keeps none.

``statement_timeout`` is the server's own, and TCP keeps a connection alive as long as
the machine behind it answers. Neither helps when the server's processes stand still.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from typing import Any

import psycopg
from psycopg.abc import PQGen
from psycopg.errors import ConnectionTimeout
from sqlalchemy import event
from sqlalchemy.engine import Engine

from lookalike.backends.breaker import Breaker

log = logging.getLogger(__name__)

PING_SECONDS = 2.0  # the pool asks each connection before it hands it out
PROBE_SECONDS = 1.0  # between two looks whether a server that hung is back


class GuardedConnection(psycopg.Connection[Any]):
    """A connection whose statements end in time, with an answer or without."""

    guard: Guard | None = None
    is_pooled = False  # nobody has it yet: what comes next is the pool's ping
    allowed_seconds = 0.0  # more than usual, for the transaction that is open

    def wait(
        self, gen: PQGen[Any], interval: float = 0.1, timeout: float | None = None
    ) -> Any:
        """Carry out a conversation with the server.

        Raises:
            psycopg.OperationalError: no answer in time; the connection is closed.
        """
        if self.guard is None:
            return super().wait(gen, interval, timeout or PING_SECONDS)
        seconds = self.guard.patience(self) if timeout is None else timeout
        started = time.monotonic()
        try:
            answer = super().wait(gen, interval, seconds)
        except psycopg.OperationalError:
            if timeout is None and time.monotonic() - started >= seconds:
                self.pgconn.finish()  # in the middle of a conversation: of no more use
                self.guard.hung()
            raise
        self.guard.answered()
        return answer


def allow(connection: object, seconds: float) -> None:
    """Let the statements of this connection's open transaction take so long."""
    if isinstance(connection, GuardedConnection):
        connection.allowed_seconds = seconds


class Guard:
    """Opens the connections of one engine, and turns callers away while it hangs.

    Three conversations in a row without an answer open a breaker; a thread closes it
    as soon as the server answers again, so that no caller pays for trying.

    Args:
        statement_seconds: a statement may take so long, plus a little.
    """

    def __init__(self, statement_seconds: float) -> None:
        self._statement_seconds = statement_seconds + PING_SECONDS
        self._breaker = Breaker(failures=3, seconds=math.inf)
        self._lock = threading.Lock()
        self._probing: threading.Thread | None = None
        self._address: dict[str, Any] = {}

    def _opened(
        self, _dialect: Any, _record: Any, _arguments: Any, options: dict[str, Any]
    ) -> psycopg.Connection[Any]:
        self._refuse_while_it_hangs()
        self._address = options
        try:
            made = GuardedConnection.connect(**options)
        except ConnectionTimeout:
            self.hung()
            raise
        made.guard = self
        return made

    def listen(self, engine: Engine) -> None:
        """Open this engine's connections, and know which are in its pool."""
        event.listen(engine, "do_connect", self._opened)
        event.listen(engine, "checkin", _pooled)
        event.listen(engine, "checkout", _handed_out)

    def patience(self, connection: GuardedConnection) -> float:
        """How many seconds the next conversation may take.

        Raises:
            psycopg.OperationalError: the server hangs.
        """
        self._refuse_while_it_hangs()
        if connection.is_pooled:
            return PING_SECONDS
        return max(self._statement_seconds, connection.allowed_seconds + PING_SECONDS)

    def answered(self) -> None:
        """The server answered, whatever it said."""
        self._breaker.worked()

    def hung(self) -> None:
        """The server did not answer in time."""
        self._breaker.failed()
        if not self._breaker.is_open:
            return
        with self._lock:
            if self._probing is None or not self._probing.is_alive():
                log.warning("PostgreSQL does not answer")
                self._probing = threading.Thread(
                    target=self._probe, name="postgres-probe", daemon=True
                )
                self._probing.start()

    def _refuse_while_it_hangs(self) -> None:
        if self._breaker.is_open:
            raise psycopg.OperationalError(
                "the server does not answer; it is tried again each second"
            )

    def _probe(self) -> None:
        pause = threading.Event()
        options = {**self._address, "connect_timeout": int(PING_SECONDS)}
        while not pause.wait(PROBE_SECONDS):
            try:
                with GuardedConnection.connect(**options) as connection:
                    connection.execute("SELECT 1")
            except (psycopg.Error, OSError) as error:
                log.debug("PostgreSQL is still away: %s", error)
            else:
                self.answered()
                log.info("PostgreSQL answers again")
                return


def _pooled(connection: object, _record: object) -> None:
    if isinstance(connection, GuardedConnection):
        connection.is_pooled, connection.allowed_seconds = True, 0.0


def _handed_out(connection: object, _record: object, _holder: object) -> None:
    if isinstance(connection, GuardedConnection):
        connection.is_pooled = False
