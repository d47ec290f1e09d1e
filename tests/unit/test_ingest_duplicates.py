"""What becomes of new images of which a collection has a copy, by its policy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from copied import cropped, encoded_again
from lookalike import duplicate_groups, duplicates
from lookalike.collections import CollectionUid, DuplicatePolicy
from lookalike.duplicate_stars import Tier
from lookalike.ingest import index_images, reconcile
from lookalike.interfaces import (
    Failure,
    Image,
    ImageId,
    ImageState,
    IndexRow,
    Job,
    VectorIndex,
    WorkId,
)
from pictures import jpeg
from small import TEAM, Small

KEEP, LINK, REJECT = DuplicatePolicy


@pytest.fixture
def small(tmp_path: Path) -> Small:
    return Small.build(tmp_path)


def use(small: Small, policy: DuplicatePolicy) -> None:
    """Have an empty collection with this policy."""
    made = replace(
        small.collection,
        name=policy.value,
        uid=CollectionUid(policy.value * 4),
        duplicates=policy,
    )
    small.ledger.create_collection(made)
    small.index.create(made)
    small.collection = made


def near(seed: int) -> bytes:
    return encoded_again(jpeg(seed), np.random.default_rng(seed))


def image(small: Small, name: str) -> Image:
    return small.ledger.image(small.collection, ImageId(name))


def original(small: Small, name: str) -> str | None:
    one = image(small, name)
    return duplicates.originals(small.ledger, small.collection, [one]).get(one.key)


def failures(small: Small, job: Job) -> list[Failure]:
    return small.ledger.failures(TEAM, job.id, None, 100)


def stored(small: Small) -> set[str]:
    """The ids of what the index holds."""
    rows = small.index.rows(small.collection, None, 1_000)
    known = small.ledger.by_key(small.collection, [key for key, _ in rows])
    return {str(one.id) for one in known.values()}


def settle(small: Small) -> None:
    """Do what waits, the delays of copies over, until nothing does."""
    small.ledger.recover()
    while small.ledger.has_pending():
        end_delays(small)
        reconcile(small.ledger, small.queue, chunk_images=32)
        small.work()


def end_delays(small: Small) -> None:
    with small.ledger._database.writing() as connection:
        connection.exec_driver_sql("UPDATE work SET not_before = 0, hinted_at = 0")


def do(small: Small, index: VectorIndex, *works: WorkId) -> None:
    index_images(
        *(small.ledger, small.blobs, small.embedder, index, works),
        limits=small.limits,
    )


@pytest.mark.parametrize("policy", [None, KEEP])
def test_duplicates_are_kept_unless_told_otherwise(
    small: Small, policy: DuplicatePolicy | None
) -> None:
    if policy is not None:
        use(small, policy)
    small.ingest({"a": jpeg(1)})

    job = small.ingest({"b": jpeg(1), "c": near(1)})

    assert job.done == 2
    assert image(small, "c").duplicate_of is None
    assert stored(small) == {"a", "b", "c"}


@pytest.mark.parametrize("copy", [jpeg(1), near(1)], ids=["exact", "near"])
def test_a_linked_duplicate_is_indexed_and_names_the_older_one(
    small: Small, copy: bytes
) -> None:
    use(small, LINK)
    small.ingest({"a": jpeg(1), "z": jpeg(2)})

    job = small.ingest({"b": copy, "other": jpeg(3)})

    assert job.done == 2
    assert (original(small, "b"), original(small, "other")) == ("a", None)
    assert stored(small) == {"a", "b", "other", "z"}


@pytest.mark.parametrize(
    ("copy", "how"),
    [(jpeg(1), "has the same bytes as 'a'"), (near(1), "looks the same as 'a'")],
    ids=["exact", "near"],
)
def test_a_rejected_duplicate_fails_and_is_not_in_the_index(
    small: Small, copy: bytes, how: str
) -> None:
    use(small, REJECT)
    small.ingest({"a": jpeg(1), "z": jpeg(2)})

    job = small.ingest({"b": copy, "other": jpeg(3)})

    (failure,) = failures(small, job)
    assert (job.done, job.failed, job.pending) == (1, 1, 0)
    assert (failure.image_id, failure.code) == ("b", "duplicate")
    assert not failure.retryable
    assert how in failure.detail
    assert image(small, "b").state is ImageState.FAILED
    assert stored(small) == {"a", "other", "z"}


def test_an_exact_duplicate_is_rejected_without_embedding_it(small: Small) -> None:
    use(small, REJECT)
    small.ingest({"a": jpeg(1)})
    before = small.embedder.embedded

    small.ingest({"b": jpeg(1)})

    assert small.embedder.embedded == before


def test_an_id_that_is_indexed_may_get_any_picture(small: Small) -> None:
    use(small, REJECT)
    small.ingest({"a": jpeg(1), "b": jpeg(2)})

    again = small.ingest({"a": jpeg(1)}, {"category": "shoes"})
    other = small.ingest({"b": jpeg(1)})

    assert (again.done, other.done) == (1, 1)
    assert stored(small) == {"a", "b"}


def test_a_rejected_image_is_taken_once_its_original_is_gone(small: Small) -> None:
    use(small, REJECT)
    small.ingest({"a": jpeg(1)})
    small.ingest({"b": near(1)})
    small.ledger.delete_images(small.collection, [ImageId("a")])

    job = small.ingest({"b": near(1)})

    assert job.done == 1
    assert "b" in stored(small)


@pytest.mark.parametrize("policy", [LINK, REJECT])
@pytest.mark.parametrize("copy", [jpeg(1), near(1)], ids=["exact", "near"])
def test_of_copies_in_one_request_the_first_is_the_original(
    small: Small, policy: DuplicatePolicy, copy: bytes
) -> None:
    use(small, policy)
    job = small.ingest({"a": jpeg(1), "b": copy})

    settle(small)

    job = small.ledger.job(TEAM, job.id)
    first = min(("a", "b"), key=lambda one: image(small, one).key)
    second = "b" if first == "a" else "a"
    assert job.pending == 0
    assert image(small, first).state is ImageState.INDEXED
    if policy is LINK:
        assert (original(small, first), original(small, second)) == (None, first)
        assert stored(small) == {"a", "b"}
    else:
        assert stored(small) == {first}
        assert f"{first!r}" in failures(small, job)[0].detail


def test_waiting_for_an_original_uses_up_no_attempt(small: Small) -> None:
    use(small, REJECT)
    small.ingest({"a": jpeg(1)}, work=False)
    held = small.queue.take()
    job = small.ingest({"b": jpeg(1)}, work=False)
    (second,) = small.queue.take()
    for _ in range(10):
        do(small, small.index, *second)
        end_delays(small)

    waiting = small.ledger.job(TEAM, job.id)
    do(small, small.index, *held[0])
    settle(small)

    assert waiting.pending == 1
    assert failures(small, job)[0].code == "duplicate"


def test_a_copy_goes_on_when_its_original_fails(small: Small) -> None:
    use(small, REJECT)
    first = small.ingest({"a": jpeg(1)}, work=False)
    small.queue.take()
    job = small.ingest({"b": jpeg(1)})
    small.ledger.cancel(TEAM, first.id)

    settle(small)

    assert small.ledger.job(TEAM, job.id).done == 1
    assert stored(small) == {"b"}


class Meanwhile:
    """An index during whose first call of a method something else happens."""

    def __init__(
        self, small: Small, method: str, happens: Callable[[], object]
    ) -> None:
        self._index = small.index
        self._method = method
        self._happens: Callable[[], object] | None = happens

    def __getattr__(self, name: str) -> object:
        found = getattr(self._index, name)
        happens = self._happens
        if name != self._method or happens is None:
            return found
        self._happens = None

        def call(*arguments: object) -> object:
            answer = found(*arguments)
            happens()
            return answer

        return call


def do_while(
    small: Small, works: list[WorkId], method: str, happens: Callable[[], object]
) -> None:
    """Do work, and something else right after its first call of the index' method."""
    index = cast(VectorIndex, Meanwhile(small, method, happens))
    do(small, index, *works)


