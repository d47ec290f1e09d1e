"""What the contract of the ledger is held against."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ledgers import DATABASES, a_collection, new_database, opened
from lookalike.backends.ledger import SqlLedger
from lookalike.collections import Collection


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of this test's own."""
    return new_database(request.param, tmp_path)


@pytest.fixture
def ledger(url: str) -> Iterator[SqlLedger]:
    """A ledger on it."""
    with opened(url) as ledger:
        yield ledger


@pytest.fixture
def later(url: str, ledger: SqlLedger) -> Iterator[SqlLedger]:
    """The same ledger for whom every lease is over and every ring long ago."""
    with opened(url, lease_seconds=0, ring_again_seconds=0) as later:
        yield later


@pytest.fixture
def shop(ledger: SqlLedger) -> Collection:
    """A collection that it knows."""
    collection = a_collection()
    ledger.create_collection(collection)
    return collection
