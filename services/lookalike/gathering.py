"""Gathering: asks index and ledger for matches, until there are enough of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lookalike import metrics
from lookalike.collections import Collection, MetadataValue, Metric
from lookalike.cursors import Place
from lookalike.errors import BadQuery
from lookalike.filters import And, AnyOf, Filter, Not, matches
from lookalike.interfaces import Hit, ImageKey, Ledger, VectorIndex, Vectors
from lookalike.probes import OF_DIRECTIONS, Probe, Vector, combined
from lookalike.queries import Strategy
from lookalike.results import DIGITS, POOL, Match, Want, group_mark, mark_of, value_of

MAX_HITS = 16_384  # the most that Milvus answers
MAX_BEST = 2_000  # of the strategy best, whose hits are compared once more
SPARE_HITS = 2  # asked beyond the limit, for hits the ledger does not confirm
WIDER = 4  # times as many, if that was not enough


@dataclass(frozen=True)
class Ask:
    """One question to the index."""

    vectors: Vectors  # [Q, D]
    limit: int
    condition: Filter | None


class Gathering:
    """What one page of a search can be made of; each ``go_on`` finds more.

    Attributes:
        shown: those that were shown, if matches are compared with each other.
        is_exhausted: whether nothing more can be found.
        is_cut: whether that is so only because no more is asked of the index.
    """

    def __init__(
        self,
        ledger: Ledger,
        index: VectorIndex,
        collection: Collection,
        place: Place,
    ) -> None:
        self._ledger = ledger
        self._index = index
        self._collection = collection
        self._probe = place.probe
        self._place = place
        self._want = place.want
        self._vectors = _asked_with(place.probe, collection.metric)
        self._left_out = set() if place.want.include_query else set(place.probe.ids)
        self._looked_at: set[ImageKey] = set()
        self._values: list[MetadataValue] = []
        self._limit = self._first_limit()
        self._floor = np.inf
        self._found: list[Match] = []
        self.shown: list[Match] = []
        self.is_exhausted = False
        self.is_cut = False

    @property
    def fresh(self) -> list[Match]:
        """Matches no earlier page showed, best first, and none missing between them.

        Some that score exactly as the last one found may not be found yet; they are
        left out until they are, since ties are in order of id.
        """
        if self.is_exhausted:
            return self._found
        return [match for match in self._found if match.score > self._floor]

    @property
    def has_more(self) -> bool:
        """Whether there is any match behind those of ``fresh``."""
        return len(self._found) > len(self.fresh)

    @property
    def floor(self) -> float:
        """The highest score of what was not found yet."""
        return -np.inf if self.is_exhausted else self._floor

    @property
    def ask(self) -> Ask:
        """What the index is asked next."""
        condition = self._want.condition
        if self._values:
            # Groups that are known have nothing to add; others may lie behind them.
            others = Not(self._is_one_of(self._values))
            condition = others if condition is None else And((condition, others))
        return Ask(self._vectors, self._limit, condition)

    def go_on(self, answered: Sequence[list[Hit]] | None = None) -> None:
        """Ask the index once more; ``answered`` is what it said, if it was asked."""
        ask = self.ask
        lists = answered
        if lists is None:
            lists = self._index.search_many(
                self._collection, ask.vectors, ask.limit, ask.condition
            )
        groups = len(self._values)
        self._take(self._scored(lists))
        self.is_exhausted = any(len(hits) < ask.limit for hits in lists)
        if len(self._values) == groups and not self.is_exhausted:
            self._widen()

    def of_group(self, value: MetadataValue, limit: int) -> list[Match]:
        """The best matches of one group, at most ``limit``, by another question."""
        inside = self._is_one_of([value])
        condition = self._want.condition
        both = inside if condition is None else And((condition, inside))
        wanted = Want(limit=limit, condition=both, include_query=True)
        place = Place(self._probe, wanted, b"")
        other = Gathering(self._ledger, self._index, self._collection, place)
        other._left_out = self._left_out
        while len(other.fresh) < limit and not other.is_exhausted:
            other.go_on()
        return other.fresh[:limit]

    def _is_one_of(self, values: Sequence[MetadataValue]) -> AnyOf:
        field = self._want.group_by
        assert field is not None
        return AnyOf(field, self._collection.fields[field], tuple(values))

    def _first_limit(self) -> int:
        want = self._want
        wanted = want.limit + max(SPARE_HITS, want.limit // 8)
        if want.group_by is not None:
            wanted *= 2
        if want.compares:
            wanted *= POOL if want.diversity else 2
        return min(MAX_HITS, wanted + len(self._place.shown) + len(self._left_out))

    def _widen(self) -> None:
        most = MAX_BEST if self._probe.strategy is Strategy.BEST else MAX_HITS
        if self._limit >= most:
            self.is_exhausted = self.is_cut = True
        self._limit = min(most, self._limit * WIDER)

    def _take(self, hits: Sequence[Hit]) -> None:
        """Keep what the ledger confirms, by the metadata it holds now.

        The index lags behind deletions and changes of metadata; the ledger does not.
        """
        done = self._looked_at | self._left_out
        new = [hit for hit in hits if hit.key not in done]
        self._looked_at.update(hit.key for hit in new)
        group_by, shown = self._want.group_by, self._place.shown
        if shown and group_by is None and not self._want.compares:
            new = [hit for hit in new if mark_of(hit.key) not in shown]
        images = self._ledger.verified(self._collection, new) if new else {}
        condition, known = self._want.condition, set(self._values)
        for hit in new:
            image = images.get(hit.key)
            if image is None or not (
                condition is None or matches(condition, image.metadata)
            ):
                continue
            match = Match(image.id, round(hit.score, DIGITS), image)
            is_shown = bool(shown) and group_mark(match, group_by) in shown
            (self.shown if is_shown else self._found).append(match)
            value = value_of(match, group_by)
            if value is not None and value not in known:
                known.add(value)
                self._values.append(value)
        self._found.sort(key=lambda match: match.place)

    # --- scores ----------------------------------------------------------------------

    def _scored(self, lists: Sequence[list[Hit]]) -> list[Hit]:
        if self._probe.strategy is Strategy.AVERAGE:
            (hits,) = lists
            self._floor = round(hits[-1].score, DIGITS) if hits else -np.inf
            return hits
        return self._best(lists)

    def _best(self, lists: Sequence[list[Hit]]) -> list[Hit]:
        """Hits scored by their best example, less the worst that is to be avoided.

        What is in none of the lists scores at most as high as the last of each, so
        all above that are sure: Fagin's threshold algorithm (PODS 2001, section 4).
        """
        probe = self._probe
        positives = range(probe.positives)
        ends = [
            probe.weights[n] * lists[n][-1].score if lists[n] else -np.inf
            for n in positives
        ]
        self._floor = round(float(max(ends)), DIGITS)
        gens = {hit.key: hit.gen for hits in lists for hit in hits}
        stored = self._index.vectors(self._collection, sorted(gens))
        keys = [key for key in gens if key in stored]
        if not keys:
            return []
        vectors = np.stack([stored[key].vector for key in keys])
        each = _scores(probe, vectors, self._collection.metric)
        scores = each[: probe.positives].max(axis=0)
        if len(each) > probe.positives:
            scores = scores - each[probe.positives :].max(axis=0).clip(min=0)
        return [
            Hit(key, stored[key].gen, float(score))
            for key, score in zip(keys, scores, strict=True)
        ]


def _asked_with(probe: Probe, metric: Metric) -> Vectors:
    """The vectors the index is asked with: float32 ``[Q, D]``."""
    if probe.strategy is Strategy.AVERAGE:
        only: Vector = combined(probe, metric)
        return only[np.newaxis]
    if len(probe.vectors) > probe.positives and metric not in OF_DIRECTIONS:
        raise BadQuery(
            "The strategy best takes negative examples with the metrics cosine and "
            "pearson only; use the strategy average."
        )
    return probe.vectors[: probe.positives]


def _scores(probe: Probe, vectors: Vectors, metric: Metric) -> Vectors:
    """The weighted score of each vector by each example: ``[E, N]``."""
    scores = [
        weight * metrics.score(example, vectors, metric)
        for example, weight in zip(probe.vectors, probe.weights, strict=True)
    ]
    return np.stack(scores)
