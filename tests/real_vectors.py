"""As many vectors as wanted that lie as the embeddings of photographs do.

Uniform random vectors are the hardest case and nobody's: all are about equally far from
each other. Embeddings lie in clusters, on fewer dimensions than they have numbers.
Here each new vector is a mixture of an embedding and one of its nearest neighbours, and
a step that is distributed (covariance, hence spectrum) as the steps between neighbours.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]

NEIGHBOURS = 10
STEP = 0.5  # of a step between neighbours: new vectors lie between, not only on, lines


def resampled(seeds: Matrix, count: int, seed: int) -> Matrix:
    """Unit vectors that lie as the given ones do: float32 ``[count, D]``.

    Args:
        seeds: unit vectors ``[N, D]`` of real pictures, N above 10.
        count: how many to make.
        seed: of the random numbers.
    """
    rng = np.random.default_rng(seed)
    near = neighbours(seeds, NEIGHBOURS)
    # The same of every call, so that stored vectors and queries are of one kind.
    steps = (seeds[:, np.newaxis] - seeds[near]).reshape(-1, seeds.shape[1])
    made = np.empty((count, seeds.shape[1]), dtype=np.float32)
    for start in range(0, count, 5_000):
        part = made[start : start + 5_000]
        first = rng.integers(0, len(seeds), len(part))
        second = near[first, rng.integers(0, NEIGHBOURS, len(part))]
        share = rng.uniform(0.0, 0.5, (len(part), 1)).astype(np.float32)
        part[:] = (1 - share) * seeds[first] + share * seeds[second]
        # A sum of many random multiples of steps has the covariance of the steps.
        some = steps[rng.integers(0, len(steps), 2 * seeds.shape[1])]
        weights = rng.standard_normal((len(part), len(some)), dtype=np.float32)
        part += STEP / np.sqrt(len(some)) * (weights @ some)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made


def neighbours(vectors: Matrix, count: int) -> npt.NDArray[np.int64]:
    """The nearest others of each vector, best first: ``[N, count]``."""
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    return np.argsort(-scores, axis=1)[:, :count]


def local_dimension(vectors: Matrix, count: int = 20) -> float:
    """On how many dimensions the vectors lie, as seen from their neighbours.

    The maximum-likelihood estimate of Levina and Bickel (2004), its inverse averaged
    over the vectors as MacKay and Ghahramani advise.
    """
    scores = np.sort(vectors @ vectors.T, axis=1)[:, -count - 1 : -1]
    apart = np.sqrt(np.maximum(2 - 2 * scores, 1e-12))  # farthest first
    logs = np.log(apart[:, :1] / apart[:, 1:])
    return float(1 / np.mean(logs))
