"""Are the chances that ``relevance`` states true? On 1,000 photographs of clothes.

Percentile: half of the photographs make a calibration, then 1,000 random pairs of all
of them are drawn, but for those that it was made from. A tenth of them should be below
the tenth percentile, two tenths below the twentieth, and so on; with 1,000 pairs chance
alone makes that differ by about 0.015.

Chance of the same label: ten times, nine tenths of the photographs make a calibration
and the others are searched by, so that all 10,000 matches are judged by calibrations
that have not seen their queries. Pairs are the first ten matches of searches, because
those are what people see; among random pairs nine in ten have different labels, and any
small number would pass. They are put in order of the stated chance, and of each tenth
(1,000 pairs) the mean of what was stated is compared with what was seen. Chance alone
makes the worst tenth differ by about 0.03, as the pairs of a search belong together.

Beside it: the same read from the raw score instead of the advantage, and tenths of only
1,000 of the pairs, against what perfect chances would show on so few.

    PYTHONPATH=tests python -m benchmarks.relevance [--backbone resnet18] [--rounds 5]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

import photographs
from lookalike.backbones import find
from lookalike.backends.onnxruntime import OnnxEmbedder
from lookalike.calibration import MATCHES, tenths
from lookalike.collections import Metric
from lookalike.config import Settings
from lookalike.images import Limits, decode_square
from lookalike.relevance import Centre, chances, distribution

MOST = 0.05  # by which a stated chance may differ, in every tenth
PAIRS = 1_000

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]


def main() -> int:
    """Print the figures; exit status 1 if their means miss the mark."""
    options = _options()
    vectors, labels = _photographs(options.backbone)
    scores = (vectors @ vectors.T).astype(np.float64)
    same = labels[:, np.newaxis] == labels
    rounds = range(options.rounds)
    percentiles = [_percentile(scores, np.random.default_rng(seed)) for seed in rounds]
    _tell("percentile, 1,000 random pairs", percentiles)
    judged = [_chances(vectors, scores, same, seed, by_score=False) for seed in rounds]
    worst = [_worst(stated, is_same) for stated, is_same in judged]
    _tell("chance of the same label, 10,000 matches", worst)
    for stated, seen, count in tenths(*judged[0]):
        print(f"    stated {stated:.3f}  seen {seen:.3f}  of {count:,}")
    raw = [_chances(vectors, scores, same, seed, by_score=True) for seed in rounds]
    _tell("  if read from the score", [_worst(*one) for one in raw])
    _tell("  of only 1,000 matches", _few(judged, lambda _, seen: seen))
    rng = np.random.default_rng(0)
    perfect = _few(judged, lambda stated, _: rng.random(len(stated)) < stated)
    _tell("  of 1,000 perfect chances", perfect)
    average = np.mean([_differences(*one) for one in judged], axis=0)
    print(f"each tenth, mean of the rounds: {np.round(average, 3).tolist()}")
    good = np.mean(percentiles) <= MOST and np.abs(average).max() <= MOST
    return 0 if good else 1


def _percentile(scores: Floats, rng: np.random.Generator) -> float:
    """The worst difference of nine, over 1,000 pairs not calibrated with."""
    is_known = rng.permutation(len(scores)) < len(scores) // 2
    one, other = np.triu_indices(len(scores), 1)
    is_used = is_known[one] & is_known[other]
    found = scores[one, other]
    below = distribution(found[is_used])
    drawn = rng.choice(found[~is_used], PAIRS, replace=False)
    stated = np.array([below(score) for score in drawn])
    levels = np.arange(1, 10) / 10
    seen = (stated[:, np.newaxis] <= levels).mean(axis=0)
    return float(np.abs(seen - levels).max())


def _chances(
    vectors: npt.NDArray[np.float32],
    scores: Floats,
    same: npt.NDArray[np.bool_],
    seed: int,
    *,
    by_score: bool,
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Stated chances of matches, each by a calibration without its query; the truth."""
    order = np.random.default_rng(seed).permutation(len(vectors))
    stated, truth = [], []
    for held_out in np.array_split(order, 10):
        known = np.setdiff1d(order, held_out)
        mean = np.zeros(vectors.shape[1], np.float32)
        if not by_score:
            mean = vectors[known].mean(axis=0)
        centre = Centre(Metric.COSINE, mean, 1.0)
        learned = _matches(vectors, scores, same, known, centre)
        curve = chances(*learned)
        found, is_same = _matches(vectors, scores, same, held_out, centre)
        stated.append(np.array([curve(one) for one in found]))
        truth.append(is_same)
    return np.concatenate(stated), np.concatenate(truth)


def _matches(
    vectors: npt.NDArray[np.float32],
    scores: Floats,
    same: npt.NDArray[np.bool_],
    queries: Places,
    centre: Centre,
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Advantages of the first ten matches of each query among all; if they are right"""
    others = scores[queries].copy()
    others[np.arange(len(queries)), queries] = -np.inf
    found = np.argsort(-others, axis=1)[:, :MATCHES]
    advantages = [
        centre.advantage(float(scores[query, match]), vectors[query])
        for query, row in zip(queries, found, strict=True)
        for match in row
    ]
    return np.array(advantages), same[queries[:, np.newaxis], found].ravel()


def _differences(stated: Floats, is_same: npt.NDArray[np.bool_]) -> Floats:
    return np.array([chance - seen for chance, seen, _ in tenths(stated, is_same)])


def _worst(stated: Floats, is_same: npt.NDArray[np.bool_]) -> float:
    return float(np.abs(_differences(stated, is_same)).max())


def _few(
    judged: list[tuple[Floats, npt.NDArray[np.bool_]]],
    truth: Callable[[Floats, npt.NDArray[np.bool_]], npt.NDArray[np.bool_]],
) -> list[float]:
    """The worst tenth of 1,000 matches, many times."""
    rng = np.random.default_rng(1)
    found = []
    for stated, is_same in judged * 20:
        drawn = rng.choice(len(stated), PAIRS, replace=False)
        found.append(_worst(stated[drawn], truth(stated[drawn], is_same[drawn])))
    return found


def _tell(what: str, worst: list[float]) -> None:
    print(
        f"{what}: the worst tenth differs by {np.mean(worst):.3f} "
        f"({min(worst):.3f} to {max(worst):.3f}, {len(worst)} rounds)"
    )


def _photographs(
    name: str,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.str_]]:
    """Vectors and categories of all photographs."""
    embedder = OnnxEmbedder(find(name, [Settings().backbones]), threads=2)
    photos = photographs.load()
    files = (Path(one.path).read_bytes() for one in photos)
    squares = [decode_square(data, embedder.geometry, Limits()) for data in files]
    print(f"{embedder.fingerprint}, {len(photos):,} photographs")
    return embedder.embed(np.stack(squares)), np.array([one.category for one in photos])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
