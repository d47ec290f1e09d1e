from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from lookalike import catalogue, deletion
from lookalike.backbones import find
from lookalike.errors import (
    BadFilter,
    BadMetadata,
    BadRequest,
    CollectionExists,
    CollectionNotFound,
    IndexUnavailable,
    LedgerUnavailable,
)
from lookalike.filters import parse
from lookalike.interfaces import Accepted, ImageId
from small import TEAM, Small, picture


@pytest.fixture
def small(tmp_path: Path) -> Small:
    return Small.build(tmp_path)


def create(small: Small, name: str = "new", **more: object) -> None:
    catalogue.create_collection(
        small.ledger, small.index, find("resnet18"), TEAM, name, **more
    )


def test_a_collection_carries_the_backbone_that_runs(small: Small) -> None:
    create(small, fields={"category": "string"})

    collection = small.ledger.collection(TEAM, "new")
    assert collection.backbone == "resnet18"
    assert collection.fingerprint == find("resnet18").fingerprint
    assert collection.dimension == 512


def test_a_second_collection_of_a_name_is_refused(small: Small) -> None:
    create(small)

    with pytest.raises(CollectionExists):
        create(small)


def test_an_unknown_metric_is_answered_with_the_accepted_ones(small: Small) -> None:
    with pytest.raises(BadRequest, match="cosine"):
        create(small, metric="manhattan")


def test_bad_fields_record_nothing(small: Small) -> None:
    with pytest.raises(BadMetadata):
        create(small, fields={"category": "text"})

    with pytest.raises(CollectionNotFound):
        small.ledger.collection(TEAM, "new")


def test_a_name_can_be_used_again_after_deletion(small: Small) -> None:
    small.ingest({"a": picture(1)})
    first = small.collection

    catalogue.delete_collection(small.ledger, small.index, TEAM, first.name)
    create(small, name=first.name)

    second = small.ledger.collection(TEAM, first.name)
    assert second.uid != first.uid
    assert small.ledger.images(second, None, 10) == []


class StuckIndex:
    """The index, while it can be asked for nothing."""

    def create(self, collection: object) -> None:
        raise IndexUnavailable("The index does not answer.")


def test_no_collection_is_recorded_while_the_index_is_down(small: Small) -> None:
    with pytest.raises(IndexUnavailable):
        catalogue.create_collection(
            small.ledger,
            StuckIndex(),  # type: ignore[arg-type]
            find("resnet18"),
            TEAM,
            "new",
        )

    with pytest.raises(CollectionNotFound):
        small.ledger.collection(TEAM, "new")


def test_scrolling_sees_each_image_once_in_order(small: Small) -> None:
    small.ingest({f"{n:03d}": picture(n, (16, 16)) for n in range(25)})
    seen: list[str] = []
    after: ImageId | None = None

    for _ in range(10):
        page, after = catalogue.scroll(small.ledger, small.collection, None, after, 7)
        seen += [image.id for image in page]
        if after is None:
            break

    assert seen == [f"{n:03d}" for n in range(25)]


def test_scrolling_with_a_filter_sees_only_what_matches(small: Small) -> None:
    for n in range(12):
        category = "shoes" if n % 3 == 0 else "bags"
        small.ingest({f"{n:03d}": picture(n, (16, 16))}, {"category": category})
    condition = parse({"category": "shoes"}, small.collection.fields)

    page, after = catalogue.scroll(small.ledger, small.collection, condition, None, 3)
    rest, end = catalogue.scroll(small.ledger, small.collection, condition, after, 3)

    assert [image.id for image in page] == ["000", "003", "006"]
    assert [image.id for image in rest] == ["009"]
    assert end is None


def test_deleting_counts_only_what_was_there(small: Small) -> None:
    small.ingest({"a": picture(1), "b": picture(2)})

    accepted = catalogue.delete_images(
        small.ledger, small.queue, small.collection, ["a", "nobody"], 32
    )

    small.work()
    assert small.ledger.job(TEAM, accepted.job.id).done == 1
    assert small.index.count(small.collection) == 1


