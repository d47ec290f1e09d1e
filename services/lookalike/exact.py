"""Searches, and what an exact search would have answered to each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from lookalike import metrics
from lookalike.collections import Collection
from lookalike.filters import Filter, matches
from lookalike.interfaces import Hit, Image, ImageKey, Ledger, VectorIndex, Vectors
from lookalike.relevance import Floats

ROWS = 1_000  # read at once
SPARE_HITS = 5  # asked beyond k, for the query itself and for what was deleted
EQUAL = 1e-5  # by which equal scores differ between two ways to compute them
WARM_UP = 5  # searches before time is taken

Progress = Callable[[str, int, int], None]  # doing what, how much is done, of how much


@dataclass
class Question:
    """A search for what is near an image, what was answered, and what should be.

    Attributes:
        vector: prepared: float32 ``[D]``.
        own: the image, which is left out.
        scores: the exact best so far, at most k.
        keys: whose they are.
        answer: what the index answered, at most k.
        ms: how long that took.
    """

    vector: npt.NDArray[np.float32]
    own: ImageKey
    scores: Floats = field(default_factory=lambda: np.zeros(0, np.float64))
    keys: list[ImageKey] = field(default_factory=list)
    answer: list[ImageKey] = field(default_factory=list)
    ms: float = 0.0


@dataclass
class Trial:
    """Searches with one filter.

    ``wanted`` is the share of the images that it was to keep, ``kept`` how many of
    those that were compared it does keep.
    """

    wanted: float
    condition: Filter | None
    questions: list[Question]
    kept: int = 0


def ask(
    ledger: Ledger,
    index: VectorIndex,
    collection: Collection,
    trials: Sequence[Trial],
    k: int,
    progress: Progress,
) -> None:
    """Ask the index every question, one after the other."""
    asked = [(trial, question) for trial in trials for question in trial.questions]
    for place, (trial, question) in enumerate(asked[:WARM_UP] + asked):
        started = time.perf_counter()
        limit = k + SPARE_HITS
        hits = index.search(collection, question.vector, limit, trial.condition)
        question.ms = (time.perf_counter() - started) * 1000
        known = ledger.verified(collection, hits)
        keys = [hit.key for hit in hits if hit.key in known]
        question.answer = [key for key in keys if key != question.own][:k]
        if place % 50 == 0:
            progress("searching", place, len(asked))


def scanned(
    ledger: Ledger, index: VectorIndex, collection: Collection
) -> Iterator[tuple[list[Image], Vectors]]:
    """All images that can be found now, in parts, with their prepared vectors."""
    after: ImageKey | None = None
    while rows := index.rows(collection, after, ROWS):
        after = rows[-1][0]
        stored = index.vectors(collection, [key for key, _ in rows])
        hits = [Hit(key, one.gen, 0.0) for key, one in stored.items()]
        known = ledger.verified(collection, hits)
        keys = [hit.key for hit in hits if hit.key in known]
        if keys:
            vectors = np.stack([stored[key].vector for key in keys])
            prepared = metrics.prepare(vectors, collection.metric)
            yield [known[key] for key in keys], prepared


def compare(
    trial: Trial,
    images: Sequence[Image],
    vectors: Vectors,
    collection: Collection,
    k: int,
) -> None:
    """Take some images into the exact answers of a trial."""
    chosen = list(range(len(images)))
    if trial.condition is not None:
        condition = trial.condition
        chosen = [n for n in chosen if matches(condition, images[n].metadata)]
    trial.kept += len(chosen)
    if not chosen:
        return
    keys = [images[n].key for n in chosen]
    asked = np.stack([question.vector for question in trial.questions])
    table = metrics.scores(asked, vectors[chosen], collection.metric)
    # Only the best of this part can be among the best of all.
    bests = np.argsort(-table, axis=1, kind="stable")[:, : k + 1]
    for question, scores, best in zip(trial.questions, table, bests, strict=True):
        new = [n for n in best.tolist() if keys[n] != question.own]
        joined = np.concatenate([question.scores, scores[new]])
        names = question.keys + [keys[n] for n in new]
        order = np.argsort(-joined, kind="stable")[:k].tolist()
        question.scores = joined[order].astype(np.float64)
        question.keys = [names[n] for n in order]


def recall(question: Question, index: VectorIndex, collection: Collection) -> float:
    """The share of the exact best that was found; one that scores the same is as good.

    Scores are compared by the stored vectors, since an index may have rounded its own.
    """
    others = [key for key in question.answer if key not in set(question.keys)]
    right = len(question.answer) - len(others)
    if others:
        stored = index.vectors(collection, others)
        vectors = [stored[key].vector for key in others if key in stored]
        if vectors:
            prepared = metrics.prepare(np.stack(vectors), collection.metric)
            scores = metrics.score(question.vector, prepared, collection.metric)
            least = question.scores[-1] - EQUAL * max(1.0, abs(question.scores[-1]))
            right += int((scores >= least).sum())
    return min(right, len(question.keys)) / len(question.keys)
