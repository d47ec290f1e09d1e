"""Use case: find out what the scores of a collection mean, by a sample of its images.

Keys are digests, so the images behind some neighbouring keys are a random sample,
however large the collection is; making a calibration takes some seconds at most.

- The distribution of scores is that of all pairs of the sampled images.
- Of labels, images of the sample are searched by, as a user would, among all images of
  the collection; whether their first ten matches have the same label, and with which
  advantage over a random image, is what the chances are learned from. (Learned from
  random pairs the chance would be too low for what searches find: by up to 0.33 on the
  photographs of clothes, as matches are not random images.)
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from lookalike import metrics
from lookalike.collections import (
    Collection,
    FieldType,
    MetadataValue,
    shorten,
    unknown_field,
)
from lookalike.errors import BadQuery
from lookalike.interfaces import (
    Hit,
    Image,
    ImageKey,
    Ledger,
    VectorIndex,
    Vectors,
)
from lookalike.relevance import (
    Calibration,
    Centre,
    Floats,
    Labels,
    chances,
    distribution,
)

logger = logging.getLogger(__name__)

LEAST_IMAGES = 100  # of fewer, a percentile says nothing
LEAST_MATCHES = 200  # with labels; of fewer, a chance says nothing
LEAST_JUDGED = 1_000  # to see whether stated chances are true
GROWTH = 1.5  # a collection that grew so much is sampled anew
SAMPLE = 1_000  # images; half a million pairs
MATCHES = 10  # of each search, as many as are shown by default
SECONDS = 5.0  # for searches; what was learned by then is used
SEARCHES = 25  # in one question to the index
ROWS = 500  # of vectors asked for at once

LABELS = (FieldType.STRING, FieldType.STRINGS, FieldType.INT, FieldType.BOOL)


@dataclass(frozen=True)
class Sample:
    """Some images of a collection: their prepared vectors ``[N, D]``, in order."""

    images: list[Image]
    vectors: Vectors


def keep(
    ledger: Ledger, index: VectorIndex, collection: Collection, label: str | None
) -> Calibration | None:
    """Find out what the scores mean, and have the ledger remember it.

    None, and what was known stays, if the collection has fewer than 100 images.

    Args:
        ledger: knows the images, and remembers.
        index: knows the vectors.
        collection: whose scores.
        label: the field whose values are labels, if chances of those are wanted.

    Raises:
        BadQuery: ``query_unknown_field`` or ``query_wrong_type``: no such labels.
        CollectionNotFound: the collection was deleted meanwhile.
    """
    made = calibrate(ledger, index, collection, label)
    if made is not None:
        ledger.keep_calibration(collection, made)
    return made


def is_due(ledger: Ledger, index: VectorIndex, collection: Collection) -> bool:
    """Whether the scores were never looked at, or those of half as many images."""
    images = index.count(collection)
    if images < LEAST_IMAGES:
        return False
    known = ledger.calibration(collection)
    return known is None or images >= GROWTH * known.images


def check_label(collection: Collection, label: str | None) -> None:
    """Return if a field can be a label of the collection's images.

    Raises:
        BadQuery: ``query_unknown_field`` or ``query_wrong_type``.
    """
    if label is None:
        return
    if label not in collection.fields:
        detail, extra = unknown_field(label, collection.fields)
        raise BadQuery(detail, code="query_unknown_field", extra=extra)
    kind = collection.fields[label]
    if kind not in LABELS:
        accepted = ", ".join(LABELS)
        raise BadQuery(
            f"Field {shorten(label)} is {kind.value}; labels are values of a field of "
            f"{accepted}.",
            code="query_wrong_type",
            extra={"field": label, "accepted": list(LABELS)},
        )


def calibrate(
    ledger: Ledger,
    index: VectorIndex,
    collection: Collection,
    label: str | None = None,
    *,
    seed: int | None = None,
) -> Calibration | None:
    """What the scores of a collection mean; None if it has fewer than 100 images.

    Raises:
        BadQuery: as ``check_label``.
    """
    check_label(collection, label)
    sample = drawn(ledger, index, collection, SAMPLE, seed)
    if len(sample.images) < LEAST_IMAGES:
        return None
    centre = centre_of(sample.vectors, collection)
    labels = None
    if label is not None:
        labels = _labels(ledger, index, collection, label, sample, centre)
    return Calibration(
        fingerprint=collection.fingerprint,
        made_at=datetime.now(UTC),
        images=index.count(collection),
        sampled=len(sample.images),
        below=distribution(_scores_of_pairs(sample.vectors, collection)),
        centre=centre,
        labels=labels,
    )


def drawn(
    ledger: Ledger,
    index: VectorIndex,
    collection: Collection,
    size: int,
    seed: int | None = None,
) -> Sample:
    """Random images of a collection that can be found now, at most ``size``."""
    start = ImageKey(f"{random.Random(seed).getrandbits(128):032x}")
    rows = index.rows(collection, start, size)
    if len(rows) < size:
        rows += index.rows(collection, None, size - len(rows), upto=start)
    stored = {}
    for first in range(0, len(rows), ROWS):
        some = [key for key, _ in rows[first : first + ROWS]]
        stored.update(index.vectors(collection, some))
    hits = [Hit(key, stored[key].gen, 0.0) for key, _ in rows if key in stored]
    known = ledger.verified(collection, hits)
    keys = [hit.key for hit in hits if hit.key in known]
    vectors = np.zeros((0, collection.dimension), np.float32)
    if keys:
        vectors = np.stack([stored[key].vector for key in keys])
    return Sample(
        images=[known[key] for key in keys],
        vectors=metrics.prepare(vectors, collection.metric),
    )


def centre_of(vectors: Vectors, collection: Collection) -> Centre:
    """Where these images lie."""
    wide = vectors.astype(np.float64)
    return Centre(
        metric=collection.metric,
        mean=wide.mean(axis=0).astype(np.float32),
        power=float((wide**2).sum(axis=1).mean()),
    )


def _scores_of_pairs(vectors: Vectors, collection: Collection) -> Floats:
    """The score of each pair of different images: ``[N * (N - 1) / 2]``."""
    table = metrics.scores(vectors, vectors, collection.metric)
    return table[np.triu_indices(len(vectors), 1)].astype(np.float64)


# --- labels --------------------------------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """Matches of searches: which search, rank, score, advantage, and if right."""

    search: npt.NDArray[np.int64]
    scores: Floats
    advantages: Floats
    is_same: npt.NDArray[np.bool_]


def _labels(
    ledger: Ledger,
    index: VectorIndex,
    collection: Collection,
    label: str,
    sample: Sample,
    centre: Centre,
) -> Labels | None:
    """What advantages promise; None if too few images have a label."""
    found = judged(ledger, index, collection, label, sample, centre)
    if len(found.is_same) < LEAST_MATCHES:
        return None
    return Labels(label, chances(found.advantages, found.is_same))


def judged(
    ledger: Ledger,
    index: VectorIndex,
    collection: Collection,
    label: str,
    sample: Sample,
    centre: Centre,
    *,
    seconds: float = SECONDS,
) -> Judged:
    """The first ten matches of sampled images that have a label, if they have one too.

    As many as can be searched by in the time.
    """
    until = time.monotonic() + seconds
    labelled = [n for n, one in enumerate(sample.images) if label in one.metadata]
    found: list[tuple[int, float, float, bool]] = []
    for first in range(0, len(labelled), SEARCHES):
        some = labelled[first : first + SEARCHES]
        answers = index.search_many(collection, sample.vectors[some], MATCHES + 1)
        images = ledger.verified(collection, [hit for hits in answers for hit in hits])
        for place, hits in zip(some, answers, strict=True):
            query, vector = sample.images[place], sample.vectors[place]
            others = [hit for hit in hits if hit.key != query.key][:MATCHES]
            for hit in others:
                image = images.get(hit.key)
                if image is not None and label in image.metadata:
                    advantage = centre.advantage(hit.score, vector)
                    same = alike(query.metadata[label], image.metadata[label])
                    found.append((place, hit.score, advantage, same))
        if time.monotonic() > until:
            break
    return Judged(
        search=np.array([one[0] for one in found], np.int64),
        scores=np.array([one[1] for one in found], np.float64),
        advantages=np.array([one[2] for one in found], np.float64),
        is_same=np.array([one[3] for one in found], np.bool_),
    )


def alike(one: MetadataValue, other: MetadataValue) -> bool:
    """Whether two labels are the same; of two lists, whether they share an entry."""
    if isinstance(one, list) and isinstance(other, list):
        return not set(one).isdisjoint(other)
    return one == other


def reliability(
    ledger: Ledger,
    index: VectorIndex,
    collection: Collection,
    label: str,
    sample: Sample,
) -> list[tuple[float, float, int]]:
    """Whether chances are true: learned from half of the searches, told of the others.

    Returns:
        As ``tenths``; nothing if there are fewer than 1,000 matches in either half.
    """
    centre = centre_of(sample.vectors, collection)
    found = judged(ledger, index, collection, label, sample, centre)
    known = found.search % 2 == 0
    if min(known.sum(), (~known).sum()) < LEAST_JUDGED:
        return []
    curve = chances(found.advantages[known], found.is_same[known])
    stated = [curve(one) for one in found.advantages[~known]]
    return tenths(stated, found.is_same[~known])


def tenths(
    stated: npt.ArrayLike, is_true: Sequence[bool] | npt.NDArray[np.bool_]
) -> list[tuple[float, float, int]]:
    """Stated chances against what was seen: of each tenth of the cases, by chance.

    Returns:
        The mean of the stated chances, the share of what was true, and the number of
        cases of each tenth, from the least likely to the most likely.
    """
    chance, truth = np.asarray(stated, np.float64), np.asarray(is_true, np.float64)
    order = np.argsort(chance, kind="stable")
    return [
        (float(chance[part].mean()), float(truth[part].mean()), len(part))
        for part in np.array_split(order, 10)
        if len(part)
    ]
