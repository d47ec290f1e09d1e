from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lookalike import metrics
from lookalike.collections import Metric
from lookalike.crops import Crop
from lookalike.errors import BadQuery, ImageNotFound
from lookalike.images import decode_square
from lookalike.interfaces import ImageId
from lookalike.probes import Probe, combined, parts
from lookalike.queries import (
    MAX_EXAMPLES,
    NEGATIVE_WEIGHT,
    Example,
    Numbers,
    Picture,
    Query,
    Stored,
    Strategy,
)
from lookalike.reading import Reader
from small import Small, picture

A, B, C = np.eye(3, 8, dtype=np.float32)


def probe(
    *vectors: np.ndarray, weights: list[float] | None = None, positives: int = 1
) -> Probe:
    made = np.stack(vectors).astype(np.float32)
    return Probe(made, np.array(weights or [1.0] * len(made), np.float32), positives)


@pytest.fixture
def small(tmp_path: Path) -> Small:
    small = Small.build(tmp_path)
    small.ingest({name: picture(seed) for seed, name in enumerate("abc")})
    return small


def reader(small: Small) -> Reader:
    return Reader(small.ledger, small.blobs, small.embedder, small.index, small.limits)


# --- what can be asked ---------------------------------------------------------------


def test_a_query_without_a_positive_example_is_refused() -> None:
    with pytest.raises(BadQuery, match="positive"):
        Query((), (Example(Stored(ImageId("a"))),))


def test_too_many_examples_are_refused() -> None:
    example = Example(Stored(ImageId("a")))

    with pytest.raises(BadQuery) as caught:
        Query((example,) * MAX_EXAMPLES, (example,))

    assert caught.value.extra["limit"] == MAX_EXAMPLES


@pytest.mark.parametrize("weight", [0.0, -1.0, 101.0, float("nan")])
def test_a_weight_that_is_none_is_refused(weight: float) -> None:
    with pytest.raises(BadQuery, match="weight"):
        Query((Example(Stored(ImageId("a")), weight),))


def test_a_vector_has_no_crop() -> None:
    with pytest.raises(BadQuery, match="crop"):
        Query.of(Numbers([1.0]), Crop(0, 0, 0.5, 0.5))


def test_a_negative_example_weighs_less_unless_told() -> None:
    example = Example(Stored(ImageId("a")))

    query = Query((example,), (example, replace(example, weight=2.0)))

    assert query.weights == [1.0, NEGATIVE_WEIGHT, 2.0]


# --- what becomes of it --------------------------------------------------------------


def test_one_example_is_the_query() -> None:
    assert np.array_equal(combined(probe(A), Metric.COSINE), A)


def test_positives_are_their_weighted_mean() -> None:
    mixed = combined(probe(A, B, weights=[3.0, 1.0], positives=2), Metric.IP)

    assert mixed == pytest.approx(0.75 * A + 0.25 * B)


def test_negatives_move_the_query_away() -> None:
    mixed = combined(probe(A, B, C, weights=[1.0, 0.5, 0.3]), Metric.IP)

    assert mixed == pytest.approx(A + 0.25 * (A - B) + 0.15 * (A - C))


def test_directions_stay_unit_vectors() -> None:
    mixed = combined(probe(A, B, weights=[1.0, 0.5]), Metric.COSINE)

    assert np.linalg.norm(mixed) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("metric", [Metric.EUCLIDEAN, Metric.IP])
def test_a_query_does_not_depend_on_where_zero_is(metric: Metric) -> None:
    moved = np.full(8, 5.0, np.float32)

    here = combined(probe(A, B, C, weights=[1, 2, 0.3], positives=2), metric)
    there = combined(
        probe(A + moved, B + moved, C + moved, weights=[1, 2, 0.3], positives=2), metric
    )

    assert there == pytest.approx(here + moved, abs=1e-5)


def test_examples_that_cancel_each_other_are_refused() -> None:
    with pytest.raises(BadQuery) as caught:
        combined(probe(A, -A, positives=2), Metric.COSINE)

    assert caught.value.code == "query_cancels"


@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.PEARSON, Metric.IP])
def test_the_parts_of_a_score_sum_up_to_it(metric: Metric) -> None:
    drawn = np.random.default_rng(3).normal(size=(5, 8))
    *examples, image = metrics.prepare(drawn, metric)
    made = probe(*examples, weights=[1.0, 2.0, 0.3, 0.7], positives=2)

    each = parts(made, image, metric)

    score = metrics.score(combined(made, metric), image[np.newaxis], metric)[0]
    assert each is not None
    assert len(each) == 4
    assert sum(each) == pytest.approx(score, abs=1e-5)


def test_a_distance_has_no_parts() -> None:
    assert parts(probe(A, B), C, Metric.EUCLIDEAN) is None
    assert parts(replace(probe(A, B), strategy=Strategy.BEST), C, Metric.IP) is None


# --- reading -------------------------------------------------------------------------


def test_all_pictures_of_all_queries_are_embedded_at_once(small: Small) -> None:
    calls: list[int] = []
    embed = small.embedder.embed

    class Counting:
        fingerprint = small.embedder.fingerprint
        geometry = small.embedder.geometry
        dimension = small.embedder.dimension

        def embed(self, pixels: np.ndarray) -> np.ndarray:
            calls.append(len(pixels))
            made: np.ndarray = embed(pixels)
            return made

    queries = [Query.of(Picture(picture(seed))) for seed in range(5)]
    read = Reader(small.ledger, small.blobs, Counting(), small.index, small.limits)  # type: ignore[arg-type]

    probes, _ = read.read_all(small.collection, queries)

    assert calls == [5]
    assert all(isinstance(one, Probe) for one in probes)


def test_a_stored_image_is_not_embedded_again(small: Small) -> None:
    before = small.embedder.embedded

    made, _ = reader(small).read(small.collection, Query.of(Stored(ImageId("b"))))

    assert small.embedder.embedded == before
    own = small.embedder.embed(_square(small, "b"))[0]
    assert made.vectors[0] == pytest.approx(own, abs=1e-6)


def test_a_crop_of_a_stored_image_is_embedded(small: Small) -> None:
    whole, _ = reader(small).read(small.collection, Query.of(Stored(ImageId("b"))))
    crop = Query.of(Stored(ImageId("b")), Crop(0.5, 0.5, 1, 1))

    part, _ = reader(small).read(small.collection, crop)

    assert float(whole.vectors[0] @ part.vectors[0]) < 0.99


def test_each_query_of_many_fails_by_itself(small: Small) -> None:
    good = Query.of(Stored(ImageId("a")))
    unknown = Query.of(Stored(ImageId("nobody")))
    two = Query((Example(Picture(picture(1))), Example(Stored(ImageId("b")))))

    first, second, third = reader(small).read_all(
        small.collection, [good, unknown, two]
    )[0]

    assert isinstance(first, Probe)
    assert isinstance(second, ImageNotFound)
    assert isinstance(third, Probe)
    assert third.vectors.shape == (2, small.embedder.dimension)


def _square(small: Small, name: str) -> np.ndarray:
    image = small.ledger.image(small.collection, ImageId(name))
    data = small.blobs.read(small.collection.team, image.digest)
    square = decode_square(data, small.embedder.geometry, small.limits)
    return square[np.newaxis]
