"""How the ledger hands out work, and counts what became of it."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from ledgers import (
    a_collection,
    a_failure,
    an_hour_passes,
    an_image,
    done,
    failed,
    ids,
    images,
    index_all,
    opened,
)
from lookalike.backends.ledger import SqlLedger
from lookalike.backends.ledger_database import Database
from lookalike.collections import DEFAULT_TEAM, Collection
from lookalike.errors import ImageNotFound, LedgerUnavailable, Misconfigured
from lookalike.interfaces import (
    ImageId,
    ImageState,
    Operation,
    Outcome,
    Result,
    Work,
    WorkId,
)
from servers.postgres import postgres_programs, running_postgres


def index_due(ledger: SqlLedger) -> list[Work]:
    """Do the work that is due."""
    works = ledger.claim(ledger.due(10))
    ledger.finish(done(works))
    return works


# --- claiming ------------------------------------------------------------------------


def test_claimed_work_is_not_claimed_again(ledger: SqlLedger, shop: Collection) -> None:
    accepted = ledger.accept(shop, images("a", "b", "c"))

    first = ledger.claim(accepted.work[:2])
    second = ledger.claim(accepted.work)

    assert {work.image_id for work in first} == {"a", "b"}
    assert [work.image_id for work in second] == ["c"]
    assert ledger.claim(accepted.work) == []


def test_unknown_and_finished_work_is_not_claimed(
    ledger: SqlLedger, shop: Collection
) -> None:
    accepted = ledger.accept(shop, images("a"), [a_failure(1)])
    index_all(ledger, accepted)

    claimed = ledger.claim([*accepted.work, WorkId(1), WorkId(2), WorkId(2**40)])

    assert claimed == []
    assert ledger.claim([]) == []


def test_work_whose_lease_is_over_can_be_claimed_by_another(
    later: SqlLedger, shop: Collection
) -> None:
    accepted = later.accept(shop, images("a"))

    first = later.claim(accepted.work)
    second = later.claim(accepted.work)

    assert first == second
    assert later.finish(done(first)) == [accepted.job.id]
    assert later.finish(done(second)) == []
    assert later.job(DEFAULT_TEAM, accepted.job.id).done == 1


def test_overtaken_work_is_superseded_when_claimed(
    ledger: SqlLedger, shop: Collection
) -> None:
    first = ledger.accept(shop, [an_image("a", content="old")])
    second = ledger.accept(shop, [an_image("a", content="new")])

    assert ledger.claim(first.work) == []

    job = ledger.job(DEFAULT_TEAM, first.job.id)
    assert (job.superseded, job.pending) == (1, 0)
    assert job.finished_at is not None
    assert len(index_all(ledger, second)) == 1
    assert ledger.pending() == 0


def test_a_deletion_overtakes_what_was_to_be_ingested(
    ledger: SqlLedger, shop: Collection
) -> None:
    put = ledger.accept(shop, images("a"))
    deletion = ledger.delete_images(shop, [ImageId("a")])

    claimed = ledger.claim(put.work + deletion.work)

    assert [work.operation for work in claimed] == [Operation.DELETE]


def test_work_that_kills_its_worker_is_tried_alone(
    ledger: SqlLedger, later: SqlLedger, shop: Collection
) -> None:
    accepted = ledger.accept(shop, images("a", "b", "poison", "d"))
    assert len(later.claim(accepted.work)) == 4  # its worker dies
    assert len(later.claim(accepted.work)) == 4  # and so does the next

    alone = [ledger.claim(accepted.work) for _ in range(5)]

    names = [[work.image_id for work in claimed] for claimed in alone]
    assert names == [["a"], ["b"], ["poison"], ["d"], []]


def test_new_work_does_not_wait_for_work_that_is_tried_alone(
    ledger: SqlLedger, later: SqlLedger, shop: Collection
) -> None:
    suspects = ledger.accept(shop, images("a", "b"))
    later.claim(suspects.work)
    later.claim(suspects.work)
    fresh = ledger.accept(shop, images("c", "d"))

    claimed = ledger.claim(suspects.work + fresh.work)

    assert [work.image_id for work in claimed] == ["c", "d"]
    assert ledger.due(10) == suspects.work  # at once, not after a while


def test_an_image_is_claimed_once_in_one_call(
    ledger: SqlLedger, later: SqlLedger, shop: Collection
) -> None:
    old = later.claim(later.accept(shop, [an_image("a", content="old")]).work)
    new = later.accept(shop, [an_image("a", content="new")])
    later.claim(new.work)
    later.claim(ids(old))  # superseded late: may have covered the new picture
    both = later.due(10)

    claimed = ledger.claim(both)

    assert len(claimed) == 1


# --- finishing -----------------------------------------------------------------------


def test_finishing_twice_counts_once(ledger: SqlLedger, shop: Collection) -> None:
    accepted = ledger.accept(shop, images("a", "b"))
    claimed = ledger.claim(accepted.work)

    assert ledger.finish(done(claimed[:1])) == []
    assert ledger.finish(done(claimed[:1])) == []
    assert ledger.finish(failed(claimed[:1])) == []
    assert ledger.finish(done(claimed)) == [accepted.job.id]
    assert ledger.finish(done(claimed)) == []

    job = ledger.job(DEFAULT_TEAM, accepted.job.id)
    assert (job.done, job.failed, job.pending) == (2, 0, 0)
    assert ledger.image(shop, ImageId("a")).state is ImageState.INDEXED


def test_results_of_several_jobs_finish_each(
    ledger: SqlLedger, shop: Collection
) -> None:
    first = ledger.accept(shop, images("a"))
    second = ledger.accept(shop, images("b", "c"))
    third = ledger.accept(shop, images("d", "e"))
    claimed = ledger.claim(first.work + second.work + third.work[:1])

    finished = ledger.finish(done(claimed))

    assert finished == [first.job.id, second.job.id]
    assert ledger.finish([]) == []


def test_a_failure_is_recorded_with_its_reason(
    ledger: SqlLedger, shop: Collection
) -> None:
    accepted = ledger.accept(shop, images("a", "b", "c"), [a_failure(3)])
    claimed = {work.image_id: work for work in ledger.claim(accepted.work)}
    result = Result(
        claimed[ImageId("b")].id, Outcome.FAILED, "bad_embedding", "NaN\0", True
    )

    ledger.finish([result, *done([claimed[ImageId("a")], claimed[ImageId("c")]])])

    first, second = ledger.failures(DEFAULT_TEAM, accepted.job.id, None, 10)
    assert (first.position, first.image_id, first.code) == (1, "b", "bad_embedding")
    assert (first.detail, first.retryable) == ("NaN\ufffd", True)
    assert second == a_failure(3)
    job = ledger.job(DEFAULT_TEAM, accepted.job.id)
    assert (job.done, job.failed) == (2, 2)
    assert ledger.image(shop, ImageId("b")).state is ImageState.FAILED
    assert ledger.image(shop, ImageId("c")).state is ImageState.INDEXED


def test_a_failure_of_an_older_picture_is_not_the_images(
    ledger: SqlLedger, shop: Collection
) -> None:
    old = ledger.claim(ledger.accept(shop, [an_image("a", content="old")]).work)
    new = ledger.accept(shop, [an_image("a", content="new")])

    ledger.finish(failed(old))

    assert ledger.image(shop, ImageId("a")).state is ImageState.PENDING
    index_all(ledger, new)
    assert ledger.image(shop, ImageId("a")).state is ImageState.INDEXED


def test_metadata_that_cannot_be_written_leave_the_image_failed(
    ledger: SqlLedger, shop: Collection
) -> None:
    index_all(ledger, ledger.accept(shop, images("a")))
    accepted = ledger.update_metadata(shop, ImageId("a"), {"price": 2.0})

    ledger.finish(failed(ledger.claim(accepted.work), "image_broken"))

    assert ledger.image(shop, ImageId("a")).state is ImageState.FAILED
    again = ledger.update_metadata(shop, ImageId("a"), {"price": 2.0})
    assert [work.operation for work in ledger.claim(again.work)] == [Operation.PUT]


# --- repairs -------------------------------------------------------------------------


def test_a_late_write_over_a_newer_one_is_repaired(
    ledger: SqlLedger, shop: Collection
) -> None:
    old = ledger.claim(ledger.accept(shop, [an_image("a", content="old")]).work)
    [new] = index_all(ledger, ledger.accept(shop, [an_image("a", content="new")]))

    ledger.finish(done(old))

    [repair] = ledger.claim(ledger.due(10))
    assert (repair.operation, repair.gen) == (Operation.PUT, new.gen)
    assert repair.digest == new.digest
    assert ledger.image(shop, ImageId("a")).state is ImageState.INDEXED
    assert ledger.finish(done([repair])) == []
    assert ledger.pending() == 0
    assert [job.pending for job in ledger.jobs(DEFAULT_TEAM, None, 10)] == [0, 0]
    assert [job.total for job in ledger.jobs(DEFAULT_TEAM, None, 10)] == [1, 1]


def test_a_late_write_before_the_newer_one_needs_no_repair(
    ledger: SqlLedger, shop: Collection
) -> None:
    old = ledger.accept(shop, [an_image("a", content="old")])
    claimed = ledger.claim(old.work)
    ledger.accept(shop, [an_image("a", content="new")])

    ledger.finish(done(claimed))

    assert ledger.job(DEFAULT_TEAM, old.job.id).superseded == 1
    assert ledger.image(shop, ImageId("a")).state is ImageState.PENDING
    assert ledger.pending() == 1


def test_a_late_write_while_the_newer_one_is_made_is_repaired(
    ledger: SqlLedger, shop: Collection
) -> None:
    old = ledger.claim(ledger.accept(shop, [an_image("a", content="old")]).work)
    new = ledger.claim(ledger.accept(shop, [an_image("a", content="new")]).work)

    ledger.finish(done(old))
    ledger.finish(done(new))

    [repair] = ledger.claim(ledger.due(10))
    assert repair.digest == new[0].digest


def test_a_late_write_after_a_deletion_is_deleted_again(
    ledger: SqlLedger, shop: Collection
) -> None:
    old = ledger.claim(ledger.accept(shop, images("a")).work)
    index_all(ledger, ledger.delete_images(shop, [ImageId("a")]))

    ledger.finish(done(old))

    [repair] = ledger.claim(ledger.due(10))
    assert repair.operation is Operation.DELETE
    with pytest.raises(ImageNotFound):
        ledger.image(shop, ImageId("a"))


def test_a_claim_that_no_one_answered_is_repaired_too(
    later: SqlLedger, shop: Collection
) -> None:
    old = later.accept(shop, [an_image("a", content="old")])
    later.claim(old.work)  # its worker writes, and dies
    [new] = index_all(later, later.accept(shop, [an_image("a", content="new")]))

    assert later.claim(old.work) == []

    [repair] = later.claim(later.due(10))
    assert (repair.operation, repair.digest) == (Operation.PUT, new.digest)


def test_a_write_after_its_work_was_ended_by_another_is_repaired(
    later: SqlLedger, shop: Collection
) -> None:
    old = later.claim(later.accept(shop, [an_image("a", content="old")]).work)
    [new] = index_all(later, later.accept(shop, [an_image("a", content="new")]))
    later.claim(ids(old))
    later.finish(done(later.claim(later.due(10))))  # repaired, too early
    assert later.pending() == 0

    later.finish(done(old))

    [repair] = later.claim(later.due(10))
    assert (repair.operation, repair.digest) == (Operation.PUT, new.digest)


def test_metadata_written_with_a_covered_vector_are_repaired(
    ledger: SqlLedger, shop: Collection
) -> None:
    old = ledger.claim(ledger.accept(shop, [an_image("a", content="old")]).work)
    [new] = index_all(ledger, ledger.accept(shop, [an_image("a", content="new")]))
    accepted = ledger.update_metadata(shop, ImageId("a"), {"price": 2.0})
    [meta] = ledger.claim(accepted.work)  # reads the vector that is stored

    ledger.finish(done(old))  # it was the old picture's
    assert ledger.due(10) == []  # a repair now could come before what it repairs
    ledger.finish(done([meta]))

    assert meta.operation is Operation.META
    assert ledger.job(DEFAULT_TEAM, accepted.job.id).done == 1
    assert ledger.image(shop, ImageId("a")).state is ImageState.PENDING
    [repair] = index_due(ledger)
    assert (repair.operation, repair.digest) == (Operation.PUT, new.digest)
    assert repair.metadata == {"price": 2.0}
    assert ledger.image(shop, ImageId("a")).state is ImageState.INDEXED


def test_metadata_written_again_by_a_slow_worker_are_repaired(
    later: SqlLedger, shop: Collection
) -> None:
    index_all(later, later.accept(shop, images("a")))
    accepted = later.update_metadata(shop, ImageId("a"), {"price": 2.0})
    slow = later.claim(accepted.work)
    later.finish(done(later.claim(accepted.work)))

    later.finish(done(slow))

    [repair] = index_due(later)
    assert repair.operation is Operation.PUT
    assert later.pending() == 0


def test_while_a_repair_waits_no_stored_vector_is_reused(
    ledger: SqlLedger, shop: Collection
) -> None:
    old = ledger.claim(ledger.accept(shop, [an_image("a", content="old")]).work)
    index_all(ledger, ledger.accept(shop, [an_image("a", content="new")]))
    ledger.finish(done(old))

    accepted = ledger.update_metadata(shop, ImageId("a"), {"price": 2.0})

    [work] = ledger.claim(accepted.work)
    assert work.operation is Operation.PUT


# --- giving back and ringing again ---------------------------------------------------


def test_work_given_back_uses_up_no_attempt(later: SqlLedger, shop: Collection) -> None:
    accepted = later.accept(shop, images("a", "b"))

    for _outage in range(12):
        claimed = later.claim(accepted.work)
        assert len(claimed) == 2
        later.release(ids(claimed), 0)

    assert later.job(DEFAULT_TEAM, accepted.job.id).pending == 2
    assert len(later.due(10)) == 2


def test_work_given_back_waits_for_its_delay(
    ledger: SqlLedger, later: SqlLedger, shop: Collection
) -> None:
    accepted = ledger.accept(shop, images("a", "b"))
    claimed = ledger.claim(accepted.work)

    ledger.release(ids(claimed[:1]), 3600)
    ledger.release(ids(claimed[1:]), 0)

    assert ledger.due(10) == ids(claimed[1:])
    assert ledger.claim(ids(claimed)) == claimed[1:]
    assert later.due(10) == []


def test_only_claimed_work_is_given_back(
    ledger: SqlLedger, later: SqlLedger, shop: Collection
) -> None:
    accepted = ledger.accept(shop, images("a", "b"))
    index_all(ledger, ledger.accept(shop, images("c")))

    later.release([*accepted.work, WorkId(2**40)], 3600)

    assert len(ledger.claim(accepted.work)) == 2
    ledger.release([], 1)


def test_new_work_is_due_only_after_a_while(
    ledger: SqlLedger, later: SqlLedger, shop: Collection
) -> None:
    accepted = ledger.accept(shop, images("a", "b", "c"))
    held = ledger.claim(accepted.work[:1])

    assert ledger.due(10) == []
    assert later.due(10) == [w for w in accepted.work if w not in ids(held)]
    assert ledger.due(10) == []  # it was rung for just now


def test_what_waited_longest_is_due_first(later: SqlLedger, shop: Collection) -> None:
    accepted = later.accept(shop, images("a", "b", "c", "d"))

    first = later.due(3)
    second = later.due(1)

    assert first == sorted(accepted.work)[:3]
    assert second == sorted(accepted.work)[3:]


def test_work_without_attempts_left_ends_as_failed(
    later: SqlLedger, shop: Collection
) -> None:
    accepted = later.accept(shop, images("a"))
    for _attempt in range(5):
        assert len(later.claim(accepted.work)) == 1
    assert later.claim(accepted.work) == []
    assert later.job(DEFAULT_TEAM, accepted.job.id).pending == 1

    assert later.due(10) == []

    [failure] = later.failures(DEFAULT_TEAM, accepted.job.id, None, 10)
    assert (failure.code, failure.retryable) == ("attempts_exhausted", True)
    job = later.job(DEFAULT_TEAM, accepted.job.id)
    assert (job.failed, job.pending) == (1, 0)
    assert job.finished_at is not None
    assert later.image(shop, ImageId("a")).state is ImageState.FAILED


def test_the_last_attempt_may_take_its_time(
    ledger: SqlLedger, later: SqlLedger, shop: Collection
) -> None:
    accepted = ledger.accept(shop, images("a"))
    for _attempt in range(4):
        later.claim(accepted.work)
    claimed = ledger.claim(accepted.work)

    assert later.due(10) == []

    assert ledger.finish(done(claimed)) == [accepted.job.id]
    assert ledger.job(DEFAULT_TEAM, accepted.job.id).done == 1


def test_a_job_whose_request_broke_off_finishes_all_the_same(
    url: str, ledger: SqlLedger, shop: Collection
) -> None:
    broken = ledger.accept(shop, images("a"), more=True)
    index_all(ledger, broken)
    an_hour_passes(url)
    alive = ledger.accept(shop, images("b"), more=True)

    ledger.due(10)

    assert ledger.job(DEFAULT_TEAM, broken.job.id).finished_at is not None
    assert ledger.accept(shop, [], job=alive.job.id).job.pending == 1


# --- the database itself -------------------------------------------------------------


def test_a_ledger_that_answers_passes_its_check(
    ledger: SqlLedger, shop: Collection
) -> None:
    ledger.check()

    assert ledger.pending() == 0
    ledger.accept(shop, images("a", "b"))
    assert ledger.pending() == 2


def test_a_ledger_opened_again_knows_everything(
    url: str, ledger: SqlLedger, shop: Collection
) -> None:
    accepted = ledger.accept(shop, images("a"))
    index_all(ledger, accepted)

    with opened(url) as again:
        assert again.collection(DEFAULT_TEAM, "shop") == shop
        assert again.job(DEFAULT_TEAM, accepted.job.id).done == 1
        newer = again.accept(shop, [an_image("a", content="new")])
        assert again.claim(newer.work)[0].gen > 1


def test_a_schema_of_another_version_is_refused(url: str, ledger: SqlLedger) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE schema SET version = version + 1"))
    engine.dispose()

    with pytest.raises(Misconfigured, match="schema 3"):
        SqlLedger(url)


@pytest.mark.parametrize(
    "url",
    ["nonsense", "mysql://localhost/ledger", "sqlite://", "sqlite:///:memory:"],
)
def test_a_database_that_cannot_be_used_is_refused_by_name(url: str) -> None:
    with pytest.raises(Misconfigured, match="LOOKALIKE_DATABASE_URL"):
        SqlLedger(url)


def test_a_file_that_is_no_database_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    path.write_bytes(b"not a database at all" * 100)

    with pytest.raises(LedgerUnavailable) as caught:
        SqlLedger(f"sqlite:///{path}")

    assert caught.value.__cause__ is not None
    assert caught.value.retryable


def test_sqlite_commits_only_what_a_power_cut_cannot_take(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'deep' / 'folder' / 'ledger.sqlite3'}")

    with database.reading() as connection:
        settings = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]

    database.close()
    assert settings == ["wal", 2, 1]  # 2 is FULL


def test_sqlite_is_quick_only_with_what_a_power_cut_may_take(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")

    levels = []
    for durable in (True, False, True):
        with database.writing(durable=durable) as connection:
            level = connection.exec_driver_sql("PRAGMA synchronous").scalar_one()
            levels.append(level)

    database.close()
    assert levels == [2, 1, 2]  # 2 is FULL, 1 is NORMAL


def test_a_locked_sqlite_file_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    with opened(f"sqlite:///{path}") as ledger, ThreadPoolExecutor(1) as pool:
        other = sqlite3.connect(path)
        other.execute("BEGIN IMMEDIATE")

        writing = pool.submit(ledger.check)

        assert ledger.pending() == 0  # reading does not wait
        with pytest.raises(TimeoutError):
            writing.result(timeout=0.2)
        other.rollback()
        other.close()
        writing.result(timeout=20)


@pytest.mark.postgres_server
def test_a_server_that_went_away_is_unavailable_until_it_is_back() -> None:
    if postgres_programs() is None:
        pytest.skip("no PostgreSQL here: install the Debian package postgresql")
    with running_postgres() as server, opened(server.new_database()) as ledger:
        shop = a_collection()
        ledger.create_collection(shop)
        accepted = ledger.accept(shop, images("a"))

        server.kill()

        for call in (ledger.check, ledger.pending, lambda: ledger.claim([WorkId(1)])):
            with pytest.raises(LedgerUnavailable) as caught:
                call()
            assert caught.value.__cause__ is not None
            assert "password" not in caught.value.detail
        server.start()
        assert len(index_all(ledger, accepted)) == 1
