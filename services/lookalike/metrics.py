"""How two embeddings are compared: prepared once, then scored, on every engine alike.

A vector is prepared when it is stored and when it is asked with. On prepared vectors
each metric is a dot product, or a distance, that every engine computes; a higher score
is always closer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lookalike.collections import Metric
from lookalike.errors import BadEmbedding

Vectors = npt.NDArray[np.float32]

LONGEST = 1e12  # of a vector; faiss drops a measure beyond 1e30
LEAST_SPREAD = 1e-6  # below that a centred vector is only what rounding left

_OF_DIRECTIONS = (Metric.COSINE, Metric.PEARSON)  # scores from -1 to 1


def prepare(
    vectors: Sequence[npt.ArrayLike] | npt.NDArray[np.floating], metric: Metric
) -> Vectors:
    """Vectors as they are stored and compared: float32 ``[N, D]``.

    Of unit length for cosine; for Pearson's correlation less their own mean and of
    unit length; else as they are. Preparing twice changes nothing.

    Args:
        vectors: ``[N, D]``, all of one length.
        metric: how they are going to be compared.

    Raises:
        BadEmbedding: not finite, longer than 1e12, or without a direction where the
            metric needs one: all zeros, or for Pearson all numbers the same.
    """
    wide = np.asarray(vectors, dtype=np.float64)
    if not np.isfinite(wide).all():
        raise BadEmbedding("A vector is finite.")
    if metric not in _OF_DIRECTIONS:
        if wide.size and np.linalg.norm(wide, axis=1).max() > LONGEST:
            raise BadEmbedding(f"A vector is no longer than {LONGEST:g}.")
        return wide.astype(np.float32)
    # Squares of very large and very small numbers would overflow or vanish.
    largest = np.abs(wide).max(axis=1, initial=0.0, keepdims=True)
    if not (largest > 0).all():
        raise BadEmbedding("A vector is not zero.")
    wide /= largest
    if metric is Metric.PEARSON:
        wide -= wide.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    if not (lengths > LEAST_SPREAD).all():
        raise BadEmbedding("The numbers of a vector are not all the same.")
    made: Vectors = (wide / lengths).astype(np.float32)
    return made


def score(query: Vectors, vectors: Vectors, metric: Metric) -> Vectors:
    """How close a query is to each of some vectors, all prepared; higher is closer.

    Cosine similarity and Pearson's correlation (-1 to 1), the dot product, or minus
    the Euclidean distance.

    Args:
        query: float32 ``[D]``.
        vectors: float32 ``[N, D]``.
        metric: the one they were prepared for.

    Returns:
        float32 ``[N]``.
    """
    if metric is Metric.EUCLIDEAN:
        # Not by the dot product: near vectors would lose every digit.
        apart: Vectors = np.linalg.norm(vectors - query, axis=1)
        return -apart
    products: Vectors = vectors @ query
    return np.clip(products, -1.0, 1.0) if metric in _OF_DIRECTIONS else products


def scores(queries: Vectors, vectors: Vectors, metric: Metric) -> Vectors:
    """What ``score`` gives, of each of the queries ``[Q, D]``; faster: ``[Q, N]``."""
    if metric is Metric.EUCLIDEAN:
        rows = [score(query, vectors, metric) for query in queries]
        return np.stack(rows) if rows else np.zeros((0, len(vectors)), np.float32)
    products: Vectors = queries @ vectors.T
    return np.clip(products, -1.0, 1.0) if metric in _OF_DIRECTIONS else products
