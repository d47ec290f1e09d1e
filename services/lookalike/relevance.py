"""What a score means in its collection: how rare it is, and what it promises.

A raw similarity says little by itself: 0.6 is far away in one collection and nearly
the same picture in another. A ``Calibration`` was made by comparing images of the
collection with each other, and says of a score

- its *percentile*: the chance that two random images of the collection score lower,
  read from the empirical distribution;
- the chance that a match which scores so has the *same label* as the query, where a
  field of labels was given: isotonic regression by pool adjacent violators (Ayer et
  al. 1955; for calibrating scores Zadrozny and Elkan, KDD 2002, section 3), over what
  searches for images of the collection find first.

The chance is not read from the score itself, but from its *advantage*: how far it is
above what a random image of the collection scores with this query. Some images are
close to everything, and a score with them promises less ("hubs"; taking away what is
common: Suzuki et al., EMNLP 2013). On 1,000 photographs of clothes, in the worst tenth
of the first ten matches the chance read from the score is off by 0.06, of the first
five by 0.07; read from the advantage by less than 0.05 and by 0.03
(tests/benchmarks/relevance.py).

For one query, both never fall as the score rises, so they order matches as it does.
"""

from __future__ import annotations

import base64
import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from lookalike.collections import Metric

Floats = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float32]  # [D], prepared for the metric

DIGITS = 6  # of what is stored and told: scores are float32
# Of matches, before violators are pooled. On the photographs 20 and 200 were no better.
BINS = 50
# Even steps, and finer ones at both ends: what a search shows is the upper end.
LEVELS: Floats = np.unique(
    np.concatenate(
        [
            np.linspace(0, 1, 101),
            *(10.0**-power * np.arange(1, 10) for power in (3, 4, 5)),
            *(1 - 10.0**-power * np.arange(1, 10) for power in (3, 4, 5, 6)),
        ]
    ).round(7)
)


@dataclass(frozen=True)
class Curve:
    """A function that never falls: straight between its points, flat beyond them.

    ``places`` rise strictly; ``values`` are chances, 0 to 1, and never fall.
    """

    places: tuple[float, ...]
    values: tuple[float, ...]

    def __call__(self, place: float) -> float:
        """The chance at a place, 0 to 1."""
        after = bisect_right(self.places, place)
        if after in (0, len(self.places)):
            return self.values[max(0, after - 1)]
        left, right = self.places[after - 1], self.places[after]
        low, high = self.values[after - 1], self.values[after]
        return low + (high - low) * (place - left) / (right - left)

    def inverse(self, value: float) -> float:
        """The place where a chance is reached; the first or last one beyond them."""
        return float(np.interp(value, self.values, self.places))


@dataclass(frozen=True)
class Centre:
    """Where the images of a collection lie, as far as a random one is concerned.

    ``mean`` is the mean of the prepared vectors, float32 ``[D]``, ``power`` the mean
    of their squared lengths.
    """

    metric: Metric
    mean: Vector = field(compare=False)
    power: float

    def advantage(self, score: float, query: Vector) -> float:
        """How far a score is above what a random image scores with this query.

        For the Euclidean metric, by how much the squared distance is below the mean
        of the squared distances, which is |q|² - 2 q·mean + power.
        """
        common = float(np.dot(query, self.mean))
        if self.metric is not Metric.EUCLIDEAN:
            return score - common
        return float(np.dot(query, query)) - 2 * common + self.power - score**2


@dataclass(frozen=True)
class Labels:
    """What an advantage promises of the values of one metadata field."""

    field: str
    same: Curve  # by advantage


@dataclass(frozen=True)
class Calibration:
    """What the scores of one collection, embedded by one backbone, mean.

    ``images`` is how many the collection had, ``sampled`` how many of them were
    compared with each other.
    """

    fingerprint: str
    made_at: datetime
    images: int
    sampled: int
    below: Curve  # by score
    centre: Centre
    labels: Labels | None = None

    def percentile(self, score: float) -> float:
        """The chance that two random images of the collection score lower, 0 to 1."""
        return self.below(score)

    def same(self, score: float, query: Vector) -> float | None:
        """The chance that a match which scores so has the label of the query, 0 to 1.

        None where no labels were given.
        """
        if self.labels is None:
            return None
        return self.labels.same(self.centre.advantage(score, query))


@dataclass(frozen=True)
class Relevance:
    """What a score means: two chances, 0 to 1.

    ``percentile``: that two random images of the collection score lower;
    ``same_label``: that this match has the label of the query, if that is known.
    """

    percentile: float
    same_label: float | None = None


