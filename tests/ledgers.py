"""Ledgers on real databases, and what tests put into them."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from lookalike.backends.ledger import SqlLedger
from lookalike.collections import (
    DEFAULT_TEAM,
    Collection,
    CollectionUid,
    FieldType,
    Metadata,
    Metric,
    Team,
)
from lookalike.interfaces import (
    Accepted,
    Digest,
    Failure,
    ImageId,
    NewImage,
    Outcome,
    Result,
    Work,
    WorkId,
)
from servers.postgres import postgres_programs, shared_postgres

DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres_server)]

_uids = itertools.count(1)


def new_database(kind: str, folder: Path) -> str:
    """The URL of a new database; skips the test if it cannot be had."""
    if kind == "sqlite":
        return f"sqlite:///{folder / 'ledger.sqlite3'}"
    if postgres_programs() is None:
        pytest.skip("no PostgreSQL here: install the Debian package postgresql")
    return shared_postgres().new_database()


@contextmanager
def opened(
    url: str,
    *,
    lease_seconds: int = 180,
    ring_again_seconds: float = 30,
    sweep_lease_seconds: float = 0,
    idempotency_hours: float = 48,
) -> Iterator[SqlLedger]:
    """A ledger for the time of the block; any number may sweep unless told."""
    ledger = SqlLedger(
        url,
        lease_seconds=lease_seconds,
        ring_again_seconds=ring_again_seconds,
        sweep_lease_seconds=sweep_lease_seconds,
        idempotency_hours=idempotency_hours,
    )
    try:
        yield ledger
    finally:
        ledger.close()


def a_collection(name: str = "shop", team: Team = DEFAULT_TEAM) -> Collection:
    """A collection that no ledger knows yet."""
    return Collection(
        uid=CollectionUid(f"uid{next(_uids)}"),
        team=team,
        name=name,
        fields={"tags": FieldType.STRINGS, "price": FieldType.FLOAT},
        backbone="resnet18",
        fingerprint="f" * 64,
        dimension=512,
        metric=Metric.COSINE,
        created_at=datetime.now(UTC),
    )


def an_image(
    image_id: str,
    *,
    position: int = 0,
    content: str = "",
    metadata: Metadata | None = None,
) -> NewImage:
    """An image as a request brings it; other content is another digest."""
    return NewImage(
        position=position,
        id=ImageId(image_id),
        digest=Digest(hashlib.sha256((content or image_id).encode()).hexdigest()),
        bytes=1234,
        width=40,
        height=30,
        format="JPEG",
        metadata={"price": 1.5} if metadata is None else metadata,
    )


def images(*ids: str) -> list[NewImage]:
    """One image of each id, in order."""
    return [an_image(one, position=place) for place, one in enumerate(ids)]


def a_failure(position: int, code: str = "image_broken") -> Failure:
    """An entry that was refused when its request came."""
    return Failure(position, ImageId(f"bad{position}"), code, "It is broken.", False)


def done(works: list[Work]) -> list[Result]:
    """That all of it went well."""
    return [Result(work.id, Outcome.DONE) for work in works]


def failed(works: list[Work], code: str = "image_broken") -> list[Result]:
    """That all of it failed."""
    return [
        Result(work.id, Outcome.FAILED, code, "It is broken.", retryable=False)
        for work in works
    ]


def index_all(ledger: SqlLedger, accepted: Accepted) -> list[Work]:
    """Do the work that a request made."""
    works = ledger.claim(accepted.work)
    ledger.finish(done(works))
    return works


def ids(works: list[Work]) -> list[WorkId]:
    """The ids of claimed work."""
    return [work.id for work in works]


def an_hour_passes(url: str) -> None:
    """Make everything the ledger recorded an hour older than it is."""
    execute(
        url,
        "UPDATE work SET lease_until = lease_until - 3700 WHERE lease_until > 0",
        "UPDATE work SET not_before = not_before - 3700, hinted_at = hinted_at - 3700",
        "UPDATE job SET touched_at = touched_at - 3700",
        "UPDATE lease SET until = until - 3700",
    )


def execute(url: str, *statements: str) -> None:
    """Change a database behind the ledger's back."""
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def days_pass(url: str, days: float) -> None:
    """Make everything the ledger recorded so much older than it is."""
    seconds = days * 86_400
    execute(
        url,
        f"UPDATE work SET ended_at = ended_at - {seconds}",
        f"UPDATE job SET created_at = created_at - {seconds}, "
        f"touched_at = touched_at - {seconds}, finished_at = finished_at - {seconds}",
        f"UPDATE image SET updated_at = updated_at - {seconds}",
        f"UPDATE idempotency SET created_at = created_at - {seconds}",
    )
