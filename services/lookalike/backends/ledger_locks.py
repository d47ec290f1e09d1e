"""The ledger's locks, taken in one order so that no two transactions wait in a ring.

The order: collections by uid, an idempotency key, images by key, work by id, jobs by
id. Work of other teams is taken beyond that order, but never waited for. Leases, and
the row that a check writes, are alone in their transactions. SQLite has one writer at a
time and takes none of these locks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, literal, select

from lookalike.backends.ledger_tables import image, is_pending, work
from lookalike.backends.ledger_values import chunks

COLLECTIONS = 0x636F6C6C  # tells these locks from others on the same server


def hold_collections(connection: Connection, uids: Iterable[str]) -> None:
    """Until the commit none of those collections can be deleted.

    Not a lock on the rows: a deletion would wait for them for as long as new requests
    keep coming. Here they queue behind it.
    """
    _lock_collections(connection, uids, "pg_advisory_xact_lock_shared")


def seize_collection(connection: Connection, uid: str) -> None:
    """Wait for all who hold the collection; until the commit no one else can."""
    _lock_collections(connection, [uid], "pg_advisory_xact_lock")


def _lock_collections(connection: Connection, uids: Iterable[str], how: str) -> None:
    if connection.dialect.name != "postgresql":
        return
    for uid in sorted(set(uids)):
        name = func.hashtextextended(literal(uid), COLLECTIONS)
        connection.execute(select(getattr(func, how)(name)))


def known_keys(
    connection: Connection, keys: Iterable[str], *conditions: ColumnElement[bool]
) -> set[str]:
    """Those of the images that have a row now. No lock: more may have one soon."""
    found: set[str] = set()
    for chunk in chunks(sorted(keys)):
        query = select(image.c.key).where(image.c.key.in_(chunk), *conditions)
        found.update(connection.execute(query).scalars())
    return found


def lock_images(connection: Connection, keys: Iterable[str]) -> dict[str, Row[Any]]:
    """The rows of those images that exist, in order of key, locked."""
    found: dict[str, Row[Any]] = {}
    for chunk in chunks(sorted(set(keys))):
        rows = connection.execute(
            select(image)
            .where(image.c.key.in_(chunk))
            .order_by(image.c.key)
            .with_for_update()
        )
        found.update((row.key, row) for row in rows)
    return found


def lock_pending(
    connection: Connection,
    ids: Iterable[int],
    *conditions: ColumnElement[bool],
    skip_locked: bool = False,
) -> list[Row[Any]]:
    """The rows of that work that is pending, in order of id, locked.

    With ``skip_locked`` those that another has locked are left out, not waited for.
    """
    found: list[Row[Any]] = []
    for chunk in chunks(sorted(set(ids))):
        rows = connection.execute(
            select(work)
            .where(work.c.id.in_(chunk), is_pending, *conditions)
            .order_by(work.c.id)
            .with_for_update(skip_locked=skip_locked)
        )
        found.extend(rows)
    return found
