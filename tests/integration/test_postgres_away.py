"""A real PostgreSQL server that hangs or dies, and what the ledger says meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from ledgers import a_collection, images
from lookalike.backends.ledger import SqlLedger
from lookalike.collections import DEFAULT_TEAM, Collection
from lookalike.errors import LedgerUnavailable
from servers.postgres import PostgresServer, postgres_programs

pytestmark = [
    pytest.mark.postgres_server,
    pytest.mark.skipif(postgres_programs() is None, reason="no PostgreSQL here"),
]

HANG_SECONDS = 8.0  # until a call to a server that hangs has failed
OPEN_SECONDS = 0.1  # the same once that is known


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    made = PostgresServer()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def ledger(server: PostgresServer) -> Iterator[SqlLedger]:
    made = SqlLedger(server.new_database())
    yield made
    made.close()


@pytest.fixture
def collection(ledger: SqlLedger) -> Collection:
    made = a_collection()
    ledger.create_collection(made)
    return made


@contextmanager
def hanging(server: PostgresServer) -> Iterator[None]:
    server.freeze()
    try:
        yield
    finally:
        server.thaw()


def seconds_to_fail(call: Callable[[], object]) -> float:
    started = time.monotonic()
    with pytest.raises(LedgerUnavailable):
        call()
    return time.monotonic() - started


def answers(ledger: SqlLedger) -> bool:
    try:
        ledger.check()
    except LedgerUnavailable:
        return False
    return True


def wait_until_it_answers(ledger: SqlLedger) -> None:
    deadline = time.monotonic() + 20
    while not answers(ledger):
        assert time.monotonic() < deadline
        threading.Event().wait(0.1)


def test_while_it_hangs_calls_fail_soon_then_at_once_and_go_on_afterwards(
    server: PostgresServer, ledger: SqlLedger, collection: Collection
) -> None:
    ledger.accept(collection, images("a"))
    with hanging(server), ThreadPoolExecutor(16) as pool:
        calls = [lambda: ledger.collections(DEFAULT_TEAM)] * 16
        first = list(pool.map(seconds_to_fail, calls))
        after = list(pool.map(seconds_to_fail, calls * 5))
        accept = seconds_to_fail(lambda: ledger.accept(collection, images("b")))

    assert max(first) < HANG_SECONDS
    assert max(*after, accept) < OPEN_SECONDS
    wait_until_it_answers(ledger)
    assert ledger.accept(collection, images("b")).job.total == 1


def test_a_transaction_that_meets_a_hung_server_ends_after_its_deadline(
    server: PostgresServer, collection: Collection, ledger: SqlLedger
) -> None:
    with hanging(server):
        taken = seconds_to_fail(lambda: ledger.accept(collection, images("c")))

    assert taken < HANG_SECONDS
    wait_until_it_answers(ledger)


def test_after_a_kill_it_is_found_again(
    server: PostgresServer, ledger: SqlLedger, collection: Collection
) -> None:
    server.kill()
    down = [seconds_to_fail(lambda: ledger.collections(DEFAULT_TEAM)) for _ in range(5)]

    server.start()

    wait_until_it_answers(ledger)
    assert max(down) < 1
    assert ledger.collections(DEFAULT_TEAM) == [collection]
