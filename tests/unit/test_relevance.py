from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from lookalike import metrics, relevance
from lookalike.calibration import tenths
from lookalike.collections import Metric
from lookalike.relevance import (
    Calibration,
    Centre,
    Curve,
    Labels,
    Relevance,
    chances,
    distribution,
    pooled,
)

RNG = np.random.default_rng


def a_calibration(labels: Labels | None = None) -> Calibration:
    mean = np.array([0.1, -0.2, 0.3], np.float32)
    return Calibration(
        fingerprint="resnet18-0123",
        made_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        images=1_234,
        sampled=1_000,
        below=Curve((0.0, 0.5, 1.0), (0.0, 0.9, 1.0)),
        centre=Centre(Metric.COSINE, mean, 1.0),
        labels=labels,
    )


# --- percentiles ---------------------------------------------------------------------


def test_a_percentile_is_the_share_of_pairs_that_score_lower() -> None:
    scores = RNG(0).beta(2, 5, 100_000)
    below = distribution(scores)

    for place in (0.05, 0.2, 0.4, 0.6, 0.8):
        assert below(place) == pytest.approx((scores < place).mean(), abs=0.001)


def test_the_upper_end_is_told_finely() -> None:
    scores = np.arange(1_000_000) / 1_000_000

    below = distribution(scores)

    for place in (0.999, 0.9999, 0.99999):
        assert 1 - below(place) == pytest.approx(1 - place, rel=0.15)


def test_beyond_all_scores_it_is_none_or_all_of_them() -> None:
    below = distribution([0.2, 0.3, 0.4])

    assert (below(-5), below(5)) == (0, 1)


def test_equal_scores_are_one_point() -> None:
    below = distribution([0.25] * 50)

    assert (below(0.2499), below(0.2501)) == (1, 1)
    assert len(below.places) == 1


def test_of_no_scores_there_is_no_distribution() -> None:
    with pytest.raises(ValueError, match="no scores"):
        distribution([])
    with pytest.raises(ValueError, match="no pairs"):
        chances([], [])


# --- chances -------------------------------------------------------------------------


def test_neighbours_out_of_order_become_their_mean() -> None:
    values = np.array([1.0, 3.0, 2.0, 4.0, 0.0])
    weights = np.array([1.0, 1.0, 3.0, 1.0, 2.0])

    found = pooled(values, weights)

    # 3 and 2 pool to 2.25; 4 and 0 to 4/3, which is less, so all four become one.
    rest = (3 + 2 * 3 + 4 + 0 * 2) / 7
    assert found.tolist() == pytest.approx([1.0, rest, rest, rest, rest])


def test_pooled_values_never_fall_and_keep_their_mean() -> None:
    rng = RNG(1)
    values, weights = rng.normal(size=200).cumsum(), rng.uniform(0.1, 3, 200)

    found = pooled(values, weights)

    assert (np.diff(found) >= 0).all()
    assert np.average(found, weights=weights) == pytest.approx(
        np.average(values, weights=weights)
    )


def test_stated_chances_are_those_that_are_seen() -> None:
    rng = RNG(2)
    places = rng.uniform(-1, 1, 40_000)
    truth = rng.random(40_000) < 1 / (1 + np.exp(-4 * places))
    curve = chances(places[:20_000], truth[:20_000])

    stated = [curve(place) for place in places[20_000:]]

    for chance, seen, count in tenths(stated, truth[20_000:]):
        assert count == 2_000
        assert chance == pytest.approx(seen, abs=0.05)


def test_a_chance_never_falls_as_the_score_rises() -> None:
    rng = RNG(3)
    curve = chances(rng.normal(size=500), rng.random(500) < 0.5)

    values = [curve(place) for place in np.linspace(-4, 4, 1_000)]

    assert values == sorted(values)
    assert min(values) >= 0
    assert max(values) <= 1


# --- advantages ----------------------------------------------------------------------


@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.IP, Metric.PEARSON])
def test_an_advantage_is_what_is_above_the_mean_score(metric: Metric) -> None:
    vectors = metrics.prepare(RNG(4).normal(size=(60, 8)), metric)
    query = vectors[0]
    scores = metrics.score(query, vectors, metric)
    centre = Centre(metric, vectors.mean(axis=0), 1.0)

    found = [centre.advantage(float(score), query) for score in scores]

    assert found == pytest.approx((scores - scores.mean()).tolist(), abs=1e-5)


def test_a_euclidean_advantage_is_in_squared_distances() -> None:
    vectors = metrics.prepare(RNG(5).normal(size=(60, 8)), Metric.EUCLIDEAN)
    query = vectors[0]
    scores = metrics.score(query, vectors, Metric.EUCLIDEAN)
    power = float((vectors**2).sum(axis=1).mean())
    centre = Centre(Metric.EUCLIDEAN, vectors.mean(axis=0), power)

    found = [centre.advantage(float(score), query) for score in scores]

    squared = scores.astype(np.float64) ** 2
    assert found == pytest.approx((squared.mean() - squared).tolist(), abs=1e-4)


# --- what is told --------------------------------------------------------------------


def test_nothing_is_told_of_scores_that_are_not_known() -> None:
    assert relevance.of(None, 0.9) is None


def test_without_labels_only_the_percentile_is_told() -> None:
    query = np.array([1, 0, 0], np.float32)

    assert relevance.of(a_calibration(), 0.25, query) == Relevance(0.45, None)


def test_with_labels_the_chance_goes_by_the_advantage() -> None:
    labels = Labels("category", Curve((0.0, 1.0), (0.2, 0.8)))
    calibration = a_calibration(labels)
    near = np.array([0, 0, 1], np.float32)  # close to the middle of all images
    far = np.array([0, 1, 0], np.float32)

    told = [relevance.of(calibration, 0.5, query) for query in (near, far, None)]

    assert told == [
        Relevance(0.9, round(0.2 + 0.6 * (0.5 - 0.3), 6)),
        Relevance(0.9, round(0.2 + 0.6 * (0.5 + 0.2), 6)),
        Relevance(0.9, None),
    ]


@pytest.mark.parametrize(
    "labels", [None, Labels("category", Curve((0.0, 1.0), (0.2, 0.8)))]
)
def test_a_calibration_comes_back_from_its_text(labels: Labels | None) -> None:
    made = a_calibration(labels)

    text = relevance.to_text(made)
    read = relevance.from_text(text, made.fingerprint, made.made_at)

    assert read == made
    assert np.array_equal(read.centre.mean, made.centre.mean)


def test_its_text_is_short() -> None:
    rng = RNG(6)
    made = Calibration(
        fingerprint="f",
        made_at=datetime(2026, 1, 1, tzinfo=UTC),
        images=10**9,
        sampled=1_000,
        below=distribution(rng.normal(size=10**5)),
        centre=Centre(Metric.COSINE, rng.normal(size=512).astype(np.float32), 1.0),
        labels=Labels("c", chances(rng.normal(size=10**4), rng.random(10**4) < 0.5)),
    )

    assert len(relevance.to_text(made)) < 10_000
