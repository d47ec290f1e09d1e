"""What one process at a time does, and what is done once in a while."""

from __future__ import annotations

from sqlalchemy import ColumnElement, select
from sqlalchemy.dialects import postgresql, sqlite

from lookalike.backends.ledger_database import Database
from lookalike.backends.ledger_tables import lease

SWEEP = "sweep"  # looking for work that no one attends to


def take(database: Database, name: str, owner: str, seconds: float) -> bool:
    """Take a lease that has ended, or prolong one's own; False if another holds it."""
    is_free = (lease.c.until <= _now(database)) | (lease.c.owner == owner)
    return _take(database, name, owner, seconds, is_free)


def take_turn(database: Database, name: str, owner: str, seconds: float) -> bool:
    """Take a lease that has ended; False if it has not, whoever holds it."""
    is_free = lease.c.until <= _now(database)
    return _take(database, name, owner, seconds, is_free)


def seize(database: Database, name: str, owner: str, seconds: float) -> None:
    """Take a lease from whoever holds it."""
    _take(database, name, owner, seconds, lease.c.until.is_not(None))


def _now(database: Database) -> float:
    with database.reading() as connection:
        return database.now(connection)


def _take(
    database: Database,
    name: str,
    owner: str,
    seconds: float,
    is_free: ColumnElement[bool],
) -> bool:
    held = select(lease.c.name).where(lease.c.name == name, ~is_free)
    with database.reading() as connection:
        if connection.execute(held).one_or_none() is not None:
            return False  # found out without a lock, as it is so nearly every time
    made = (sqlite if database.is_sqlite else postgresql).insert(lease)
    # A lease that a power cut undoes is merely taken again.
    with database.writing(durable=False) as connection:
        taken = {"owner": owner, "until": database.now(connection) + seconds}
        statement = made.values(name=name, **taken).on_conflict_do_update(
            index_elements=[lease.c.name], set_=taken, where=is_free
        )
        added = connection.execute(statement.returning(lease.c.name))
        return added.one_or_none() is not None
