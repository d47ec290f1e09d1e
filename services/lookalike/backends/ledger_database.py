"""The database under the ledger: connections, transactions, clock and counter."""

from __future__ import annotations

import errno
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, create_engine, event, select, text
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from lookalike.backends import ledger_tables as tables
from lookalike.backends.ledger_guard import Guard, allow
from lookalike.backends.ledger_schema import is_current, prepare
from lookalike.errors import LedgerUnavailable, Misconfigured, StorageFull

CONNECT_SECONDS = 5
BUSY_SECONDS = 30  # how long a writer waits for another writer's transaction
STATEMENT_SECONDS = 30
UPGRADE_SECONDS = 3600  # a large database of an older version takes its time

# Not only when it writes pages: its shared memory is a file, too.
SQLITE_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)
POSTGRESQL_FULL = "53100"

SQLITE_CLOCK = text("SELECT (julianday('now') - 2440587.5) * 86400.0")
POSTGRESQL_CLOCK = text("SELECT CAST(extract(epoch FROM clock_timestamp()) AS float8)")
SQLITE_NEXT = text("UPDATE schema SET generation = generation + 1 RETURNING generation")
POSTGRESQL_NEXT = select(tables.generations.next_value())


class Database:
    """Transactions on SQLite or PostgreSQL.

    Every failure is ``LedgerUnavailable``; a disk without room is ``StorageFull``.

    Raises:
        Misconfigured: the URL cannot be used, or a newer Lookalike wrote the schema.
        LedgerUnavailable: the database does not answer.
    """

    def __init__(self, url: str) -> None:
        parsed = _parse(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self._engine = _open_sqlite(parsed) if self.is_sqlite else _open_server(parsed)
        # SQLite has one writer at a time. Threads queue here, where they are woken as
        # soon as it is their turn; between processes SQLite itself polls.
        self._turn = threading.Lock()
        try:
            with self.reading() as connection:
                is_ready = is_current(connection)
            if not is_ready:  # only then may it take long
                with self.writing(seconds=UPGRADE_SECONDS) as connection:
                    prepare(connection)
        except BaseException:
            self._engine.dispose()
            raise

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for single statements, each a transaction of its own."""
        with _translated():
            if self.is_sqlite:
                with self._engine.connect() as connection:
                    yield connection
            else:
                engine = self._engine.execution_options(isolation_level="AUTOCOMMIT")
                with engine.connect() as connection:
                    yield connection

    def fetch(self, sql: str, parameters: Sequence[object]) -> Sequence[Sequence[Any]]:
        """Rows of one statement with ``?`` for each parameter, read as it is.

        For what every search asks: SQLAlchemy's own work on a statement takes three
        times as long as SQLite's.
        """
        with _translated():
            if not self.is_sqlite:
                with self.reading() as connection:
                    plain = sql.replace("?", "%s")
                    return connection.exec_driver_sql(plain, tuple(parameters)).all()
            raw = self._engine.raw_connection()
            try:
                cursor = raw.cursor()
                cursor.execute(sql, tuple(parameters))
                return cursor.fetchall()
            finally:
                raw.close()

    @contextmanager
    def writing(
        self, *, seconds: int = STATEMENT_SECONDS, durable: bool = True
    ) -> Iterator[Connection]:
        """One transaction: durable after the block, undone if the block raises.

        One that is not ``durable`` survives the end of any process all the same; only
        a power cut may undo it, if nothing durable was written after it.
        """
        with _translated():
            if self.is_sqlite:
                with self._my_turn(), self._engine.begin() as connection:
                    level = "FULL" if durable else "NORMAL"
                    connection.exec_driver_sql(f"PRAGMA synchronous = {level}")
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                    yield connection
            else:
                with self._engine.begin() as connection:
                    if seconds != STATEMENT_SECONDS:
                        connection.exec_driver_sql(
                            f"SET LOCAL statement_timeout = '{seconds}s'"
                        )
                        allow(connection.connection.dbapi_connection, seconds)
                    yield connection

    def now(self, connection: Connection) -> float:
        """Seconds since 1970 by the database's clock."""
        clock = SQLITE_CLOCK if self.is_sqlite else POSTGRESQL_CLOCK
        return float(connection.execute(clock).scalar_one())

    def next_generation(self, connection: Connection) -> int:
        """The next number in the order of all operations.

        Taken after the images it is for are locked, it grows for each image.
        """
        following = SQLITE_NEXT if self.is_sqlite else POSTGRESQL_NEXT
        return int(connection.execute(following).scalar_one())

    def close(self) -> None:
        """Close every connection that is not in use."""
        self._engine.dispose()

    @contextmanager
    def _my_turn(self) -> Iterator[None]:
        if not self._turn.acquire(timeout=BUSY_SECONDS):
            raise LedgerUnavailable("The ledger is too busy to write to.")
        try:
            yield
        finally:
            self._turn.release()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        cause = getattr(error, "orig", None) or error
        if _is_full(cause):
            raise StorageFull(
                "The disk of the ledger's database is full; an operator has to make "
                "room."
            ) from error
        raise LedgerUnavailable(
            f"The ledger's database does not answer ({type(cause).__name__})."
        ) from error


def _is_full(cause: BaseException) -> bool:
    """Whether a driver's error says that there is no room left to write."""
    if isinstance(cause, sqlite3.Error):
        return getattr(cause, "sqlite_errorcode", None) in SQLITE_FULL
    if isinstance(cause, OSError):
        return cause.errno in (errno.ENOSPC, errno.EDQUOT)
    return getattr(cause, "sqlstate", None) == POSTGRESQL_FULL


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise Misconfigured(
            "LOOKALIKE_DATABASE_URL is no database URL; expected something like "
            "postgresql+psycopg://user:password@host/database."
        ) from error
    if parsed.drivername in ("postgres", "postgresql"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername == "postgresql+psycopg":
        return parsed
    if parsed.get_backend_name() == "sqlite" and parsed.database not in (
        None,
        "",
        ":memory:",
    ):
        return parsed
    raise Misconfigured(
        "LOOKALIKE_DATABASE_URL names a database that Lookalike cannot use; it works "
        "with postgresql+psycopg://… and with sqlite:///… followed by a file's path."
    )


def _open_sqlite(url: URL) -> Engine:
    if sqlite3.sqlite_version_info < (3, 35):
        raise Misconfigured(
            f"SQLite {sqlite3.sqlite_version} is too old; 3.35 or newer is needed."
        )
    assert url.database is not None
    with _translated():
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(
            url,
            connect_args={"timeout": BUSY_SECONDS},
            hide_parameters=True,  # errors are logged; metadata are the users' own
            pool_size=16,
            max_overflow=-1,  # a thread that reads never waits for one that writes
            pool_reset_on_return=None,  # reads open no transaction; writes end theirs
            pool_use_lifo=True,  # the connection used last has its pages at hand
        )
    event.listen(engine, "connect", _set_up_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _record: object) -> None:
    # The driver's own transactions begin as readers, and a reader that turns writer
    # fails at once when another writes. BEGIN IMMEDIATE waits instead.
    connection.isolation_level = None
    _use_wal(connection)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _use_wal(connection: sqlite3.Connection) -> None:
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            # Changing the mode of a new file does not wait for other processes.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _open_server(url: URL) -> Engine:
    milliseconds = STATEMENT_SECONDS * 1000
    try:
        engine = create_engine(
            url,
            hide_parameters=True,  # errors are logged; metadata are the users' own
            pool_pre_ping=True,
            pool_use_lifo=True,  # as above
            # Opened as they are needed, and kept. To open one takes longer than what a
            # search asks of it, and with fewer kept a burst of uploads has searches
            # open new ones.
            pool_size=16,
            max_overflow=0,
            pool_timeout=STATEMENT_SECONDS,
            connect_args={
                "connect_timeout": CONNECT_SECONDS,
                # A process that hangs inside a transaction must not hold its locks.
                "options": f"-c statement_timeout={milliseconds} "
                f"-c idle_in_transaction_session_timeout={2 * milliseconds}",
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
            },
        )
    except (ImportError, NoSuchModuleError) as error:
        raise Misconfigured("PostgreSQL needs the package psycopg[binary].") from error
    Guard(STATEMENT_SECONDS).listen(engine)
    event.listen(engine, "connect", _set_up_server)
    return engine


def _set_up_server(connection: Any, _record: object) -> None:
    # A commit that may be lost is no commit, whatever the server's default says.
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('synchronous_commit', 'on', false) "
            "WHERE current_setting('synchronous_commit') = 'off'"
        )
    connection.commit()
