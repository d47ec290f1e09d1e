"""Probes: queries in vectors, and what several examples come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lookalike import metrics
from lookalike.collections import Metric
from lookalike.errors import BadQuery
from lookalike.interfaces import ImageKey, Vectors
from lookalike.queries import Strategy

Vector = npt.NDArray[np.float32]  # [D]

OF_DIRECTIONS = (Metric.COSINE, Metric.PEARSON)


@dataclass(frozen=True)
class Probe:
    """A query in vectors, prepared for the collection's metric.

    Attributes:
        vectors: float32 ``[E, D]``, the positive examples first.
        weights: float32 ``[E]``.
        positives: how many of them are positive, at least 1.
        strategy: how they become one order.
        ids: the images of the collection that they are.
    """

    vectors: Vectors
    weights: npt.NDArray[np.float32]
    positives: int
    strategy: Strategy = Strategy.AVERAGE
    ids: Sequence[ImageKey] = ()

    def shares(self) -> npt.NDArray[np.float64]:
        """How much each example counts in the mean: ``[E]``, in all 1.

        After Rocchio (1971): the query is the weighted mean of the positive examples,
        moved away from each negative one by that one's weight over their number,

            q = P + sum_j v_j / N * (P - n_j),    P = sum_i w_i * p_i / sum_i w_i.
        """
        wide = self.weights.astype(np.float64)
        positive = wide[: self.positives] / wide[: self.positives].sum()
        negative = wide[self.positives :] / max(1, len(wide) - self.positives)
        return np.concatenate([positive * (1 + negative.sum()), -negative])


def combined(probe: Probe, metric: Metric) -> Vector:
    """The one vector of the strategy ``average``: float32 ``[D]``, prepared.

    Raises:
        BadQuery: code ``query_cancels``: what is left has no direction.
    """
    if len(probe.vectors) == 1:
        only: Vector = probe.vectors[0]
        return only
    mixed = probe.shares() @ probe.vectors.astype(np.float64)
    if metric in OF_DIRECTIONS and np.linalg.norm(mixed) < 1e-4:
        raise _cancels()
    prepared: Vector = metrics.prepare([mixed], metric)[0]
    return prepared


def parts(probe: Probe, vector: Vector, metric: Metric) -> list[float] | None:
    """What each example adds to the score of an image; they sum up to it.

    None where the score is no such sum: by the Euclidean metric, and with the
    strategy ``best``.

    Args:
        probe: the query.
        vector: of the image, prepared: float32 ``[D]``.
        metric: of the collection.
    """
    if metric is Metric.EUCLIDEAN or probe.strategy is Strategy.BEST:
        return None
    shares = probe.shares()
    wide = probe.vectors.astype(np.float64)
    length = 1.0
    if metric in OF_DIRECTIONS:
        length = float(np.linalg.norm(shares @ wide))
    each: list[float] = (shares * (wide @ vector) / length).tolist()
    return each


def _cancels() -> BadQuery:
    """The error for examples that leave no direction to look in."""
    return BadQuery(
        "The examples of this query cancel each other out; give the negative ones "
        "less weight.",
        code="query_cancels",
    )
