"""What the contracts of the ledger and of the index are held against."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes import MemoryIndex
from ledgers import DATABASES, a_collection, new_database, opened
from lookalike.backends.ledger import SqlLedger
from lookalike.backends.milvus import MilvusIndex
from lookalike.collections import Collection
from lookalike.interfaces import VectorIndex
from servers.milvus import ServerMissing, milvus_server


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


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a Milvus server."""
    try:
        with milvus_server() as uri:
            yield uri
    except ServerMissing as reason:
        pytest.skip(f"no Milvus server: {reason}")


@pytest.fixture(
    scope="module",
    params=[
        "memory",
        "lite",
        pytest.param("server", marks=pytest.mark.milvus_server),
    ],
)
def index(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[VectorIndex]:
    """The fake and each real index; what was written before a read is seen by it."""
    made: VectorIndex
    match request.param:
        case "memory":
            made = MemoryIndex()
        case "lite":
            made = MilvusIndex(str(tmp_path_factory.mktemp("lite") / "milvus.db"))
        case _:
            uri = request.getfixturevalue("server")
            made = MilvusIndex(uri, consistency="Strong")
    yield made
    made.close()
