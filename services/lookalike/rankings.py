"""Rankings of all images of a collection, judged by labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from lookalike import metrics
from lookalike.calibration import Sample, alike
from lookalike.collections import Collection
from lookalike.interfaces import Image, Vectors

MAX_RANKED = 50_000_000  # scores held at once, for average precision: 200 MB
LEAST_RANKED = 10  # queries, however large the collection is


@dataclass
class Ranking:
    """Scores of all labelled images with some queries, and whether they are right.

    ``images`` and ``vectors`` are the queries, all of which have a label.
    """

    collection: Collection
    label: str
    images: list[Image]
    vectors: Vectors
    ranked: int  # of the queries, the first so many
    scores: list[Vectors] = field(default_factory=list)
    is_same: list[npt.NDArray[np.bool_]] = field(default_factory=list)

    def take(self, images: Sequence[Image], vectors: Vectors) -> None:
        """Take some images into the rankings."""
        chosen = [n for n, one in enumerate(images) if self.label in one.metadata]
        places = {images[n].key: place for place, n in enumerate(chosen)}
        queries = self.vectors[: self.ranked]
        scores = metrics.scores(queries, vectors[chosen], self.collection.metric)
        same = np.zeros((self.ranked, len(chosen)), np.bool_)
        labels = [images[n].metadata[self.label] for n in chosen]
        for place in range(self.ranked):
            query = self.images[place]
            wanted = query.metadata[self.label]
            same[place] = [alike(wanted, one) for one in labels]
            if query.key in places:
                scores[place, places[query.key]] = -np.inf
                same[place, places[query.key]] = False
        self.scores.append(scores)
        self.is_same.append(same)

    def mean_average_precision(self) -> float:
        """Of the queries with at least one other image of their label."""
        scores = np.concatenate(self.scores, axis=1)
        same = np.concatenate(self.is_same, axis=1)
        found = []
        for row, truth in zip(scores, same, strict=True):
            if truth.any():
                ranks = np.flatnonzero(truth[np.argsort(-row, kind="stable")]) + 1
                found.append(float((np.arange(1, len(ranks) + 1) / ranks).mean()))
        return float(np.mean(found)) if found else 0.0


def ranking(
    collection: Collection, label: str, sample: Sample, queries: int, count: int
) -> Ranking:
    """An empty ranking for those images of a sample that have a label.

    Args:
        collection: that they are of.
        label: the field.
        sample: some of its images.
        queries: at most so many of them.
        count: about how many images the collection has; of many, fewer are ranked.
    """
    places = [n for n, one in enumerate(sample.images) if label in one.metadata]
    places = places[:queries]
    most = max(LEAST_RANKED, MAX_RANKED // max(1, count))
    return Ranking(
        collection=collection,
        label=label,
        images=[sample.images[n] for n in places],
        vectors=sample.vectors[places],
        ranked=min(most, len(places)),
    )
