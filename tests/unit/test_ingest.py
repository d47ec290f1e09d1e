from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from lookalike.collections import CollectionUid, Team
from lookalike.errors import (
    BadEmbedding,
    BadImage,
    BadMetadata,
    BadRequest,
    EmbedderUnavailable,
    IdempotencyConflict,
    ImageNotFound,
    LookalikeError,
    Misconfigured,
)
from lookalike.ingest import Intake, check_image_id, index_images, reconcile
from lookalike.interfaces import (
    ImageId,
    ImageState,
    IndexRow,
    Maps,
    Pixels,
    Vectors,
)
from lookalike.results import Want
from small import TEAM, Small, picture


@pytest.fixture
def small(tmp_path: Path) -> Small:
    return Small.build(tmp_path)


@pytest.mark.parametrize("good", ["a", "shoes/1.jpg", "ü ñ %#?", "🙂", "x" * 512])
def test_an_id_that_survives_an_address_is_taken(good: str) -> None:
    assert check_image_id(good) == good


@pytest.mark.parametrize(
    "bad",
    [
        *("", "/a", "a/", "a//b", "a/../b", ".", "a\0b", "a\nb", "\x85", "\ud800"),
        *("x" * 513, "a/original", "a/thumbnail", 7, None),
    ],
)
def test_an_id_that_an_address_would_change_is_refused(bad: object) -> None:
    with pytest.raises(BadMetadata) as caught:
        check_image_id(bad)

    assert caught.value.code == "id_invalid"


def test_an_ingested_image_is_indexed_with_its_metadata(small: Small) -> None:
    job = small.ingest({"a": picture(1)}, {"category": "shoes"})

    image = small.ledger.image(small.collection, ImageId("a"))
    assert (job.done, job.pending, job.failed) == (1, 0, 0)
    assert job.finished_at is not None
    assert image.state is ImageState.INDEXED
    assert image.metadata == {"category": "shoes"}
    assert (image.width, image.height, image.format) == (96, 80, "PNG")
    assert small.index.count(small.collection) == 1


def test_the_id_is_the_digest_of_the_bytes_when_none_is_given(small: Small) -> None:
    intake = small.intake()
    staged = small.stage(picture(1))
    digest = staged.digest()
    intake.add(staged)

    intake.finish()

    assert small.ledger.image(small.collection, ImageId(digest)).digest == digest


def test_ingesting_the_same_again_embeds_nothing(small: Small) -> None:
    pictures = {str(seed): picture(seed) for seed in range(5)}
    small.ingest(pictures)
    before = small.embedder.embedded

    job = small.ingest(pictures)

    assert (job.unchanged, job.done) == (5, 0)
    assert small.embedder.embedded == before


def test_new_metadata_alone_embeds_nothing(small: Small) -> None:
    small.ingest({"a": picture(1)}, {"category": "shoes"})
    before = small.embedder.embedded

    job = small.ingest({"a": picture(1)}, {"category": "bags"})

    assert job.done == 1
    assert small.embedder.embedded == before
    image = small.ledger.image(small.collection, ImageId("a"))
    assert image.metadata == {"category": "bags"}


def test_new_metadata_do_not_keep_the_vector_of_an_earlier_picture(
    small: Small,
) -> None:
    small.ingest({"a": picture(1)})
    key = small.ledger.image(small.collection, ImageId("a")).key
    old = small.index.vectors(small.collection, [key])[key]
    small.ingest({"a": picture(2)}, {"category": "shoes"})
    # A kill brought the row of the first picture back.
    stale = IndexRow(key, old.gen, old.vector, {})
    small.index.upsert(small.collection, [stale])

    small.ingest({"a": picture(2)}, {"category": "bags"})

    found = small.searcher.by_image(small.collection, picture(2), Want(limit=1))
    assert found.matches[0].score == pytest.approx(1.0, abs=1e-5)


def test_one_bad_image_never_fails_its_batch(small: Small) -> None:
    intake = small.intake()
    intake.add(small.stage(picture(1)), "good")
    intake.add(small.stage(b"not an image"), "bad")
    intake.add(small.stage(picture(2)), "wrong", {"categry": "shoes"})
    intake.add(small.stage(picture(3)), "also good")

    job = intake.finish()

    small.work()
    job = small.ledger.job(TEAM, job.id)
    failures = small.ledger.failures(TEAM, job.id, None, 10)
    assert (job.total, job.done, job.failed) == (4, 2, 2)
    assert [(f.position, f.image_id, f.code) for f in failures] == [
        (1, "bad", "image_unsupported"),
        (2, "wrong", "metadata_unknown_field"),
    ]
    assert not any(failure.retryable for failure in failures)