def of(
    calibration: Calibration | None, score: float, query: Vector | None = None
) -> Relevance | None:
    """What a score means; None while nothing is known of the collection's scores.

    Args:
        calibration: what the ledger keeps of the collection.
        score: raw similarity, higher is closer.
        query: the prepared vector it is the score with; without it the chance of the
            same label is not told.
    """
    if calibration is None:
        return None
    same = None if query is None else calibration.same(score, query)
    return Relevance(
        percentile=round(calibration.percentile(score), DIGITS),
        same_label=None if same is None else round(same, DIGITS),
    )


# --- making curves -------------------------------------------------------------------


def distribution(scores: npt.ArrayLike) -> Curve:
    """The share of the scores that lies below a score: their empirical quantiles.

    Exact at the levels that are kept, which are finer at both ends.

    Raises:
        ValueError: there are no scores.
    """
    known = np.asarray(scores, np.float64)
    if known.size == 0:
        raise ValueError("no scores")
    return _curve(np.quantile(known, LEVELS), LEVELS)


def chances(places: npt.ArrayLike, is_same: npt.ArrayLike) -> Curve:
    """The chance of something that is true or not, by a number: isotonic regression.

    The pairs go into bins of equal numbers first, which keeps the answer short.

    Raises:
        ValueError: there are no pairs.
    """
    known = np.asarray(places, np.float64)
    if known.size == 0:
        raise ValueError("no pairs")
    truth = np.asarray(is_same, np.float64)
    order = np.argsort(known, kind="stable")
    bins = np.array_split(order, min(BINS, known.size))
    centres = np.array([known[each].mean() for each in bins])
    shares = np.array([truth[each].mean() for each in bins])
    sizes = np.array([each.size for each in bins], np.float64)
    return _curve(centres, pooled(shares, sizes))


def pooled(values: Floats, weights: Floats) -> Floats:
    """The values that never fall and are nearest to these, by weighted squares.

    Pool adjacent violators: neighbours out of order become their mean, until none
    are (Ayer et al. 1955).
    """
    blocks: list[tuple[float, float, int]] = []  # mean, weight, how many values
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        mean, total, count = value, weight, 1
        while blocks and blocks[-1][0] >= mean:
            before, heavy, more = blocks.pop()
            mean = (mean * total + before * heavy) / (total + heavy)
            total, count = total + heavy, count + more
        blocks.append((mean, total, count))
    return np.repeat([mean for mean, _, _ in blocks], [n for _, _, n in blocks])


def _curve(places: Floats, values: Floats) -> Curve:
    """A curve through these points; of equal places the highest value counts."""
    rounded = places.round(DIGITS)
    lasts = np.flatnonzero(np.append(np.diff(rounded) > 0, True))
    return Curve(
        places=tuple(rounded[lasts].tolist()),
        values=tuple(values[lasts].round(DIGITS + 1).tolist()),
    )


# --- as text -------------------------------------------------------------------------


def to_text(calibration: Calibration) -> str:
    """A calibration as JSON text, some kilobytes; ``from_text`` reads it."""
    centre, labels = calibration.centre, calibration.labels
    mean = np.ascontiguousarray(centre.mean, "<f4").tobytes()
    known = {
        "images": calibration.images,
        "sampled": calibration.sampled,
        "below": _points(calibration.below),
        "metric": centre.metric.value,
        "mean": base64.b64encode(mean).decode(),  # float32, little-endian
        "power": centre.power,
    }
    if labels is not None:
        known["labels"] = {"field": labels.field, "same": _points(labels.same)}
    return json.dumps(known, separators=(",", ":"))


def from_text(text: str, fingerprint: str, made_at: datetime) -> Calibration:
    """The calibration that ``to_text`` wrote down."""
    known: dict[str, Any] = json.loads(text)
    mean = np.frombuffer(base64.b64decode(known["mean"]), "<f4").astype(np.float32)
    labels = known.get("labels")
    return Calibration(
        fingerprint=fingerprint,
        made_at=made_at,
        images=known["images"],
        sampled=known["sampled"],
        below=_as_curve(known["below"]),
        centre=Centre(Metric(known["metric"]), mean, known["power"]),
        labels=labels and Labels(labels["field"], _as_curve(labels["same"])),
    )


def _points(curve: Curve) -> list[Sequence[float]]:
    return [curve.places, curve.values]


def _as_curve(points: Sequence[Sequence[float]]) -> Curve:
    places, values = points
    return Curve(tuple(places), tuple(values))
