"""Requests that come again, and what becomes of jobs after they were accepted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ledgers import (
    a_collection,
    a_failure,
    an_hour_passes,
    an_image,
    days_pass,
    done,
    execute,
    failed,
    ids,
    images,
    index_all,
)
from lookalike.backends.ledger import SqlLedger
from lookalike.collections import DEFAULT_TEAM, Collection, Team
from lookalike.errors import (
    CollectionNotFound,
    IdempotencyConflict,
    IdempotencyInUse,
    JobNotFound,
    NothingToRetry,
)
from lookalike.interfaces import (
    Accepted,
    Hit,
    Idempotency,
    ImageId,
    ImageState,
    Job,
    JobId,
    Operation,
    Work,
    image_key,
)

KEY = Idempotency("request-1", "digest-1")
UNENDING = Idempotency("request-1", None)  # a part, before the digest is known
OTHER_TEAM = Team("other")


def job_of(ledger: SqlLedger, accepted: Accepted) -> Job:
    """The job as it is by now."""
    return ledger.job(DEFAULT_TEAM, accepted.job.id)


def fail_all(ledger: SqlLedger, accepted: Accepted) -> list[Work]:
    """Have the work that a request made fail, such that it may be tried again."""
    works = ledger.claim(accepted.work)
    ledger.finish([replace(end, retryable=True) for end in failed(works, "too_slow")])
    return works


# --- the same request again ----------------------------------------------------------


def test_a_request_sent_again_is_recorded_once(
    ledger: SqlLedger, shop: Collection
) -> None:
    first = ledger.accept(shop, images("a", "b"), [a_failure(2)], idempotency=KEY)

    again = ledger.accept(shop, images("a", "b"), [a_failure(2)], idempotency=KEY)

    assert (first.replayed, again.replayed) == (False, True)
    assert (again.job, again.work) == (first.job, [])
    assert len(ledger.jobs(DEFAULT_TEAM, None, 10)) == 1
    assert ledger.pending() == 2


def test_a_request_sent_again_is_told_how_its_job_stands_now(
    ledger: SqlLedger, shop: Collection
) -> None:
    first = ledger.accept(shop, images("a"), idempotency=KEY)
    index_all(ledger, first)

    again = ledger.accept(shop, images("a"), idempotency=KEY)

    assert again.job == job_of(ledger, first)
    assert again.job.done == 1


def test_a_key_with_other_content_is_refused(
    ledger: SqlLedger, shop: Collection
) -> None:
    ledger.accept(shop, images("a"), idempotency=KEY)

    with pytest.raises(IdempotencyConflict):
        ledger.accept(shop, images("b"), idempotency=replace(KEY, digest="digest-2"))

    assert len(ledger.images(shop, None, 10)) == 1


def test_a_key_belongs_to_one_team(ledger: SqlLedger, shop: Collection) -> None:
    other = a_collection(team=OTHER_TEAM)
    ledger.create_collection(other)
    first = ledger.accept(shop, images("a"), idempotency=KEY)

    second = ledger.accept(other, images("a"), idempotency=KEY)

    assert not second.replayed
    assert second.job.id != first.job.id


def test_a_key_is_forgotten_after_a_while(
    url: str, ledger: SqlLedger, shop: Collection
) -> None:
    first = ledger.accept(shop, images("a"), idempotency=KEY)
    days_pass(url, 2.1)

    second = ledger.accept(shop, images("b"), idempotency=replace(KEY, digest="other"))
    third = ledger.accept(shop, images("b"), idempotency=replace(KEY, digest="other"))

    assert not second.replayed
    assert second.job.id != first.job.id
    assert (third.replayed, third.job.id) == (True, second.job.id)


def test_a_request_that_was_not_recorded_leaves_its_key_unused(
    ledger: SqlLedger, shop: Collection
) -> None:
    ledger.delete_collection(shop)
    with pytest.raises(CollectionNotFound):
        ledger.accept(shop, images("a"), idempotency=KEY)
    again = a_collection()
    ledger.create_collection(again)

    accepted = ledger.accept(again, images("a"), idempotency=KEY)

    assert not accepted.replayed


def test_a_long_request_sent_again_is_found_out_with_its_first_part(
    ledger: SqlLedger, shop: Collection
) -> None:
    first = ledger.accept(shop, images("a"), more=True, idempotency=UNENDING)
    job = first.job.id
    ledger.accept(shop, images("b"), job=job, more=True, idempotency=UNENDING)
    last = ledger.accept(shop, images("c"), job=job, idempotency=KEY)

    part = ledger.accept(shop, images("a"), more=True, idempotency=UNENDING)
    end = ledger.accept(shop, [], job=part.job.id, idempotency=KEY)

    assert not last.replayed
    assert part.replayed
    assert end.replayed
    assert end.job == job_of(ledger, last)
    assert end.job.total == 3
    assert len(ledger.jobs(DEFAULT_TEAM, None, 10)) == 1


def test_a_long_request_with_other_content_is_refused_at_its_end(
    ledger: SqlLedger, shop: Collection
) -> None:
    first = ledger.accept(shop, images("a"), more=True, idempotency=UNENDING)
    ledger.accept(shop, images("b"), job=first.job.id, idempotency=KEY)
    part = ledger.accept(shop, images("z"), more=True, idempotency=UNENDING)

    with pytest.raises(IdempotencyConflict):
        ledger.accept(
            shop, [], job=part.job.id, idempotency=replace(KEY, digest="other")
        )

    assert {image.id for image in ledger.images(shop, None, 10)} == {"a", "b"}


@pytest.mark.parametrize("again", [KEY, UNENDING])
def test_a_key_is_in_use_while_its_request_is_read(
    ledger: SqlLedger, shop: Collection, again: Idempotency
) -> None:
    first = ledger.accept(shop, images("a"), more=True, idempotency=UNENDING)

    with pytest.raises(IdempotencyInUse) as caught:
        ledger.accept(shop, images("a"), idempotency=again)

    seconds = caught.value.extra["retry_after_seconds"]
    assert isinstance(seconds, float)
    assert 0 < seconds <= 60
    ledger.accept(shop, images("b"), job=first.job.id, idempotency=KEY)
    assert ledger.accept(shop, images("a"), idempotency=KEY).replayed


def test_the_key_of_a_request_that_fell_silent_is_taken_over(
    url: str, ledger: SqlLedger, shop: Collection
) -> None:
    silent = ledger.accept(shop, images("a"), more=True, idempotency=UNENDING)
    execute(url, "UPDATE job SET touched_at = touched_at - 61")

    second = ledger.accept(shop, images("a", "b"), idempotency=KEY)

    assert not second.replayed
    assert (second.job.total, second.job.unchanged) == (2, 1)
    index_all(ledger, silent)
    assert job_of(ledger, silent).finished_at is not None  # it was closed
    with pytest.raises(JobNotFound):
        ledger.accept(shop, images("c"), job=silent.job.id, idempotency=UNENDING)
    assert ledger.accept(shop, [], idempotency=KEY).job.id == second.job.id


def test_the_key_of_a_request_that_was_given_up_is_free_at_once(
    ledger: SqlLedger, shop: Collection
) -> None:
    broken_off = ledger.accept(shop, images("a"), more=True, idempotency=UNENDING)
    ledger.accept(shop, [], job=broken_off.job.id)

    again = ledger.accept(shop, images("a", "b"), idempotency=KEY)

    assert not again.replayed
    assert again.job.id != broken_off.job.id


def test_a_part_of_a_request_whose_key_is_unknown_is_refused(
    ledger: SqlLedger, shop: Collection
) -> None:
    opened_without = ledger.accept(shop, images("a"), more=True)

    with pytest.raises(JobNotFound):
        ledger.accept(shop, images("b"), job=opened_without.job.id, idempotency=KEY)

    assert ledger.job(DEFAULT_TEAM, opened_without.job.id).total == 1


def test_a_deletion_sent_again_deletes_nothing_new(
    ledger: SqlLedger, shop: Collection
) -> None:
    index_all(ledger, ledger.accept(shop, images("a", "b")))
    first = ledger.delete_images(shop, [ImageId("a")], idempotency=KEY)
    ledger.accept(shop, images("a"))

    again = ledger.delete_images(shop, [ImageId("a")], idempotency=KEY)

    assert (again.replayed, again.job) == (True, first.job)
    assert ledger.image(shop, ImageId("a")).state is ImageState.PENDING


# --- deleting in parts ---------------------------------------------------------------


def test_a_long_deletion_is_one_job(ledger: SqlLedger, shop: Collection) -> None:
    index_all(ledger, ledger.accept(shop, images("a", "b", "c", "d")))

    first = ledger.delete_images(
        shop, [ImageId("a"), ImageId("b")], more=True, idempotency=UNENDING
    )
    gone = {image.id for image in ledger.images(shop, None, 10)}
    last = ledger.delete_images(
        shop, [ImageId("c"), ImageId("zz")], job=first.job.id, idempotency=KEY
    )

    assert gone == {"c", "d"}
    assert last.job.id == first.job.id
    assert (last.job.total, last.job.finished_at) == (3, None)
    ledger.finish(done(ledger.claim(first.work + last.work)))
    assert job_of(ledger, last).finished_at is not None


def test_failures_of_a_long_deletion_are_all_listed(
    ledger: SqlLedger, shop: Collection
) -> None:
    index_all(ledger, ledger.accept(shop, images("a", "b", "c", "d")))
    names = [ImageId(one) for one in "abcd"]
    first = ledger.delete_images(shop, names[:2], more=True)
    last = ledger.delete_images(shop, names[2:], job=first.job.id)
    ledger.finish(failed(ledger.claim(first.work + last.work)))

    pages = [ledger.failures(DEFAULT_TEAM, first.job.id, None, 2)]
    pages.append(ledger.failures(DEFAULT_TEAM, first.job.id, pages[0][-1].position, 10))

    assert [failure.image_id for page in pages for failure in page] == names


def test_a_deletion_in_parts_that_finds_nothing_ends_at_once(
    ledger: SqlLedger, shop: Collection
) -> None:
    first = ledger.delete_images(shop, [], more=True)

    last = ledger.delete_images(shop, [], job=first.job.id)

    assert last.job.total == 0
    assert last.job.finished_at is not None


# --- retry ---------------------------------------------------------------------------


def test_retryable_failures_are_tried_again_as_a_new_job(
    ledger: SqlLedger, shop: Collection
) -> None:
    accepted = ledger.accept(shop, images("a", "b", "c", "d"), [a_failure(4)])
    works = ledger.claim(accepted.work)
    hopeless = failed(works[1:2])
    hopeful = [replace(end, retryable=True) for end in failed(works[2:], "too_slow")]
    ledger.finish(done(works[:1]) + hopeless + hopeful)
    before = job_of(ledger, accepted)

    again = ledger.retry(DEFAULT_TEAM, accepted.job.id)

    assert again.job.id != accepted.job.id
    assert (again.job.collection, again.job.total) == ("shop", 2)
    assert ledger.image(shop, works[2].image_id).state is ImageState.PENDING
    redone = index_all(ledger, again)
    assert [(work.image_id, work.operation) for work in redone] == [
        (work.image_id, Operation.PUT) for work in works[2:]
    ]
    assert [work.digest for work in redone] == [work.digest for work in works[2:]]
    assert ledger.image(shop, works[2].image_id).state is ImageState.INDEXED
    assert job_of(ledger, again).done == 2
    assert job_of(ledger, accepted) == before


def test_a_retry_keeps_positions_and_can_itself_be_retried(
    ledger: SqlLedger, shop: Collection
) -> None:
    accepted = ledger.accept(shop, images("a", "b", "c"))
    works = ledger.claim(accepted.work)
    ledger.finish(
        done(works[:2]) + [replace(end, retryable=True) for end in failed(works[2:])]
    )

    second = ledger.retry(DEFAULT_TEAM, accepted.job.id)
    fail_all(ledger, second)
    [failure] = ledger.failures(DEFAULT_TEAM, second.job.id, None, 10)
    third = ledger.retry(DEFAULT_TEAM, second.job.id)

    assert (failure.position, failure.image_id) == (2, works[2].image_id)
    assert len(index_all(ledger, third)) == 1


def test_a_failed_change_of_metadata_is_tried_again_with_the_picture(
    ledger: SqlLedger, shop: Collection
) -> None:
    index_all(ledger, ledger.accept(shop, images("a")))
    changed = ledger.update_metadata(shop, ImageId("a"), {"price": 9.0})
    fail_all(ledger, changed)

    [work] = ledger.claim(ledger.retry(DEFAULT_TEAM, changed.job.id).work)

    assert (work.operation, work.metadata) == (Operation.PUT, {"price": 9.0})


@pytest.mark.parametrize("case", ["again", "changed", "deleted", "deleted, again"])
def test_what_was_overtaken_is_not_tried_again(
    ledger: SqlLedger, shop: Collection, case: str
) -> None:
    accepted = ledger.accept(shop, images("a"))
    fail_all(ledger, accepted)
    if case == "changed":
        ledger.update_metadata(shop, ImageId("a"), {"price": 9.0})
    if "deleted" in case:
        ledger.delete_images(shop, [ImageId("a")])
    if "again" in case:
        ledger.accept(shop, images("a"))

    with pytest.raises(NothingToRetry):
        ledger.retry(DEFAULT_TEAM, accepted.job.id)


def test_there_is_nothing_to_retry_without_a_retryable_failure(
    ledger: SqlLedger, shop: Collection
) -> None:
    accepted = ledger.accept(shop, images("a", "b"), [a_failure(2)])
    works = ledger.claim(accepted.work)
    ledger.finish(done(works[:1]) + failed(works[1:]))
    jobs = ledger.jobs(DEFAULT_TEAM, None, 10)

    with pytest.raises(NothingToRetry):
        ledger.retry(DEFAULT_TEAM, accepted.job.id, KEY)

    assert ledger.jobs(DEFAULT_TEAM, None, 10) == jobs


def test_a_job_is_retried_once(ledger: SqlLedger, shop: Collection) -> None:
    accepted = ledger.accept(shop, images("a"))
    fail_all(ledger, accepted)
    ledger.retry(DEFAULT_TEAM, accepted.job.id)

    with pytest.raises(NothingToRetry):
        ledger.retry(DEFAULT_TEAM, accepted.job.id)


def test_a_retry_sent_again_is_the_same_job(
    ledger: SqlLedger, shop: Collection
) -> None:
    accepted = ledger.accept(shop, images("a"))
    fail_all(ledger, accepted)

    first = ledger.retry(DEFAULT_TEAM, accepted.job.id, KEY)
    again = ledger.retry(DEFAULT_TEAM, accepted.job.id, KEY)

    assert (again.replayed, again.job, again.work) == (True, first.job, [])
    with pytest.raises(IdempotencyConflict):
        ledger.accept(shop, images("b"), idempotency=replace(KEY, digest="other"))


def test_a_job_of_a_deleted_collection_has_nothing_to_retry(
    ledger: SqlLedger, shop: Collection
) -> None:
    accepted = ledger.accept(shop, images("a"))
    fail_all(ledger, accepted)
    ledger.delete_collection(shop)

    with pytest.raises(NothingToRetry):
        ledger.retry(DEFAULT_TEAM, accepted.job.id)


def test_thousands_of_failures_are_retried_as_one_job(
    ledger: SqlLedger, shop: Collection
) -> None:
    accepted = ledger.accept(shop, images(*(f"{n}" for n in range(4500))))
    fail_all(ledger, accepted)

    again = ledger.retry(DEFAULT_TEAM, accepted.job.id, KEY)

    assert (again.job.total, len(set(again.work))) == (4500, 4500)
    assert ledger.retry(DEFAULT_TEAM, accepted.job.id, KEY).job == again.job
    index_all(ledger, again)
    assert job_of(ledger, again).finished_at is not None


# --- cancel --------------------------------------------------------------------------


def test_cancelling_ends_what_no_one_has_begun(
    ledger: SqlLedger, shop: Collection
) -> None:
    accepted = ledger.accept(shop, images("a", "b", "c"), [a_failure(3)])
    held = ledger.claim(accepted.work[:1])

    job = ledger.cancel(DEFAULT_TEAM, accepted.job.id)

    assert (job.failed, job.pending) == (3, 1)
    listed = ledger.failures(DEFAULT_TEAM, job.id, None, 10)
    assert [(end.code, end.retryable) for end in listed[:2]] == [
        ("cancelled", True)
    ] * 2
    assert ledger.image(shop, listed[0].image_id or ImageId("")).state is (
        ImageState.FAILED
    )
    assert ledger.claim(accepted.work) == []
    assert ledger.finish(done(held)) == [job.id]
    assert job_of(ledger, accepted).done == 1


def test_a_cancelled_job_can_be_retried(ledger: SqlLedger, shop: Collection) -> None:
    accepted = ledger.accept(shop, images("a", "b"))
    ledger.cancel(DEFAULT_TEAM, accepted.job.id)

    again = ledger.retry(DEFAULT_TEAM, accepted.job.id)

    assert len(index_all(ledger, again)) == 2
    assert ledger.image_counts(shop)[ImageState.INDEXED] == 2


def test_cancelling_a_finished_job_changes_nothing(
    ledger: SqlLedger, shop: Collection
) -> None:
    accepted = ledger.accept(shop, images("a"))
    index_all(ledger, accepted)
    before = job_of(ledger, accepted)

    assert ledger.cancel(DEFAULT_TEAM, accepted.job.id) == before

    assert ledger.image(shop, ImageId("a")).state is ImageState.INDEXED


def test_deletions_are_not_cancelled(ledger: SqlLedger, shop: Collection) -> None:
    index_all(ledger, ledger.accept(shop, images("a")))
    deletion = ledger.delete_images(shop, [ImageId("a")])

    job = ledger.cancel(DEFAULT_TEAM, deletion.job.id)

    assert job.pending == 1
    assert len(index_all(ledger, deletion)) == 1
    hit = Hit(image_key(shop.team, shop.uid, ImageId("a")), 2**40, 1.0)
    assert ledger.verified(shop, [hit]) == {}


def test_what_was_overtaken_is_superseded_and_not_cancelled(
    ledger: SqlLedger, shop: Collection
) -> None:
    first = ledger.accept(shop, [an_image("a", content="old")])
    second = ledger.accept(shop, [an_image("a", content="new")])

    job = ledger.cancel(DEFAULT_TEAM, first.job.id)

    assert (job.superseded, job.failed) == (1, 0)
    assert len(index_all(ledger, second)) == 1


def test_a_job_of_thousands_is_cancelled_as_a_whole(
    ledger: SqlLedger, shop: Collection
) -> None:
    accepted = ledger.accept(shop, images(*(f"{n}" for n in range(2500))))

    job = ledger.cancel(DEFAULT_TEAM, accepted.job.id)

    assert (job.failed, job.pending) == (2500, 0)
    assert job.finished_at is not None
    assert not ledger.has_pending()


def test_work_of_a_dead_worker_can_be_cancelled(
    url: str, ledger: SqlLedger, shop: Collection
) -> None:
    accepted = ledger.accept(shop, images("a"))
    held = ledger.claim(accepted.work)
    an_hour_passes(url)

    job = ledger.cancel(DEFAULT_TEAM, accepted.job.id)

    assert (job.failed, job.pending) == (1, 0)
    assert ledger.finish(done(held)) == []
    assert job_of(ledger, accepted) == job


@pytest.mark.parametrize("case", ["unknown", "foreign", "unspeakable"])
def test_a_job_of_another_team_can_be_neither_retried_nor_cancelled(
    ledger: SqlLedger, shop: Collection, case: str
) -> None:
    accepted = ledger.accept(shop, images("a"))
    team = OTHER_TEAM if case == "foreign" else DEFAULT_TEAM
    job = {
        "unknown": JobId("0" * 32),
        "foreign": accepted.job.id,
        "unspeakable": JobId("nul\0"),
    }[case]

    with pytest.raises(JobNotFound):
        ledger.retry(team, job)
    with pytest.raises(JobNotFound):
        ledger.cancel(team, job)

    assert ledger.claim(accepted.work)
    assert ids(ledger.claim(accepted.work)) == []