def test_one_refused_image_is_answered_with_its_own_error(small: Small) -> None:
    intake = small.intake()
    intake.add(small.stage(b"not an image"), "bad")

    with pytest.raises(BadImage) as caught:
        intake.finish()

    assert caught.value.code == "image_unsupported"
    assert small.ledger.jobs(TEAM, None, 10) == []


def test_a_request_of_only_refused_images_records_nothing(small: Small) -> None:
    intake = small.intake()
    intake.add(small.stage(b"not an image"), "a")
    intake.add(small.stage(b"neither"), "b")

    with pytest.raises(BadImage) as caught:
        intake.finish()

    assert caught.value.code == "all_refused"
    assert len(caught.value.extra["failures"]) == 2  # type: ignore[arg-type]
    assert small.ledger.jobs(TEAM, None, 10) == []
    assert small.queue.take() == []


def test_a_request_without_images_is_refused(small: Small) -> None:
    with pytest.raises(BadRequest):
        small.intake().finish()


def test_a_long_request_is_one_job(small: Small) -> None:
    intake = small.intake()
    data = picture(1, (16, 16))
    for number in range(1203):
        intake.add(small.stage(data), str(number))

    job = intake.finish()

    assert job.total == 1203
    assert [j.id for j in small.ledger.jobs(TEAM, None, 10)] == [job.id]
    assert job.finished_at is None


def test_an_abandoned_request_still_ends_its_job(small: Small) -> None:
    intake = small.intake()
    data = picture(1, (16, 16))
    for number in range(600):
        intake.add(small.stage(data), str(number))

    intake.abandon()

    small.work()
    (job,) = small.ledger.jobs(TEAM, None, 10)
    assert (job.total, job.done) == (500, 500)
    assert job.finished_at is not None


# --- the same request twice ----------------------------------------------------------


def long_request(small: Small, count: int, key: str, first: int = 1) -> Intake:
    """A request of so many small images, read but not finished."""
    intake = small.intake(key)
    rest = picture(1, (16, 16))
    for number in range(count):
        data = picture(first, (16, 16)) if number == 0 else rest
        intake.add(small.stage(data), str(number))
    return intake


def test_a_long_request_again_records_nothing(small: Small) -> None:
    first = long_request(small, 1_203, "key").finish()
    small.work()

    again = long_request(small, 1_203, "key")

    job = again.finish()
    assert again.replayed
    assert (job.id, job.total, job.done) == (first.id, 1_203, 1_203)
    assert [one.id for one in small.ledger.jobs(TEAM, None, 10)] == [first.id]
    assert small.queue.take() == []


@pytest.mark.parametrize(("count", "first"), [(1_203, 2), (1_202, 1), (400, 1)])
def test_a_long_request_that_differs_is_a_conflict(
    small: Small, count: int, first: int
) -> None:
    job = long_request(small, 1_203, "key").finish()

    with pytest.raises(IdempotencyConflict):
        long_request(small, count, "key", first).finish()

    assert small.ledger.jobs(TEAM, None, 10) == [job]


def test_giving_up_a_repeat_leaves_the_job_of_the_first_alone(small: Small) -> None:
    long_request(small, 700, "key").finish()
    before = small.ledger.jobs(TEAM, None, 10)

    long_request(small, 600, "key").abandon()

    assert small.ledger.jobs(TEAM, None, 10) == before
    assert long_request(small, 700, "key").finish() == before[0]


def test_a_request_that_was_given_up_frees_its_key(small: Small) -> None:
    long_request(small, 600, "key").abandon()

    again = long_request(small, 600, "key")

    assert again.finish().total == 600
    assert not again.replayed


class DownEmbedder:
    """The embedder, while its server is down or serves another model."""

    error: LookalikeError = EmbedderUnavailable("The embedder does not answer.")

    def __init__(self, small: Small) -> None:
        self.fingerprint = small.embedder.fingerprint
        self.geometry = small.embedder.geometry
        self.dimension = small.embedder.dimension

    def embed(self, pixels: Pixels) -> Vectors:
        raise self.error

    def feature_maps(self, pixels: Pixels) -> Maps:
        raise self.error


@pytest.mark.parametrize(
    "error", [DownEmbedder.error, Misconfigured("Triton serves another model.")]
)
def test_an_outage_gives_the_work_back(small: Small, error: LookalikeError) -> None:
    job = small.ingest({"a": picture(1)}, work=False)
    (chunk,) = small.queue.take()
    embedder = DownEmbedder(small)
    embedder.error = error

    index_images(
        small.ledger, small.blobs, embedder, small.index, chunk, limits=small.limits
    )

    job = small.ledger.job(TEAM, job.id)
    assert (job.pending, job.failed) == (1, 0)
    assert small.ledger.pending() == 1


