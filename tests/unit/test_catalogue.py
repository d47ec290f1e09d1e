from __future__ import annotations

from pathlib import Path

import pytest

from lookalike import catalogue
from lookalike.backbones import find
from lookalike.errors import (
    BadMetadata,
    BadRequest,
    CollectionExists,
    CollectionNotFound,
    IndexUnavailable,
)
from lookalike.filters import parse
from lookalike.interfaces import ImageId
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

    job = catalogue.delete_images(
        small.ledger, small.queue, small.collection, ["a", "nobody"], 32
    )

    small.work()
    assert small.ledger.job(TEAM, job.id).done == 1
    assert small.index.count(small.collection) == 1


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
