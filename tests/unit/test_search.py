from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from fakes import FakeEmbedder
from lookalike.errors import BackboneMismatch, BadImage, BadQuery, ImageNotFound
from lookalike.filters import parse
from lookalike.interfaces import ImageId, IndexRow
from lookalike.reading import check_vector
from lookalike.results import Want
from small import Small, collection_for, picture


@pytest.fixture
def small(tmp_path: Path) -> Small:
    small = Small.build(tmp_path)
    for category, seeds in {"shoes": range(12), "bags": range(12, 20)}.items():
        small.ingest(
            {f"{category}/{seed}": picture(seed) for seed in seeds},
            {"category": category},
        )
    return small


def test_a_picture_finds_itself_first(small: Small) -> None:
    found = small.searcher.by_image(small.collection, picture(3), Want(limit=5))

    assert found.matches[0].id == "shoes/3"
    assert found.matches[0].score == pytest.approx(1.0, abs=1e-5)
    assert len(found.matches) == 5
    assert found.complete


def test_scores_never_rise(small: Small) -> None:
    found = small.searcher.by_image(small.collection, picture(3), Want(limit=20))

    scores = [match.score for match in found.matches]
    assert scores == sorted(scores, reverse=True)


def test_a_stored_image_leaves_itself_out(small: Small) -> None:
    found = small.searcher.by_id(small.collection, ImageId("shoes/3"), Want(limit=19))

    assert len(found.matches) == 19
    assert "shoes/3" not in {match.id for match in found.matches}


def test_an_image_that_is_not_indexed_yet_can_be_the_query(small: Small) -> None:
    small.ingest({"late": picture(3)}, work=False)

    found = small.searcher.by_id(small.collection, ImageId("late"), Want(limit=1))

    assert found.matches[0].id == "shoes/3"


def test_a_filter_keeps_every_match_in_the_category(small: Small) -> None:
    condition = parse({"category": "bags"}, small.collection.fields)

    found = small.searcher.by_image(
        small.collection, picture(3), Want(limit=8, condition=condition)
    )

    assert [match.image.metadata["category"] for match in found.matches] == ["bags"] * 8
    assert found.complete


def test_fewer_than_asked_says_so(small: Small) -> None:
    condition = parse({"category": "bags"}, small.collection.fields)

    found = small.searcher.by_image(
        small.collection, picture(3), Want(limit=9, condition=condition)
    )

    assert len(found.matches) == 8
    assert not found.complete


def test_a_lower_score_than_asked_is_left_out(small: Small) -> None:
    found = small.searcher.by_image(
        small.collection, picture(3), Want(limit=20, min_score=0.999)
    )

    assert [match.id for match in found.matches] == ["shoes/3"]


def test_a_deleted_image_is_not_found_before_the_index_knows(small: Small) -> None:
    small.ledger.delete_images(small.collection, [ImageId("shoes/3")])

    found = small.searcher.by_image(small.collection, picture(3), Want(limit=19))

    assert len(found.matches) == 19
    assert "shoes/3" not in {match.id for match in found.matches}


def test_changed_metadata_count_before_the_index_knows(small: Small) -> None:
    small.ledger.update_metadata(
        small.collection, ImageId("bags/12"), {"category": "hats"}
    )
    condition = parse({"category": "bags"}, small.collection.fields)

    found = small.searcher.by_image(
        small.collection, picture(12), Want(limit=10, condition=condition)
    )

    assert "bags/12" not in {match.id for match in found.matches}
    assert len(found.matches) == 7


def test_many_deleted_images_do_not_shorten_the_answer(small: Small) -> None:
    small.ledger.delete_images(
        small.collection, [ImageId(f"shoes/{seed}") for seed in range(12)]
    )

    found = small.searcher.by_image(small.collection, picture(3), Want(limit=8))

    assert len(found.matches) == 8


def test_an_old_row_does_not_stand_for_an_image(small: Small) -> None:
    key = small.ledger.image(small.collection, ImageId("bags/15")).key
    other = small.ledger.image(small.collection, ImageId("shoes/1")).key
    vector = small.index.vectors(small.collection, [other])[other].vector
    small.index.upsert(small.collection, [IndexRow(key, 1, vector, {})])

    found = small.searcher.by_id(small.collection, ImageId("bags/15"), Want(limit=1))

    assert found.matches[0].score < 0.999


def test_a_query_that_is_no_image_is_refused(small: Small) -> None:
    with pytest.raises(BadImage):
        small.searcher.by_image(small.collection, b"not an image", Want())


def test_an_unknown_id_is_refused(small: Small) -> None:
    with pytest.raises(ImageNotFound):
        small.searcher.by_id(small.collection, ImageId("nobody"), Want())


def test_another_backbone_is_refused_for_every_kind_of_query(small: Small) -> None:
    other = dataclasses.replace(small.collection, fingerprint="other")
    search = small.searcher

    with pytest.raises(BackboneMismatch):
        search.by_image(other, picture(1), Want())
    with pytest.raises(BackboneMismatch):
        search.by_id(other, ImageId("shoes/1"), Want())
    with pytest.raises(BackboneMismatch):
        search.by_vector(other, [1.0] * other.dimension, Want())


def test_a_stored_vector_finds_its_image(small: Small) -> None:
    key = small.ledger.image(small.collection, ImageId("bags/15")).key
    vector = small.index.vectors(small.collection, [key])[key].vector

    found = small.searcher.by_vector(
        small.collection, [float(v) * 1e6 for v in vector], Want(limit=1)
    )

    assert found.matches[0].id == "bags/15"


@pytest.mark.parametrize(
    "vector",
    [
        None,
        "abc",
        [],
        [1.0, 2.0],
        [1.0, 2.0, 3.0, 4.0],
        [1.0, float("nan"), 1.0],
        [1.0, float("inf"), 1.0],
        [0.0, 0.0, 0.0],
        [1.0, "2", 3.0],
        [True, False, True],
        [1, 10**400, 1],
    ],
)
def test_a_vector_that_is_none_is_refused(vector: object) -> None:
    short = dataclasses.replace(collection_for(FakeEmbedder()), dimension=3)

    with pytest.raises(BadQuery) as caught:
        check_vector(vector, short)

    assert caught.value.code == "vector_invalid"


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_a_vector_of_any_scale_becomes_a_unit_vector(scale: float) -> None:
    short = dataclasses.replace(collection_for(FakeEmbedder()), dimension=3)

    vector = check_vector([3 * scale, 0, 4 * scale], short)

    assert vector == pytest.approx([0.6, 0.0, 0.8])