class PickyEmbedder(DownEmbedder):
    """Answers nonsense for pictures whose first pixel is bright."""

    def embed(self, pixels: Pixels) -> Vectors:
        if (pixels[:, 0, 0, 0] > 200).any():
            raise BadEmbedding("The network answered with NaN.")
        flat = np.ones((len(pixels), self.dimension), np.float32)
        return flat / np.float32(np.sqrt(self.dimension))


def test_one_bad_embedding_fails_alone(small: Small) -> None:
    pictures = {str(seed): picture(seed) for seed in range(30)}
    job = small.ingest(pictures, work=False)

    for chunk in small.queue.take():
        index_images(
            small.ledger,
            small.blobs,
            PickyEmbedder(small),
            small.index,
            chunk,
            limits=small.limits,
        )

    job = small.ledger.job(TEAM, job.id)
    failures = small.ledger.failures(TEAM, job.id, None, 100)
    assert job.pending == 0
    assert job.failed == len(failures) > 0
    assert job.done > 0
    assert {failure.code for failure in failures} == {"bad_embedding"}


def test_a_lost_original_fails_alone(small: Small, tmp_path: Path) -> None:
    job = small.ingest({"a": picture(1), "b": picture(2)}, work=False)
    lost = small.image_digest("a")
    (file,) = (path for path in tmp_path.rglob(f"*{lost}*") if path.is_file())
    file.unlink()

    small.work()

    job = small.ledger.job(TEAM, job.id)
    (failure,) = small.ledger.failures(TEAM, job.id, None, 10)
    assert (job.done, job.failed, job.pending) == (1, 1, 0)
    assert (failure.image_id, failure.code) == ("a", "original_missing")


def test_vectors_of_another_backbone_never_mix_in(small: Small) -> None:
    job = small.ingest({"a": picture(1)}, work=False)
    (chunk,) = small.queue.take()
    other = DownEmbedder(small)
    other.fingerprint = "other"

    index_images(
        small.ledger, small.blobs, other, small.index, chunk, limits=small.limits
    )

    assert small.index.count(small.collection) == 0
    assert small.ledger.job(TEAM, job.id).pending == 1


def test_metadata_change_without_the_backbone_that_embedded(small: Small) -> None:
    small.ingest({"a": picture(1)}, metadata={"category": "shoes"})
    small.embedder.fingerprint = "other"

    small.ingest({"a": picture(1)}, metadata={"category": "bags"})

    image = small.ledger.image(small.collection, ImageId("a"))
    assert (image.state, image.metadata) == (ImageState.INDEXED, {"category": "bags"})


def test_a_deleted_image_leaves_the_index(small: Small) -> None:
    small.ingest({"a": picture(1), "b": picture(2)})

    small.ledger.delete_images(small.collection, [ImageId("a")])

    with pytest.raises(ImageNotFound):
        small.ledger.image(small.collection, ImageId("a"))


def test_the_same_chunk_twice_counts_once(small: Small) -> None:
    job = small.ingest({"a": picture(1)}, work=False)
    (chunk,) = small.queue.take()

    for _ in range(2):
        index_images(
            small.ledger,
            small.blobs,
            small.embedder,
            small.index,
            chunk,
            limits=small.limits,
        )

    assert small.ledger.job(TEAM, job.id).done == 1


def test_a_message_of_one_team_makes_room_for_another(small: Small) -> None:
    flood = small.ingest({str(n): picture(n) for n in range(4)}, work=False)
    (chunk,) = small.queue.take()
    loud = small.collection
    small.collection = dataclasses.replace(
        loud, team=Team("quiet"), uid=CollectionUid("quiet")
    )
    small.ledger.create_collection(small.collection)
    small.index.create(small.collection)
    waiting = long_request(small, 1, "key").finish()

    index_images(
        small.ledger,
        small.blobs,
        small.embedder,
        small.index,
        chunk,
        limits=small.limits,
    )

    # As much was done as the message names; what gave up its place is due at once.
    assert small.ledger.job(TEAM, flood.id).done == 3
    assert small.ledger.job(Team("quiet"), waiting.id).done == 1
    assert reconcile(small.ledger, small.queue, chunk_images=32) == 1


def test_the_reconciler_leaves_alone_what_was_just_rung(small: Small) -> None:
    small.ingest({"a": picture(1)}, work=False)

    rung = reconcile(small.ledger, small.queue, chunk_images=32)

    assert rung == 0


def test_limits_of_the_operator_are_kept(small: Small) -> None:
    small.limits = dataclasses.replace(small.limits, max_side=64)
    intake = small.intake()
    intake.add(small.stage(picture(1)), "a")

    with pytest.raises(BadImage) as caught:
        intake.finish()

    assert caught.value.code == "image_too_large"
