"""Do two networks mean the same: how well their vectors of the same pictures agree.

A variant of a backbone shares collections with its reference, so both measures have
floors (``MIN_COSINE``, ``MIN_OVERLAP``), below which nothing is registered.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lookalike.backbones import Backbone, digest_of_file, write_manifest
from lookalike.errors import Misconfigured

Vectors = npt.NDArray[np.float32]  # [N, D], unit length

# The two floors are the design's (shared decisions, section 10): published int8
# ResNets lose a tenth of a point of accuracy at such agreement.
MIN_COSINE = 0.99
MIN_OVERLAP = 0.95

NEIGHBOURS = 10
FEWEST = 50  # pictures; among fewer, ten neighbours are hardly a choice


@dataclass(frozen=True)
class Parity:
    """How well vectors of the same pictures agree.

    Attributes:
        cosine_mean: mean over the pictures of the cosine between the two vectors.
        cosine_min: the least of those cosines.
        overlap: mean share of a picture's nearest that both networks name.
        pictures: how many were compared.
    """

    cosine_mean: float
    cosine_min: float
    overlap: float
    pictures: int

    @property
    def passes(self) -> bool:
        """Whether vectors of the two may share a collection."""
        return self.cosine_mean >= MIN_COSINE and self.overlap >= MIN_OVERLAP


def compare(reference: Vectors, other: Vectors, k: int = NEIGHBOURS) -> Parity:
    """How well two sets of unit vectors ``[N, D]`` of the same pictures agree.

    With rows ``r_i`` and ``o_i``: the cosines are ``r_i . o_i``. With ``R_i`` the ``k``
    rows ``j != i`` of greatest ``r_i . r_j``, and ``O_i`` those of greatest
    ``o_i . o_j`` (ties to the lower row), the overlap is the mean over ``i`` of
    ``|R_i & O_i| / k``.

    Raises:
        ValueError: the shapes differ, or there are not more than ``k`` rows.
    """
    if reference.shape != other.shape or reference.ndim != 2:
        raise ValueError(f"{list(reference.shape)} and {list(other.shape)} vectors")
    count = len(reference)
    if count <= k:
        raise ValueError(f"{count} vectors have no {k} nearest among the others")
    cosines = np.einsum("nd,nd->n", reference, other, dtype=np.float64)
    shared = np.array(
        [
            np.intersect1d(mine, others, assume_unique=True).size
            for mine, others in zip(
                _nearest(reference, k), _nearest(other, k), strict=True
            )
        ]
    )
    return Parity(
        cosine_mean=min(1.0, float(cosines.mean())),
        cosine_min=min(1.0, float(cosines.min())),
        overlap=float(shared.mean() / k),
        pictures=count,
    )


def register(backbone: Backbone, path: Path, parity: Parity) -> None:
    """Enter an int8 file below a backbone into its manifest; the fingerprint stays.

    Raises:
        Misconfigured: it is too far from the reference, or the manifest cannot be
            written.
    """
    if not parity.passes:
        raise Misconfigured(
            f"{path} is not registered: its vectors agree too little with those of "
            f"{backbone.name} (mean cosine {parity.cosine_mean:.4f}, at least "
            f"{MIN_COSINE}; top-10 overlap {parity.overlap:.3f}, at least "
            f"{MIN_OVERLAP})",
            code="variant_too_far",
        )
    entry = {
        "file": path.relative_to(backbone.directory).as_posix(),
        "sha256": digest_of_file(path),
        "cosine": round(parity.cosine_mean, 5),
        "overlap": round(parity.overlap, 4),
    }
    variants = backbone.manifest.get("variants")
    known = variants if isinstance(variants, dict) else {}
    changed = {**backbone.manifest, "variants": {**known, "int8": entry}}
    write_manifest(backbone.directory, changed)


def _nearest(vectors: Vectors, k: int) -> npt.NDArray[np.intp]:
    """The ``k`` nearest other rows of each row, ``[N, k]``."""
    similarities = vectors @ vectors.T
    np.fill_diagonal(similarities, -np.inf)
    return np.argsort(-similarities, axis=1, kind="stable")[:, :k]
