from __future__ import annotations

import numpy as np
import pytest

from lookalike.collections import Metric
from lookalike.errors import BadEmbedding
from lookalike.metrics import LONGEST, prepare, score

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(20, 7)) * RNG.uniform(0.1, 50, (20, 1))


@pytest.mark.parametrize("metric", Metric)
def test_preparing_twice_changes_nothing(metric: Metric) -> None:
    once = prepare(VECTORS, metric)

    twice = prepare(once, metric)

    assert once.dtype == np.float32
    assert np.allclose(once, twice, rtol=1e-6, atol=1e-7)


def test_directions_have_length_one() -> None:
    for metric in (Metric.COSINE, Metric.PEARSON):
        assert np.allclose(np.linalg.norm(prepare(VECTORS, metric), axis=1), 1)


def test_points_stay_where_they_are() -> None:
    for metric in (Metric.IP, Metric.EUCLIDEAN):
        assert np.array_equal(prepare(VECTORS, metric), VECTORS.astype(np.float32))


def test_scores_are_those_of_the_textbook() -> None:
    query, many = VECTORS[0], VECTORS[1:]
    cosine = many @ query / np.linalg.norm(many, axis=1) / np.linalg.norm(query)
    expected = {
        Metric.COSINE: cosine,
        Metric.IP: many @ query,
        Metric.EUCLIDEAN: -np.linalg.norm(many - query, axis=1),
        Metric.PEARSON: np.corrcoef(query, many)[0, 1:],
    }

    for metric, scores in expected.items():
        ours = score(prepare([query], metric)[0], prepare(many, metric), metric)
        assert np.allclose(ours, scores, rtol=1e-5, atol=1e-5), metric


def test_a_shift_and_a_scale_do_not_change_a_correlation() -> None:
    moved = 3.0 * VECTORS[0] + 11.0

    one, other = prepare([VECTORS[0], moved], Metric.PEARSON)

    assert np.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_a_direction_of_any_length_can_be_compared(scale: float) -> None:
    (made,) = prepare([[3 * scale, 0.0, 4 * scale]], Metric.COSINE)

    assert made == pytest.approx([0.6, 0.0, 0.8])


def test_scores_of_directions_never_leave_their_range() -> None:
    same = prepare(np.tile(VECTORS[0], (50, 1)), Metric.COSINE)

    assert score(same[0], same, Metric.COSINE).max() <= 1.0


@pytest.mark.parametrize(
    ("metric", "vector"),
    [
        (Metric.COSINE, [0.0, 0.0, 0.0]),
        (Metric.PEARSON, [0.0, 0.0, 0.0]),
        (Metric.PEARSON, [5.0, 5.0, 5.0]),
        (Metric.PEARSON, [0.1, 0.1, 0.1]),
        (Metric.COSINE, [1.0, float("nan"), 0.0]),
        (Metric.IP, [1.0, float("inf"), 0.0]),
        (Metric.IP, [2 * LONGEST, 0.0, 0.0]),
        (Metric.EUCLIDEAN, [2 * LONGEST, 0.0, 0.0]),
    ],
)
def test_what_cannot_be_compared_is_refused(
    metric: Metric, vector: list[float]
) -> None:
    with pytest.raises(BadEmbedding):
        prepare([vector], metric)


def test_zero_is_a_point_like_any_other() -> None:
    zero = prepare([[0.0, 0.0]], Metric.EUCLIDEAN)

    scores = score(zero[0], prepare([[3.0, 4.0]], Metric.EUCLIDEAN), Metric.EUCLIDEAN)

    assert scores.tolist() == [-5.0]
