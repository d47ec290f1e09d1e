"""The ledger's own tables, read beside the product's code."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import sqlalchemy
from sqlalchemy import Row, text

PENDING = text("SELECT count(*) FROM work WHERE state = 'pending'")
DONE = text("SELECT coalesce(sum(done), 0) FROM job")
IMAGES = text(
    "SELECT image_id, key, want, gen, born_gen, indexed_gen, failed, digest, metadata "
    "FROM image "
    "WHERE collection = (SELECT uid FROM collection WHERE name = 'faults')"
)
JOBS = text(
    "SELECT id, total, done, unchanged, failed, superseded, open, finished_at FROM job"
)
ENDS = text("SELECT job, state, count(*) FROM work GROUP BY job, state")
COLLECTION = text("SELECT uid FROM collection WHERE name = 'faults'")
RETRIES = text("SELECT coalesce(sum(claims - 1), 0) FROM work WHERE claims > 1")
REPAIRS = text("SELECT count(*) FROM work WHERE job IS NULL")
REASONS = text(
    "SELECT error_code, count(*) FROM work WHERE state = 'failed' GROUP BY error_code"
)


@dataclass(frozen=True)
class Records:
    """What the ledger says."""

    collection: str
    images: list[Row[Any]]
    jobs: list[Row[Any]]
    ends: dict[str | None, Counter[str]]  # of work, by job
    failures: dict[str, int]  # by code
    repeats: int
    repairs: int


def read(url: str) -> Records:
    """Everything, once nothing changes any more."""
    with connected(url) as connection:
        ends: dict[str | None, Counter[str]] = {}
        for job, state, count in connection.execute(ENDS):
            ends.setdefault(job, Counter())[state] = count
        return Records(
            collection=str(connection.execute(COLLECTION).scalar_one()),
            images=list(connection.execute(IMAGES)),
            jobs=list(connection.execute(JOBS)),
            ends=ends,
            failures={str(code): count for code, count in connection.execute(REASONS)},
            repeats=int(connection.execute(RETRIES).scalar_one()),
            repairs=int(connection.execute(REPAIRS).scalar_one()),
        )


def number(url: str, query: sqlalchemy.TextClause) -> int:
    """What a query counts."""
    with connected(url) as connection:
        return int(connection.execute(query).scalar_one())


def connected(url: str) -> sqlalchemy.Connection:
    """A connection of one's own to the ledger's database."""
    engine = sqlalchemy.create_engine(
        url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool
    )
    return engine.connect()
