"""What keeps the ledger and the index in order, and ledgers of older versions."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect

from ledgers import (
    a_collection,
    a_failure,
    an_image,
    days_pass,
    done,
    failed,
    images,
    index_all,
    new_database,
    opened,
)
from lookalike.backends.ledger import SqlLedger
from lookalike.backends.ledger_database import Database
from lookalike.collections import (
    AUTOMATIC,
    DEFAULT_TEAM,
    Collection,
    DuplicatePolicy,
    Team,
)
from lookalike.errors import CollectionNotFound, JobNotFound, StorageFull
from lookalike.interfaces import (
    Digest,
    Hit,
    Idempotency,
    ImageId,
    ImageKey,
    ImageState,
    JobId,
    Operation,
    image_key,
)
from schema_1 import build_schema_1
from schema_2 import build_schema_2

OTHER_TEAM = Team("other")
KEY = Idempotency("request-1", "digest-1")


def key_of(collection: Collection, image_id: str) -> ImageKey:
    return image_key(collection.team, collection.uid, ImageId(image_id))


# --- states --------------------------------------------------------------------------


def test_states_come_in_order_of_key_with_those_of_deleted_images(
    ledger: SqlLedger, shop: Collection
) -> None:
    other = a_collection("other")
    ledger.create_collection(other)
    accepted = ledger.accept(shop, images("indexed", "failed", "gone", "waiting"))
    ledger.accept(other, images("elsewhere"))
    works = {work.image_id: work for work in ledger.claim(accepted.work)}
    ledger.finish(done([works[ImageId("indexed")], works[ImageId("gone")]]))
    ledger.finish(failed([works[ImageId("failed")]]))
    index_all(ledger, ledger.delete_images(shop, [ImageId("gone")]))

    states = ledger.states(shop, None, 10)

    assert [state.key for state in states] == sorted(
        key_of(shop, one) for one in ("indexed", "failed", "gone", "waiting")
    )
    by_key = {state.key: state for state in states}
    indexed, broken, gone, waiting = (
        by_key[key_of(shop, one)] for one in ("indexed", "failed", "gone", "waiting")
    )
    assert (indexed.indexed_gen, indexed.want) == (indexed.gen, "present")
    assert (indexed.has_pending, indexed.failed) == (False, None)
    assert indexed.digest == an_image("indexed").digest
    assert (broken.failed, broken.has_pending) == ("image_broken", False)
    assert (gone.want, gone.indexed_gen) == ("absent", gone.gen)
    assert gone.born_gen < gone.gen
    assert (waiting.indexed_gen, waiting.has_pending) == (0, True)


@pytest.mark.parametrize("sorted_images", [0, 1_000])
def test_states_are_given_in_pages(
    ledger: SqlLedger,
    shop: Collection,
    sorted_images: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lookalike.backends.ledger_states.SORTED_IMAGES", sorted_images)
    other = a_collection("other")
    ledger.create_collection(other)
    for collection in (shop, other):
        ledger.accept(collection, images(*(f"{n}" for n in range(25))))
    pages = []

    after: ImageKey | None = None
    while page := ledger.states(shop, after, 10):
        pages.append(page)
        after = page[-1].key

    keys = [state.key for page in pages for state in page]
    assert [len(page) for page in pages] == [10, 10, 5]
    assert keys == sorted(key_of(shop, f"{n}") for n in range(25))


# --- repair --------------------------------------------------------------------------


def test_a_repair_writes_the_newest_state_once_more(
    ledger: SqlLedger, shop: Collection
) -> None:
    index_all(ledger, ledger.accept(shop, images("kept", "gone")))
    index_all(ledger, ledger.delete_images(shop, [ImageId("gone")]))
    jobs = ledger.jobs(DEFAULT_TEAM, None, 10)

    made = ledger.repair(shop, [key_of(shop, "kept"), key_of(shop, "gone")])

    works = {work.image_id: work for work in ledger.claim(made)}
    kept = works[ImageId("kept")]
    assert (kept.operation, kept.digest) == (Operation.PUT, an_image("kept").digest)
    assert works[ImageId("gone")].operation is Operation.DELETE
    assert ledger.finish(done(list(works.values()))) == []
    assert ledger.image(shop, ImageId("kept")).state is ImageState.INDEXED
    assert ledger.jobs(DEFAULT_TEAM, None, 10) == jobs
    assert not ledger.has_pending()


def test_a_repair_is_due_again_if_its_message_is_lost(
    url: str, ledger: SqlLedger, shop: Collection
) -> None:
    index_all(ledger, ledger.accept(shop, images("a")))

    made = ledger.repair(shop, [key_of(shop, "a")])

    assert ledger.due(10) == []
    with opened(url, ring_again_seconds=0) as later:
        assert later.due(10) == made


def test_nothing_is_repaired_that_waits_failed_or_is_unknown(
    ledger: SqlLedger, shop: Collection
) -> None:
    other = a_collection("other")
    ledger.create_collection(other)
    index_all(ledger, ledger.accept(other, images("elsewhere")))
    broken = ledger.accept(shop, images("broken"))
    ledger.finish(failed(ledger.claim(broken.work)))
    ledger.accept(shop, images("waiting"))
    index_all(ledger, ledger.accept(shop, images("fine")))
    first = ledger.repair(shop, [key_of(shop, "fine")])

    again = ledger.repair(
        shop,
        [
            *(key_of(shop, one) for one in ("broken", "waiting", "fine", "nothing")),
            key_of(other, "elsewhere"),
        ],
    )

    assert len(first) == 1
    assert again == []


def test_a_deleted_collection_is_not_repaired(
    ledger: SqlLedger, shop: Collection
) -> None:
    ledger.delete_collection(shop)

    with pytest.raises(CollectionNotFound):
        ledger.repair(shop, [key_of(shop, "a")])


# --- originals -----------------------------------------------------------------------


def test_digests_are_named_by_the_images_that_there_are(
    ledger: SqlLedger, shop: Collection
) -> None:
    foreign = a_collection("foreign", OTHER_TEAM)
    ledger.create_collection(foreign)
    ledger.accept(shop, images("waiting", "gone"))
    index_all(ledger, ledger.accept(shop, [an_image("new", content="before")]))
    index_all(ledger, ledger.accept(shop, [an_image("new", content="after")]))
    ledger.finish(failed(ledger.claim(ledger.accept(shop, images("broken")).work)))
    ledger.delete_images(shop, [ImageId("gone")])
    ledger.accept(foreign, images("foreign"))
    every = [
        an_image("", content=content).digest
        for content in ("waiting", "gone", "before", "after", "broken", "foreign", "-")
    ]

    named = ledger.named_digests(DEFAULT_TEAM, every)

    assert named == {every[0], every[3], every[4]}
    assert ledger.named_digests(OTHER_TEAM, every) == {every[5]}
    assert ledger.named_digests(DEFAULT_TEAM, []) == set()


def test_thousands_of_digests_are_looked_up_at_once(
    ledger: SqlLedger, shop: Collection
) -> None:
    entries = images(*(f"{n}" for n in range(1200)))
    ledger.accept(shop, entries)
    every = [entry.digest for entry in entries]

    named = ledger.named_digests(DEFAULT_TEAM, [*every, Digest("0" * 64)])

    assert named == set(every)


# --- pruning -------------------------------------------------------------------------


def test_what_ended_long_ago_is_forgotten(
    url: str, ledger: SqlLedger, shop: Collection
) -> None:
    old = ledger.accept(shop, images("a", "gone"), [a_failure(2)], idempotency=KEY)
    index_all(ledger, old)
    index_all(ledger, ledger.delete_images(shop, [ImageId("gone")]))
    repaired = ledger.repair(shop, [key_of(shop, "a")])
    ledger.finish(done(ledger.claim(repaired)))
    days_pass(url, 31)
    new = ledger.accept(shop, images("b"))
    index_all(ledger, new)

    # Two jobs with three and one pieces of work, a repair, a tombstone and a key.
    assert ledger.prune(30) == 2 + 3 + 1 + 1 + 1 + 1
    assert ledger.prune(30) == 0

    assert [job.id for job in ledger.jobs(DEFAULT_TEAM, None, 10)] == [new.job.id]
    with pytest.raises(JobNotFound):
        ledger.failures(DEFAULT_TEAM, old.job.id, None, 10)
    keys = [state.key for state in ledger.states(shop, None, 10)]
    assert keys == sorted([key_of(shop, "a"), key_of(shop, "b")])
    assert ledger.image(shop, ImageId("a")).state is ImageState.INDEXED


def test_what_has_not_ended_is_kept_however_old(
    url: str, ledger: SqlLedger, shop: Collection
) -> None:
    index_all(ledger, ledger.accept(shop, images("gone")))
    ledger.delete_images(shop, [ImageId("gone")])
    ledger.accept(shop, images("a", "b"), more=True)
    ledger.repair(shop, [key_of(shop, "b")])
    days_pass(url, 31)

    ledger.prune(30)

    assert len(ledger.jobs(DEFAULT_TEAM, None, 10)) == 2
    assert len(ledger.states(shop, None, 10)) == 3
    assert ledger.pending() == 3


def test_keys_are_forgotten_earlier_than_jobs(
    url: str, ledger: SqlLedger, shop: Collection
) -> None:
    accepted = ledger.accept(shop, images("a"), idempotency=KEY)
    index_all(ledger, accepted)
    days_pass(url, 3)

    assert ledger.prune(30) == 1

    assert ledger.job(DEFAULT_TEAM, accepted.job.id).done == 1
    assert not ledger.accept(shop, images("a"), idempotency=KEY).replayed


def test_a_key_that_outlives_its_job_is_used_again(
    url: str, ledger: SqlLedger, shop: Collection
) -> None:
    index_all(ledger, ledger.accept(shop, images("a"), idempotency=KEY))
    days_pass(url, 1)
    ledger.prune(0.5)

    again = ledger.accept(shop, images("a"), idempotency=KEY)

    assert not again.replayed
    assert again.job.unchanged == 1


def test_thousands_of_old_rows_are_forgotten(
    url: str, ledger: SqlLedger, shop: Collection
) -> None:
    names = [f"{n}" for n in range(1300)]
    index_all(ledger, ledger.accept(shop, images(*names)))
    for n in range(20):
        ledger.accept(shop, [], [a_failure(n)])
    gone = ledger.delete_images(shop, [ImageId(one) for one in names])
    index_all(ledger, gone)
    days_pass(url, 31)

    assert ledger.prune(30) == 3 * 1300 + 22 + 20

    assert ledger.jobs(DEFAULT_TEAM, None, 10) == []
    assert ledger.states(shop, None, 10) == []


def test_a_pruned_image_can_be_ingested_again(
    url: str, ledger: SqlLedger, shop: Collection
) -> None:
    index_all(ledger, ledger.accept(shop, images("a")))
    old = ledger.states(shop, None, 1)[0]
    index_all(ledger, ledger.delete_images(shop, [ImageId("a")]))
    days_pass(url, 31)
    ledger.prune(30)

    index_all(ledger, ledger.accept(shop, images("a")))

    new = ledger.states(shop, None, 1)[0]
    ghost = Hit(old.key, old.gen, 1.0)
    assert ledger.verified(shop, [ghost]) == {}
    assert ledger.verified(shop, [replace(ghost, gen=new.gen)]).keys() == {new.key}


# --- turns ---------------------------------------------------------------------------


def test_a_turn_is_given_to_one_of_all(url: str, ledger: SqlLedger) -> None:
    with opened(url) as other:
        first = [ledger.turn("housekeeping", 3600), other.turn("housekeeping", 3600)]

        assert first == [True, False]
        assert not ledger.turn("housekeeping", 3600)
        assert other.turn("verify", 3600)


def test_a_turn_comes_again_after_a_while(ledger: SqlLedger) -> None:
    assert ledger.turn("housekeeping", 0)

    assert ledger.turn("housekeeping", 3600)


# --- room ----------------------------------------------------------------------------


def test_a_full_disk_is_told_from_a_database_that_is_away(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    with database.reading() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 2}")

    with pytest.raises(StorageFull) as caught, database.writing() as connection:
        connection.exec_driver_sql("CREATE TABLE much AS SELECT zeroblob(100000)")

    assert (caught.value.code, caught.value.retryable) == ("storage_full", True)
    assert caught.value.__cause__ is not None
    database.close()


@pytest.mark.postgres_server
def test_a_server_whose_disk_is_full_is_told_from_one_that_is_away(
    tmp_path: Path,
) -> None:
    database = Database(new_database("postgresql", tmp_path))

    with pytest.raises(StorageFull), database.writing() as connection:
        connection.exec_driver_sql(
            "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'disk_full'; END $$"
        )

    database.close()


# --- older versions ------------------------------------------------------------------

OLDER = [build_schema_1, build_schema_2]


@pytest.mark.parametrize("build", OLDER)
def test_a_database_of_an_older_schema_is_brought_up(
    build: Callable[[str], None], url: str
) -> None:
    build(url)
    old = Team("old")

    with opened(url, ring_again_seconds=0) as ledger:
        shop = ledger.collection(old, "shop")
        job = ledger.job(old, JobId("j1"))
        works = ledger.claim(ledger.due(10))
        finished = ledger.finish(done(works))
        again = ledger.retry(old, job.id)
        index_all(ledger, again)

        assert ledger.backlog(old).all == 0
        assert (job.done, job.failed, job.pending) == (1, 1, 1)
        assert sorted(work.image_id for work in works) == ["a", "b"]
        assert finished == [job.id]
        assert ledger.image_counts(shop)[ImageState.INDEXED] == 3
        assert (shop.index, shop.duplicates) == (AUTOMATIC, DuplicatePolicy.KEEP)
        assert ledger.accept(shop, images("new"), idempotency=KEY).job.pending == 1

    with opened(url) as reopened:
        assert reopened.job(old, job.id).done == 2


def shape_of(url: str) -> dict[str, tuple[dict[str, str], dict[str, list[str]]]]:
    """The columns and indexes of each table."""
    engine = create_engine(url)
    found = inspect(engine)
    shape = {
        table: (
            {
                column["name"]: f"{column['type']} {column['nullable']}"
                for column in found.get_columns(table)
            },
            {
                str(index["name"]): [str(name) for name in index["column_names"]]
                for index in found.get_indexes(table)
            },
        )
        for table in found.get_table_names()
    }
    engine.dispose()
    return shape


@pytest.mark.parametrize("build", OLDER)
def test_a_database_brought_up_is_as_a_new_one(
    build: Callable[[str], None], url: str, tmp_path: Path
) -> None:
    build(url)
    (tmp_path / "new").mkdir()
    kind = "sqlite" if url.startswith("sqlite") else "postgresql"
    new = new_database(kind, tmp_path / "new")

    with opened(url), opened(new):
        pass

    assert shape_of(url) == shape_of(new)


def test_threads_that_meet_an_old_database_together_all_succeed(url: str) -> None:
    build_schema_1(url)

    def start(_number: int) -> int:
        with opened(url) as ledger:
            return ledger.backlog(Team("old")).all

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(start, range(4))) == [1] * 4
