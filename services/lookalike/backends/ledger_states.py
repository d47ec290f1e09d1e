"""What the ledger knows of each key of the index, in the order of keys."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, func, literal_column, select

from lookalike.backends.ledger_tables import image, is_pending, work
from lookalike.collections import Collection
from lookalike.interfaces import Digest, ImageKey, KeyState

SORTED_IMAGES = 20_000  # of a collection; they are sorted anew for each page


def read_states(
    connection: Connection, collection: Collection, after: ImageKey | None, limit: int
) -> list[KeyState]:
    """The next keys of a collection, those of deleted images too."""
    # With its limit it is looked up image by image. PostgreSQL would read all work
    # first for what merely has to exist.
    pending = select(work.c.id).where(is_pending, work.c.key == image.c.key).limit(1)
    query = select(image, pending.scalar_subquery().label("pending")).where(
        image.c.key > (after or "")
    )
    if connection.dialect.name == "sqlite" and is_large(connection, collection):
        # Keys are walked in order, whosever they are: SQLite would sort all of the
        # collection's own for each page instead. The plus keeps it from that.
        query = query.where(literal_column("+image.collection") == collection.uid)
    else:
        query = query.where(image.c.collection == collection.uid)
    rows = connection.execute(query.order_by(image.c.key).limit(limit))
    return [_to_state(row) for row in rows]


def is_large(connection: Connection, collection: Collection) -> bool:
    """Whether a collection has so many images that they are not sorted each time."""
    some = select(image.c.image_id).where(image.c.collection == collection.uid)
    counted = some.limit(SORTED_IMAGES + 1).subquery()
    count = connection.scalar(select(func.count()).select_from(counted))
    return bool(count and count > SORTED_IMAGES)


def _to_state(row: Row[Any]) -> KeyState:
    return KeyState(
        key=ImageKey(row.key),
        gen=row.gen,
        born_gen=row.born_gen,
        indexed_gen=row.indexed_gen,
        want=row.want,
        has_pending=row.pending is not None,
        failed=row.failed,
        digest=Digest(row.digest),
    )
