"""What the ledger records of collections, images and requests."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from ledgers import (
    a_collection,
    a_failure,
    an_image,
    done,
    failed,
    images,
    index_all,
)
from lookalike.backends.ledger import SqlLedger
from lookalike.collections import DEFAULT_TEAM, Collection, Team
from lookalike.errors import (
    CollectionExists,
    CollectionNotFound,
    ImageNotFound,
    JobNotFound,
)
from lookalike.interfaces import (
    Failure,
    Hit,
    ImageId,
    ImageState,
    JobId,
    Operation,
    image_key,
)

OTHER_TEAM = Team("other")


# --- collections ---------------------------------------------------------------------


def test_a_collection_comes_back_exactly(ledger: SqlLedger) -> None:
    moment = datetime(2026, 1, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    collection = replace(a_collection(), created_at=moment)

    ledger.create_collection(collection)

    assert ledger.collection(DEFAULT_TEAM, "shop") == collection
    assert list(ledger.collection(DEFAULT_TEAM, "shop").fields) == ["tags", "price"]


def test_a_name_can_be_used_once_in_a_team(ledger: SqlLedger) -> None:
    ledger.create_collection(a_collection())
    ledger.create_collection(a_collection(team=OTHER_TEAM))

    with pytest.raises(CollectionExists):
        ledger.create_collection(a_collection())


def test_a_team_sees_its_own_collections_by_name(ledger: SqlLedger) -> None:
    for name in ("shoes", "bags", "a-b", "a_b", "ab"):
        ledger.create_collection(a_collection(name))
    ledger.create_collection(a_collection("secret", OTHER_TEAM))

    names = [collection.name for collection in ledger.collections(DEFAULT_TEAM)]

    assert names == ["a-b", "a_b", "ab", "bags", "shoes"]


@pytest.mark.parametrize("name", ["unknown", "nul\0", "\ud800"])
def test_an_unknown_collection_is_not_found(ledger: SqlLedger, name: str) -> None:
    with pytest.raises(CollectionNotFound):
        ledger.collection(DEFAULT_TEAM, name)


def test_a_deleted_collection_is_forgotten(ledger: SqlLedger, shop: Collection) -> None:
    ledger.accept(shop, images("a", "b"))

    ledger.delete_collection(shop)

    assert ledger.collections(DEFAULT_TEAM) == []
    assert ledger.images(shop, None, 10) == []
    with pytest.raises(CollectionNotFound):
        ledger.accept(shop, images("c"))
    with pytest.raises(CollectionNotFound):
        ledger.delete_images(shop, [ImageId("a")])
    with pytest.raises(CollectionNotFound):
        ledger.update_metadata(shop, ImageId("a"), {})


def test_work_of_a_deleted_collection_is_superseded_and_counted(
    ledger: SqlLedger, shop: Collection
) -> None:
    accepted = ledger.accept(shop, images("a", "b", "c"))
    claimed = ledger.claim(accepted.work[:2])
    ledger.finish(done(claimed[:1]))

    ledger.delete_collection(shop)

    job = ledger.job(DEFAULT_TEAM, accepted.job.id)
    assert (job.done, job.superseded, job.pending) == (1, 2, 0)
    assert job.finished_at is not None
    assert ledger.pending() == 0
    assert ledger.finish(done(claimed[1:])) == []
    assert ledger.claim(accepted.work) == []
    assert ledger.job(DEFAULT_TEAM, job.id) == job


def test_a_name_used_again_begins_empty(ledger: SqlLedger, shop: Collection) -> None:
    index_all(ledger, ledger.accept(shop, images("a")))
    ledger.delete_collection(shop)
    again = a_collection()

    ledger.create_collection(again)

    assert ledger.images(again, None, 10) == []
    assert ledger.accept(again, images("a")).job.unchanged == 0


def test_images_are_counted_by_state(ledger: SqlLedger, shop: Collection) -> None:
    accepted = ledger.accept(shop, images("a", "b", "c", "d", "gone"))
    claimed = ledger.claim(accepted.work)
    ledger.finish(done(claimed[:2]) + failed(claimed[2:3]))
    ledger.delete_images(shop, [ImageId("gone")])

    counts = ledger.image_counts(shop)

    assert counts == {
        ImageState.INDEXED: 2,
        ImageState.FAILED: 1,
        ImageState.PENDING: 1,
    }


# --- accepting images ----------------------------------------------------------------


def test_a_new_image_is_pending_until_its_work_is_done(
    ledger: SqlLedger, shop: Collection
) -> None:
    new = an_image("shoes/1.jpg", metadata={"tags": ["é", "\U0001f45f"], "price": 0.1})

    accepted = ledger.accept(shop, [new])

    image = ledger.image(shop, new.id)
    assert (accepted.job.total, accepted.job.pending) == (1, 1)
    assert accepted.job.collection == "shop"
    assert image.key == image_key(shop.team, shop.uid, new.id)
    assert image.state is ImageState.PENDING
    assert image.metadata == new.metadata
    assert (image.digest, image.bytes, image.format) == (new.digest, 1234, "JPEG")
    assert (image.width, image.height) == (40, 30)
    assert abs((image.created_at - datetime.now(UTC)).total_seconds()) < 60
    [work] = index_all(ledger, accepted)
    assert work.operation is Operation.PUT
    assert (work.collection, work.key, work.gen) == (shop, image.key, image.gen)
    assert (work.digest, work.metadata) == (new.digest, new.metadata)
    assert ledger.image(shop, new.id).state is ImageState.INDEXED


def test_an_indexed_image_sent_again_makes_no_work(
    ledger: SqlLedger, shop: Collection
) -> None:
    index_all(ledger, ledger.accept(shop, images("a", "b")))
    before = ledger.image(shop, ImageId("a"))

    again = ledger.accept(shop, images("a", "b"))

    assert again.work == []
    assert (again.job.total, again.job.unchanged, again.job.pending) == (2, 2, 0)
    assert again.job.finished_at is not None
    assert ledger.image(shop, ImageId("a")) == before


def test_an_image_sent_again_while_it_waits_makes_no_work(
    ledger: SqlLedger, shop: Collection
) -> None:
    first = ledger.accept(shop, images("a"))

    again = ledger.accept(shop, images("a"))

    assert (again.work, again.job.unchanged) == ([], 1)
    assert len(index_all(ledger, first)) == 1


def test_other_metadata_keep_the_picture(ledger: SqlLedger, shop: Collection) -> None:
    index_all(ledger, ledger.accept(shop, [an_image("a", metadata={"price": 1.0})]))
    before = ledger.image(shop, ImageId("a"))

    accepted = ledger.accept(shop, [an_image("a", metadata={"price": 2.0})])

    pending = ledger.image(shop, ImageId("a"))
    assert (pending.state, pending.metadata) == (ImageState.PENDING, {"price": 2.0})
    assert pending.gen > before.gen
    assert pending.created_at == before.created_at
    [work] = index_all(ledger, accepted)
    assert (work.operation, work.metadata) == (Operation.META, {"price": 2.0})
    assert (work.indexed_gen, work.gen) == (before.gen, pending.gen)
    assert ledger.image(shop, ImageId("a")).state is ImageState.INDEXED


def test_other_metadata_before_the_first_vector_need_the_picture(
    ledger: SqlLedger, shop: Collection
) -> None:
    first = ledger.accept(shop, [an_image("a", metadata={"price": 1.0})])

    second = ledger.accept(shop, [an_image("a", metadata={"price": 2.0})])

    [work] = ledger.claim(first.work + second.work)
    assert (work.operation, work.metadata) == (Operation.PUT, {"price": 2.0})


def test_another_picture_is_embedded_again(ledger: SqlLedger, shop: Collection) -> None:
    index_all(ledger, ledger.accept(shop, [an_image("a", content="old")]))

    accepted = ledger.accept(shop, [an_image("a", content="new")])

    [work] = ledger.claim(accepted.work)
    assert work.operation is Operation.PUT
    assert work.digest == an_image("a", content="new").digest


def test_a_failed_image_sent_again_is_tried_again(
    ledger: SqlLedger, shop: Collection
) -> None:
    first = ledger.accept(shop, images("a"))
    ledger.finish(failed(ledger.claim(first.work)))

    again = ledger.accept(shop, images("a"))

    assert again.job.unchanged == 0
    assert ledger.image(shop, ImageId("a")).state is ImageState.PENDING
    assert [work.operation for work in ledger.claim(again.work)] == [Operation.PUT]


def test_of_several_images_of_one_id_the_last_counts(
    ledger: SqlLedger, shop: Collection
) -> None:
    entries = [
        an_image("a", position=0, content="first"),
        an_image("b", position=1),
        an_image("a", position=2, content="last"),
    ]

    accepted = ledger.accept(shop, entries)

    job = accepted.job
    assert (job.total, job.superseded, job.pending) == (3, 1, 2)
    assert len(accepted.work) == 2
    assert ledger.image(shop, ImageId("a")).digest == entries[2].digest


def test_new_and_known_images_come_in_one_request(
    ledger: SqlLedger, shop: Collection
) -> None:
    index_all(ledger, ledger.accept(shop, images("b", "d")))
    entries = [*images("a", "b", "c"), an_image("d", position=3, content="new")]

    accepted = ledger.accept(shop, entries)

    assert (accepted.job.unchanged, accepted.job.pending) == (1, 3)
    for work in index_all(ledger, accepted):
        image = ledger.image(shop, work.image_id)
        assert (image.state, image.gen) == (ImageState.INDEXED, work.gen)
    assert ledger.job(DEFAULT_TEAM, accepted.job.id).done == 3


def test_what_was_refused_counts_as_failed(ledger: SqlLedger, shop: Collection) -> None:
    refused = [a_failure(3), a_failure(1, "image_truncated")]

    accepted = ledger.accept(shop, images("a"), refused)

    assert (accepted.job.total, accepted.job.failed) == (3, 2)
    assert accepted.job.pending == 1
    listed = ledger.failures(DEFAULT_TEAM, accepted.job.id, None, 10)
    assert listed == [refused[1], refused[0]]
    assert ledger.pending() == 1


def test_failures_are_given_in_pages(ledger: SqlLedger, shop: Collection) -> None:
    job = ledger.accept(shop, [], [a_failure(place) for place in range(7)]).job

    first = ledger.failures(DEFAULT_TEAM, job.id, None, 3)
    rest = ledger.failures(DEFAULT_TEAM, job.id, first[-1].position, 10)

    assert [failure.position for failure in first + rest] == list(range(7))
    assert job.finished_at is not None


def test_text_that_no_database_holds_does_not_stop_a_request(
    ledger: SqlLedger, shop: Collection
) -> None:
    refused = Failure(0, ImageId("nul\0" + "x" * 9999), "id_invalid", "\ud800\0", False)

    job = ledger.accept(shop, images("a"), [refused, replace(refused, image_id=None)])

    [listed, nameless] = ledger.failures(DEFAULT_TEAM, job.job.id, None, 10)
    assert str(listed.image_id).startswith("nul\ufffdxxx")
    assert listed.detail == "?\ufffd"
    assert nameless.image_id is None


def test_an_empty_request_is_a_finished_job(
    ledger: SqlLedger, shop: Collection
) -> None:
    job = ledger.accept(shop, []).job

    assert (job.total, job.pending) == (0, 0)
    assert job.finished_at is not None


# --- requests in parts ---------------------------------------------------------------


def test_a_job_of_several_parts_finishes_after_the_last(
    ledger: SqlLedger, shop: Collection
) -> None:
    first = ledger.accept(shop, images("a"), [a_failure(1)], more=True)
    index_all(ledger, first)
    between = ledger.job(DEFAULT_TEAM, first.job.id)

    last = ledger.accept(shop, [an_image("b", position=2)], job=first.job.id)

    assert (between.pending, between.finished_at) == (0, None)
    assert last.job.id == first.job.id
    assert (last.job.total, last.job.done, last.job.failed) == (3, 1, 1)
    assert last.job.finished_at is None
    [work] = ledger.claim(last.work)
    assert ledger.finish(done([work])) == [first.job.id]
    assert ledger.job(DEFAULT_TEAM, first.job.id).finished_at is not None


def test_an_empty_last_part_finishes_the_job(
    ledger: SqlLedger, shop: Collection
) -> None:
    first = ledger.accept(shop, images("a"), more=True)
    index_all(ledger, first)

    last = ledger.accept(shop, [], job=first.job.id)

    assert last.job.finished_at is not None


def test_parts_may_bring_the_same_image_again(
    ledger: SqlLedger, shop: Collection
) -> None:
    first = ledger.accept(shop, [an_image("a", content="old")], more=True)
    job = first.job.id

    second = ledger.accept(shop, [an_image("a", content="new")], job=job, more=True)
    third = ledger.accept(shop, [an_image("a", content="new")], job=job)

    assert set(first.work).isdisjoint(second.work)
    assert third.work == []
    ledger.finish(done(ledger.claim(first.work + second.work)))
    end = ledger.job(DEFAULT_TEAM, job)
    assert (end.total, end.done, end.superseded, end.unchanged) == (3, 1, 1, 1)
    assert end.finished_at is not None


@pytest.mark.parametrize("case", ["unknown", "closed", "elsewhere"])
def test_only_an_open_job_takes_another_part(
    ledger: SqlLedger, shop: Collection, case: str
) -> None:
    other = a_collection("other")
    ledger.create_collection(other)
    job = {
        "unknown": JobId("0" * 32),
        "closed": ledger.accept(shop, images("a")).job.id,
        "elsewhere": ledger.accept(other, images("a"), more=True).job.id,
    }[case]

    with pytest.raises(JobNotFound):
        ledger.accept(shop, images("b"), job=job)

    with pytest.raises(ImageNotFound):
        ledger.image(shop, ImageId("b"))


# --- reading images ------------------------------------------------------------------


def test_images_are_given_in_order_of_the_bytes_of_their_ids(
    ledger: SqlLedger, shop: Collection
) -> None:
    # In UTF-16 the emoji would come before the ligature, by locale "B" after "a".
    names = ["\U0001f45f", "ﬁ", "é", "z", "a", "B", "a/b", "a-b", "_", "10", "9"]
    ledger.accept(shop, images(*names))
    in_order = sorted(names, key=str.encode)

    first = ledger.images(shop, None, 4)
    rest = ledger.images(shop, first[-1].id, 100)

    assert len(first) == 4
    assert [image.id for image in first + rest] == in_order


def test_an_image_belongs_to_its_collection(
    ledger: SqlLedger, shop: Collection
) -> None:
    other = a_collection(team=OTHER_TEAM)
    ledger.create_collection(other)

    [work] = index_all(ledger, ledger.accept(shop, images("a")))

    with pytest.raises(ImageNotFound):
        ledger.image(other, ImageId("a"))
    assert ledger.images(other, None, 10) == []
    assert ledger.verified(other, [Hit(work.key, work.gen, 1.0)]) == {}


@pytest.mark.parametrize("image_id", ["unknown", "nul\0", "\ud800"])
def test_an_unknown_image_is_not_found(
    ledger: SqlLedger, shop: Collection, image_id: str
) -> None:
    with pytest.raises(ImageNotFound):
        ledger.image(shop, ImageId(image_id))
    with pytest.raises(ImageNotFound):
        ledger.update_metadata(shop, ImageId(image_id), {})
    assert ledger.delete_images(shop, [ImageId(image_id)]).job.total == 0


def test_many_hits_are_verified_at_once(ledger: SqlLedger, shop: Collection) -> None:
    accepted = ledger.accept(shop, images(*(f"{n}" for n in range(1200))))
    works = index_all(ledger, accepted)
    hits = [Hit(work.key, work.gen, 0.5) for work in works]

    found = ledger.verified(shop, hits)

    assert {image.id for image in found.values()} == {f"{n}" for n in range(1200)}
    assert all(found[work.key].id == work.image_id for work in works)
    assert ledger.verified(shop, []) == {}


# --- metadata and deletion -----------------------------------------------------------


def test_metadata_of_an_image_can_be_replaced(
    ledger: SqlLedger, shop: Collection
) -> None:
    index_all(ledger, ledger.accept(shop, images("a")))

    accepted = ledger.update_metadata(shop, ImageId("a"), {"tags": ["new"]})

    assert (accepted.job.total, accepted.job.pending) == (1, 1)
    assert ledger.image(shop, ImageId("a")).metadata == {"tags": ["new"]}
    [work] = index_all(ledger, accepted)
    assert work.operation is Operation.META
    same = ledger.update_metadata(shop, ImageId("a"), {"tags": ["new"]})
    assert (same.work, same.job.unchanged) == ([], 1)


def test_a_deleted_image_is_gone_when_the_call_returns(
    ledger: SqlLedger, shop: Collection
) -> None:
    works = index_all(ledger, ledger.accept(shop, images("a", "b")))
    hits = [Hit(work.key, work.gen, 1.0) for work in works]

    accepted = ledger.delete_images(shop, [ImageId("a")])

    with pytest.raises(ImageNotFound):
        ledger.image(shop, ImageId("a"))
    with pytest.raises(ImageNotFound):
        ledger.update_metadata(shop, ImageId("a"), {})
    assert [image.id for image in ledger.images(shop, None, 10)] == ["b"]
    assert [image.id for image in ledger.verified(shop, hits).values()] == ["b"]
    [work] = index_all(ledger, accepted)
    assert (work.operation, work.image_id) == (Operation.DELETE, "a")
    assert ledger.job(DEFAULT_TEAM, accepted.job.id).finished_at is not None


def test_only_images_that_exist_are_deleted_and_counted(
    ledger: SqlLedger, shop: Collection
) -> None:
    ledger.accept(shop, images("a", "b"))
    wanted = [ImageId(one) for one in ("b", "unknown", "a", "b")]

    first = ledger.delete_images(shop, wanted)
    again = ledger.delete_images(shop, wanted)

    assert (first.job.total, len(first.work)) == (2, 2)
    assert (again.job.total, again.work) == (0, [])
    assert again.job.finished_at is not None


def test_a_vector_from_before_a_deletion_is_a_ghost(
    ledger: SqlLedger, shop: Collection
) -> None:
    [old] = index_all(ledger, ledger.accept(shop, images("a")))
    index_all(ledger, ledger.delete_images(shop, [ImageId("a")]))

    [new] = index_all(ledger, ledger.accept(shop, images("a")))

    assert new.operation is Operation.PUT
    assert ledger.verified(shop, [Hit(old.key, old.gen, 1.0)]) == {}
    assert list(ledger.verified(shop, [Hit(new.key, new.gen, 1.0)])) == [new.key]


def test_a_vector_from_before_a_change_is_still_the_image(
    ledger: SqlLedger, shop: Collection
) -> None:
    [old] = index_all(ledger, ledger.accept(shop, images("a")))

    ledger.update_metadata(shop, ImageId("a"), {"price": 9.0})

    found = ledger.verified(shop, [Hit(old.key, old.gen, 1.0)])
    assert found[old.key].metadata == {"price": 9.0}


# --- jobs ----------------------------------------------------------------------------


def test_jobs_are_given_newest_first_in_pages(
    ledger: SqlLedger, shop: Collection
) -> None:
    made = [ledger.accept(shop, images(f"{n}")).job.id for n in range(7)]

    first = ledger.jobs(DEFAULT_TEAM, None, 3)
    rest = ledger.jobs(DEFAULT_TEAM, first[-1].id, 10)

    assert [job.id for job in first + rest] == made[::-1]


def test_a_job_belongs_to_its_team(ledger: SqlLedger, shop: Collection) -> None:
    job = ledger.accept(shop, images("a"), [a_failure(1)]).job

    assert ledger.job(DEFAULT_TEAM, job.id) == job
    assert ledger.jobs(OTHER_TEAM, None, 10) == []
    for unknown in (job.id, JobId("unknown"), JobId("nul\0")):
        with pytest.raises(JobNotFound):
            ledger.job(OTHER_TEAM, unknown)
        with pytest.raises(JobNotFound):
            ledger.failures(OTHER_TEAM, unknown, None, 10)