def fill(small: Small, count: int) -> None:
    """Have so many images, every third of them shoes."""
    data = picture(1, (16, 16))
    intake = small.intake()
    for n in range(count):
        category = "shoes" if n % 3 == 0 else "bags"
        intake.add(small.stage(data), f"{n:05d}", {"category": category})
    intake.finish()


def delete_shoes(small: Small, key: str | None = None) -> Accepted:
    return catalogue.delete_matching(
        small.ledger, small.queue, small.collection, {"category": "shoes"}, 32, key
    )


def left(small: Small) -> list[str]:
    return [image.id for image in small.ledger.images(small.collection, None, 10_000)]


@pytest.fixture
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deletions go in parts of 50, so that short ones have several."""
    monkeypatch.setattr(catalogue, "SCROLL_PAGE", 50)
    monkeypatch.setattr(deletion, "PART", 50)


@pytest.mark.usefixtures("short_parts")
def test_a_long_deletion_by_filter_is_one_job(small: Small) -> None:
    fill(small, 330)  # 110 of them go, in three parts

    accepted = delete_shoes(small)

    job = small.ledger.job(TEAM, accepted.job.id)
    assert job.total == 110
    assert left(small) == [f"{n:05d}" for n in range(330) if n % 3]
    small.work()
    assert small.ledger.job(TEAM, job.id).finished_at is not None
    assert small.ledger.job(TEAM, job.id).done == 110


@pytest.mark.usefixtures("short_parts")
def test_a_long_deletion_again_is_the_same_job(small: Small) -> None:
    fill(small, 330)
    first = delete_shoes(small, "key")
    fill(small, 330)
    before = left(small)

    again = delete_shoes(small, "key")

    assert (again.job.id, again.replayed) == (first.job.id, True)
    assert left(small) == before


@pytest.mark.usefixtures("short_parts")
def test_a_deletion_that_breaks_off_ends_its_job_and_can_be_sent_again(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(small, 330)
    with monkeypatch.context() as patch:
        delete, parts = small.ledger.delete_images, itertools.count()

        def fail(*args: Any, **more: Any) -> Accepted:
            if next(parts) == 1:
                raise LedgerUnavailable("The database does not answer.")
            return delete(*args, **more)

        patch.setattr(small.ledger, "delete_images", fail)
        with pytest.raises(LedgerUnavailable):
            delete_shoes(small, "key")

    again = delete_shoes(small, "key")

    small.work()
    assert (again.job.total, again.replayed) == (60, False)
    assert len(left(small)) == 220
    deletions = [job for job in small.ledger.jobs(TEAM, None, 10) if job.total < 330]
    assert [job.total for job in deletions] == [60, 50]
    assert all(job.finished_at is not None for job in deletions)


def test_a_deletion_that_finds_little_shows_that_it_goes_on(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "SCROLL_PAGE", 10)
    monkeypatch.setattr(deletion, "SHOWN_AFTER", 20)
    fill(small, 65)

    accepted = delete_shoes(small)

    assert accepted.job.total == 22
    assert len(left(small)) == 43


@pytest.mark.parametrize("raw", [None, {}, {"$and": []}])
def test_an_empty_filter_deletes_nothing(small: Small, raw: object) -> None:
    small.ingest({"a": picture(1)})

    with pytest.raises(BadFilter, match="delete the collection"):
        catalogue.delete_matching(
            small.ledger, small.queue, small.collection, raw, 32, "key"
        )

    assert left(small) == ["a"]


def test_new_metadata_show_at_once(small: Small) -> None:
    small.ingest({"a": picture(1)}, {"category": "shoes"})

    image = catalogue.update_metadata(
        small.ledger,
        small.queue,
        small.collection,
        ImageId("a"),
        {"category": "bags", "price": 3},
        16_384,
    )

    assert image.metadata == {"category": "bags", "price": 3.0}
