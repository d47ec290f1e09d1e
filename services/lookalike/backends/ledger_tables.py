"""The ledger's tables, the same on SQLite and PostgreSQL.

Times are seconds since 1970 by the database's own clock. Text sorts by bytes on both
engines. Metadata is canonical JSON text, so that equal metadata are equal text.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Sequence,
    SmallInteger,
    String,
    Table,
    Text,
    TextClause,
    UniqueConstraint,
    false,
    literal_column,
    text,
)

SCHEMA = 3  # raised whenever a table changes; ledger_schema brings older ones up
MAX_ATTEMPTS = 5
SUSPECT_ATTEMPTS = 2  # after so many tries that no one answered, work is tried alone

metadata = MetaData()

# SQLite compares text by bytes already; PostgreSQL would by the database's locale.
_text = Text().with_variant(Text(collation="C"), "postgresql")
_key = String(32).with_variant(String(32, collation="C"), "postgresql")
# SQLite numbers rows by itself only if the type is exactly INTEGER.
_serial = BigInteger().with_variant(Integer(), "sqlite")
_zero = text("0")
_empty = text("''")
_no_options = text("'{}'")

# The order of operations on images: PostgreSQL has sequences, SQLite one row.
generations = Sequence("generation", metadata=metadata)

schema = Table(
    "schema",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # always 1
    Column("version", Integer, nullable=False),
    Column("generation", BigInteger, nullable=False, server_default=_zero),
    Column("checked_at", Double, nullable=False, server_default=_zero),
)

collection = Table(
    "collection",
    metadata,
    Column("uid", _text, primary_key=True),
    Column("team", _text, nullable=False),
    Column("name", _text, nullable=False),
    Column("fields", _text, nullable=False),
    Column("backbone", _text, nullable=False),
    Column("fingerprint", _text, nullable=False),
    Column("dimension", Integer, nullable=False),
    Column("metric", _text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("options", _text, nullable=False, server_default=_no_options),  # JSON
    UniqueConstraint("team", "name", name="collection_name"),
)

image = Table(
    "image",
    metadata,
    Column("key", _key, primary_key=True),
    Column("collection", _text, ForeignKey("collection.uid"), nullable=False),
    Column("image_id", _text, nullable=False),
    Column("gen", BigInteger, nullable=False),  # its newest operation
    Column("want", _text, nullable=False),  # present | absent
    Column("born_gen", BigInteger, nullable=False),  # older vectors are ghosts
    Column("indexed_gen", BigInteger, nullable=False),  # equals gen: searchable
    Column("failed", _text),  # why the newest operation failed, if it did
    # A late write may have covered the vector that pending work is about to reuse.
    Column("doubtful", Boolean, nullable=False, server_default=false()),
    Column("digest", _text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("format", _text, nullable=False),
    Column("metadata", _text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("signature", LargeBinary),  # of its picture; null: not known
    Column("duplicate_of", _key),  # who was there before, if it was linked
    UniqueConstraint("collection", "image_id", name="image_id"),
    CheckConstraint("want IN ('present', 'absent')", name="image_want"),
)

job = Table(
    "job",
    metadata,
    Column("id", _text, primary_key=True),  # sorts by time
    Column("team", _text, nullable=False),
    Column("collection", _text, nullable=False),  # the uid; it may be gone by now
    Column("collection_name", _text, nullable=False),
    Column("total", BigInteger, nullable=False),
    Column("done", BigInteger, nullable=False, server_default=_zero),
    Column("unchanged", BigInteger, nullable=False, server_default=_zero),
    Column("failed", BigInteger, nullable=False, server_default=_zero),
    Column("superseded", BigInteger, nullable=False, server_default=_zero),
    Column("open", Boolean, nullable=False),  # more parts of the request may come
    Column("created_at", Double, nullable=False),
    Column("touched_at", Double, nullable=False),  # when its last part came
    Column("finished_at", Double),
    Index("job_team", "team", "id"),
    # The database itself refuses to count an image twice.
    CheckConstraint("done + unchanged + failed + superseded <= total", "job_counts"),
)

work = Table(
    "work",
    metadata,
    Column("id", _serial, primary_key=True, autoincrement=True),
    Column("team", _text, nullable=False, server_default=_empty),
    Column("job", _text, ForeignKey("job.id")),  # null: a repair, counted nowhere
    Column("position", Integer, nullable=False),
    Column("collection", _text, nullable=False),  # the uid; it may be gone by now
    Column("key", _key),  # null: refused before it had one
    Column("image_id", _text),
    Column("gen", BigInteger, nullable=False),
    Column("op", _text, nullable=False),  # put | meta | del
    Column("state", _text, nullable=False, server_default="pending"),
    Column("attempts", SmallInteger, nullable=False, server_default=_zero),
    Column("claims", Integer, nullable=False, server_default=_zero),  # never goes down
    Column("lease_until", Double, nullable=False, server_default=_zero),  # 0: not held
    Column("not_before", Double, nullable=False, server_default=_zero),
    Column("hinted_at", Double, nullable=False, server_default=_zero),
    Column("ended_at", Double),
    Column("error_code", _text),
    Column("error_detail", _text),
    Column("retryable", Boolean, nullable=False, server_default=false()),
    CheckConstraint(
        "state IN ('pending', 'done', 'failed', 'superseded')", name="work_state"
    ),
    sqlite_autoincrement=True,  # an id is never used twice, as messages hold ids
)

# Which request a key belongs to, so that one sent again is not recorded again.
idempotency = Table(
    "idempotency",
    metadata,
    Column("team", _text, primary_key=True),
    Column("key", _text, primary_key=True),
    Column("job", _text, nullable=False),
    Column("digest", _text),  # null: the request has not come to its end
    Column("created_at", Double, nullable=False),
    Index("idempotency_age", "created_at"),
)

# What someone found out about two images that look alike, of which a is the lesser key.
# It is about the pictures: it holds as long as both images have these.
verdict = Table(
    "verdict",
    metadata,
    Column("collection", _text, ForeignKey("collection.uid"), primary_key=True),
    Column("a", _key, primary_key=True),
    Column("b", _key, primary_key=True),
    Column("a_digest", _text, nullable=False),
    Column("b_digest", _text, nullable=False),
    Column("verdict", _text, nullable=False),  # duplicate | not_duplicate
    Column("created_at", Double, nullable=False),
    Index("verdict_b", "collection", "b"),
    CheckConstraint("a < b", name="verdict_order"),
    CheckConstraint("verdict IN ('duplicate', 'not_duplicate')", name="verdict_kind"),
)

# What the scores of a collection mean, as it was last found out.
calibration = Table(
    "calibration",
    metadata,
    Column("collection", _text, ForeignKey("collection.uid"), primary_key=True),
    Column("fingerprint", _text, nullable=False),  # of the backbone
    Column("made_at", Double, nullable=False),
    Column("text", _text, nullable=False),  # JSON
)

# What one process at a time does, or what is done once in a while.
lease = Table(
    "lease",
    metadata,
    Column("name", _text, primary_key=True),
    Column("owner", _text, nullable=False),
    Column("until", Double, nullable=False),
)

# Conditions with their constants spelled out: with a bound value, neither engine can
# know that a partial index covers the query.
is_open = text("open")
is_pending = work.c.state == literal_column("'pending'")
is_failed = work.c.state == literal_column("'failed'")
is_present = image.c.want == literal_column("'present'")
is_gone = image.c.want == literal_column("'absent'")
is_finished = job.c.finished_at.is_not(None)
is_unfinished = job.c.finished_at.is_(None)
is_spent = work.c.attempts >= literal_column(str(MAX_ATTEMPTS))


def _index(
    name: str, *columns: Column[Any], where: ColumnElement[bool] | TextClause
) -> None:
    Index(name, *columns, postgresql_where=where, sqlite_where=where)


_index("job_open", job.c.touched_at, where=is_open)
_index("job_finished", job.c.finished_at, where=is_finished)
_index("job_unfinished", job.c.team, where=is_unfinished)
_index("image_gone", image.c.updated_at, where=is_gone)
_index("image_digest", image.c.digest, image.c.collection, where=is_present)
_index("work_due", work.c.team, work.c.hinted_at, work.c.id, where=is_pending)
_index("work_key", work.c.key, where=is_pending)
_index("work_spent", work.c.lease_until, where=is_pending & is_spent)
_index("work_failed", work.c.job, work.c.position, where=is_failed)
Index("work_job", work.c.job, work.c.id)
