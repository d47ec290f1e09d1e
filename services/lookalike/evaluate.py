"""Use case: how good are the searches of a collection, now, as it is?

Recall: random images are searched by, without a filter and with filters that keep
shares of the collection down to a thousandth, made from the metadata that its images
have. What the index finds is compared with an exact search, for which every vector of
the collection is read once and compared here.

By a label, if one is given: how many of the first matches have the label of the query
(precision), and how early all that have it come in an exact ranking (mean average
precision; Manning et al., Introduction to Information Retrieval, 8.4). Images without
a label count as wrong. Also, whether the chances of ``lookalike.relevance`` are true.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from lookalike import exact
from lookalike.calibration import (
    SAMPLE,
    Sample,
    alike,
    check_label,
    drawn,
    reliability,
)
from lookalike.collections import Collection
from lookalike.errors import BadQuery
from lookalike.exact import Progress, Question, Trial
from lookalike.interfaces import Image, Ledger, VectorIndex
from lookalike.rankings import Ranking, ranking
from lookalike.selectivity import conditions, described

SHARES = (0.5, 0.1, 0.05, 0.01, 0.005, 0.001)  # of the images, that a filter keeps
FILTERS = 4  # for each of those
SAMPLED = 5_000  # images whose metadata the filters are made from
LEAST_IMAGES = 20


@dataclass(frozen=True)
class Band:
    """How well the index searches with filters that keep about one share.

    Attributes:
        wanted: the share of the images to be kept; 1 without a filter.
        share: what the filters kept, on average.
        queries: how many searches were compared.
        recall: the mean share of the exact k best that the index found.
        worst: the least recall of a search.
        short: searches with fewer results than k, although more images match.
        p50_ms, p99_ms: time of a search in the index, in milliseconds.
        filters: what they were, in words.
    """

    wanted: float
    share: float
    queries: int
    recall: float
    worst: float
    short: int
    p50_ms: float
    p99_ms: float
    filters: list[str]


@dataclass(frozen=True)
class Tenth:
    """A tenth of the matches by the chance that was stated of them."""

    stated: float
    seen: float
    matches: int


@dataclass(frozen=True)
class ByLabel:
    """How well searches find images of one label.

    Attributes:
        label: the field.
        queries: images searched by.
        precision_at_1, precision_at_k: the share of the first, and of the first k
            matches, that have the label of the query.
        ranked: images whose whole ranking was looked at.
        mean_average_precision: of those rankings, which are exact.
        tenths: stated chances of the same label against what was seen, of matches
            that the chances were not learned from; empty if there are too few.
    """

    label: str
    queries: int
    precision_at_1: float
    precision_at_k: float
    ranked: int
    mean_average_precision: float
    tenths: list[Tenth] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """What was found out about the searches of a collection."""

    collection: str
    backbone: str  # fingerprint
    metric: str
    images: int
    k: int
    made_at: datetime
    bands: list[Band]
    labels: ByLabel | None

    @property
    def recall(self) -> float:
        """The recall of the worst band."""
        return min(band.recall for band in self.bands)

    @property
    def short(self) -> int:
        """Searches with fewer results than there could be."""
        return sum(band.short for band in self.bands)


def evaluate(
    ledger: Ledger,
    index: VectorIndex,
    collection: Collection,
    *,
    label: str | None = None,
    k: int = 10,
    queries: int = 200,
    seed: int = 0,
    progress: Progress = lambda _what, _done, _of: None,
) -> Report:
    """Compare searches with exact ones; takes some minutes for 100,000 images.

    Best while nothing is ingested: what changes meanwhile counts as a mistake.

    Args:
        ledger: knows the images.
        index: is compared.
        collection: whose searches.
        label: a field by whose values precision is told.
        k: matches of a search.
        queries: searches of each band of selectivity, and by label.
        seed: decides which images are searched by, and with which filters.
        progress: told what is being done.

    Raises:
        BadQuery: ``query_unknown_field`` or ``query_wrong_type`` of the label;
            ``too_few_images``.
        Unavailable: a part does not answer.
    """
    check_label(collection, label)
    rng = random.Random(seed)
    sample = drawn(ledger, index, collection, SAMPLED, seed)
    if len(sample.images) < LEAST_IMAGES:
        raise BadQuery(
            f"A collection needs {LEAST_IMAGES} searchable images to be evaluated; "
            f"this has {len(sample.images)}.",
            code="too_few_images",
            extra={"least": LEAST_IMAGES},
        )
    trials = _trials(collection, sample, queries, rng)
    exact.ask(ledger, index, collection, trials, k, progress)
    count, images = index.count(collection), 0
    ranked = None
    if label is not None:
        ranked = ranking(collection, label, sample, queries, count)
    for found, vectors in exact.scanned(ledger, index, collection):
        images += len(found)
        for trial in trials:
            exact.compare(trial, found, vectors, collection, k)
        if ranked is not None:
            ranked.take(found, vectors)
        progress("reading all vectors", images, max(images, count))
    labels = None
    if ranked is not None and ranked.images:
        labels = _by_label(ledger, index, ranked, k, sample)
    return Report(
        collection=collection.name,
        backbone=collection.fingerprint,
        metric=collection.metric.value,
        images=images,
        k=k,
        made_at=datetime.now(UTC),
        bands=[_band(some, images, index, collection) for some in _alike(trials)],
        labels=labels,
    )


# --- bands ---------------------------------------------------------------------------


def _trials(
    collection: Collection, sample: Sample, queries: int, rng: random.Random
) -> list[Trial]:
    """Searches without a filter, and with each of some filters of each share."""
    metadata = [image.metadata for image in sample.images]
    trials = [Trial(1.0, None, _questions(sample, queries, rng))]
    for share in SHARES:
        made = conditions(metadata, collection.fields, share, FILTERS, rng)
        each = -(-queries // max(1, len(made)))
        trials += [Trial(share, one, _questions(sample, each, rng)) for one in made]
    return trials


def _questions(sample: Sample, count: int, rng: random.Random) -> list[Question]:
    images = len(sample.images)
    return [
        Question(sample.vectors[place], sample.images[place].key)
        for place in rng.sample(range(images), min(count, images))
    ]


def _alike(trials: Sequence[Trial]) -> list[list[Trial]]:
    """Trials of one wanted share together."""
    wanted = dict.fromkeys(trial.wanted for trial in trials)
    return [[trial for trial in trials if trial.wanted == one] for one in wanted]


def _band(
    trials: Sequence[Trial], images: int, index: VectorIndex, collection: Collection
) -> Band:
    questions = [question for trial in trials for question in trial.questions]
    answerable = [question for question in questions if question.keys]
    recalls = [exact.recall(one, index, collection) for one in answerable]
    times = [question.ms for question in questions]
    return Band(
        wanted=trials[0].wanted,
        share=sum(trial.kept for trial in trials) / len(trials) / max(1, images),
        queries=len(questions),
        recall=float(np.mean(recalls)) if recalls else 1.0,
        worst=min(recalls, default=1.0),
        short=sum(len(one.answer) < len(one.keys) for one in answerable),
        p50_ms=float(np.quantile(times, 0.5)),
        p99_ms=float(np.quantile(times, 0.99)),
        filters=[described(trial.condition) for trial in trials],
    )


# --- by label ------------------------------------------------------------------------


def _by_label(
    ledger: Ledger, index: VectorIndex, ranked: Ranking, k: int, sample: Sample
) -> ByLabel:
    collection = ranked.collection
    right = [
        _judged(ledger, index, ranked, k, image, vector)
        for image, vector in zip(ranked.images, ranked.vectors, strict=True)
    ]
    some = Sample(sample.images[:SAMPLE], sample.vectors[:SAMPLE])
    known = reliability(ledger, index, collection, ranked.label, some)
    return ByLabel(
        label=ranked.label,
        queries=len(right),
        precision_at_1=float(np.mean([any(one[:1]) for one in right])),
        precision_at_k=float(np.mean([sum(one) / max(1, len(one)) for one in right])),
        ranked=ranked.ranked,
        mean_average_precision=ranked.mean_average_precision(),
        tenths=[Tenth(*one) for one in known],
    )


def _judged(
    ledger: Ledger,
    index: VectorIndex,
    ranked: Ranking,
    k: int,
    image: Image,
    vector: npt.NDArray[np.float32],
) -> list[bool]:
    """Of the first k matches of an image: whether each has its label."""
    hits = index.search(ranked.collection, vector, k + exact.SPARE_HITS)
    known = ledger.verified(ranked.collection, hits)
    found = [
        known[hit.key] for hit in hits if hit.key in known and hit.key != image.key
    ]
    label = image.metadata[ranked.label]
    others = [one.metadata.get(ranked.label) for one in found[:k]]
    return [other is not None and alike(label, other) for other in others]