def test_what_was_rejected_for_an_image_that_is_gone_is_tried_again(
    small: Small,
) -> None:
    use(small, REJECT)
    small.ingest({"a": jpeg(1)})
    job = small.ingest({"b": near(1)}, work=False)
    (works,) = small.queue.take()

    def deleted() -> None:
        small.ledger.delete_images(small.collection, [ImageId("a")])

    do_while(small, works, "delete", deleted)
    between = small.ledger.job(TEAM, job.id)
    settle(small)

    assert (between.pending, between.failed) == (1, 0)
    assert small.ledger.job(TEAM, job.id).done == 1
    assert stored(small) == {"b"}


def test_a_link_to_an_image_that_is_gone_is_left_away(small: Small) -> None:
    use(small, LINK)
    small.ingest({"a": jpeg(1)})
    job = small.ingest({"b": near(1)}, work=False)
    (works,) = small.queue.take()

    def replaced() -> None:
        small.ingest({"a": jpeg(2)})

    do_while(small, works, "upsert", replaced)

    assert small.ledger.job(TEAM, job.id).done == 1
    assert image(small, "b").duplicate_of is None


@pytest.mark.parametrize("change", ["deleted", "replaced"])
def test_a_link_is_not_told_when_the_older_one_has_changed(
    small: Small, change: str
) -> None:
    use(small, LINK)
    small.ingest({"a": jpeg(1)})
    small.ingest({"b": near(1)})

    if change == "deleted":
        small.ledger.delete_images(small.collection, [ImageId("a")])
    else:
        small.ingest({"a": jpeg(2)})

    assert original(small, "b") is None


def test_near_copies_in_two_workers_at_once_may_both_stay(small: Small) -> None:
    use(small, REJECT)
    jobs = [
        small.ingest({"a": jpeg(1)}, work=False),
        small.ingest({"b": near(1)}, work=False),
    ]
    first, second = small.queue.take()

    # Neither has written anything when the other looks for it.

    def other() -> None:
        do(small, small.index, *second)

    do_while(small, first, "search_many", other)

    assert [small.ledger.job(TEAM, job.id).done for job in jobs] == [1, 1]
    found = duplicate_groups.groups(
        *(small.ledger, small.index, small.collection, Tier.NEAR)
    )
    assert len(found.groups[0].members) == 2


def test_exact_copies_in_two_workers_at_once_leave_one(small: Small) -> None:
    use(small, REJECT)
    first_job = small.ingest({"a": jpeg(1)}, work=False)
    second_job = small.ingest({"b": jpeg(1)}, work=False)
    first, second = small.queue.take()

    def other() -> None:
        do(small, small.index, *second)

    do_while(small, first, "search_many", other)
    settle(small)

    assert small.ledger.job(TEAM, first_job.id).done == 1
    assert small.ledger.job(TEAM, second_job.id).failed == 1
    assert stored(small) == {"a"}


def test_what_an_earlier_try_of_a_rejected_image_wrote_is_removed(
    small: Small,
) -> None:
    use(small, REJECT)
    job = small.ingest({"a": jpeg(1)}, work=False)
    (first,) = small.queue.take()
    small.ledger.claim(first)  # by a worker that writes it, and then dies
    small.ledger.recover()
    small.ingest({"b": near(1)})
    key = image(small, "b").key
    row = small.index.vectors(small.collection, [key])[key]
    a = image(small, "a")
    small.index.upsert(small.collection, [IndexRow(a.key, a.gen, row.vector, {})])

    do(small, small.index, *first)

    assert small.ledger.job(TEAM, job.id).failed == 1
    assert stored(small) == {"b"}


def test_a_late_write_of_a_rejected_image_is_removed(small: Small) -> None:
    use(small, REJECT)
    job = small.ingest({"a": jpeg(1)}, work=False)
    (first,) = small.queue.take()

    def others() -> None:
        # This worker was too slow: others index a copy, and end its own work.
        small.ingest({"b": near(1)})
        small.ledger.recover()
        do(small, small.index, *first)

    do_while(small, first, "search_many", others)
    late = stored(small)
    settle(small)

    assert late == {"a", "b"}
    assert small.ledger.job(TEAM, job.id).failed == 1
    assert image(small, "a").state is ImageState.FAILED
    assert stored(small) == {"b"}


def test_repairing_an_original_links_it_to_nothing(small: Small) -> None:
    use(small, LINK)
    small.ingest({"a": jpeg(1)})
    small.ingest({"b": near(1)})

    for name in "ab":
        works = small.ledger.repair(small.collection, [image(small, name).key])
        do(small, small.index, *works)

    assert (original(small, "a"), original(small, "b")) == (None, "a")


def test_a_new_picture_has_neither_signature_nor_link(small: Small) -> None:
    use(small, LINK)
    small.ingest({"a": jpeg(1)})
    small.ingest({"b": cropped(jpeg(1), np.random.default_rng(1))})
    linked = image(small, "b")

    small.ingest({"b": jpeg(4)}, work=False)

    assert linked.duplicate_of is not None
    assert linked.signature is not None
    assert image(small, "b").duplicate_of is None
    assert image(small, "b").signature is None
