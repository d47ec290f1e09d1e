"""Finds the nearest rows that satisfy a filter: all that are asked for, if they exist.

No index finds all of them by itself. A graph loses its way where most rows are hidden;
lists are probed that hold no row the filter keeps; and a server's own index over rows
still in memory does both (measured on Milvus 2.3.5 with 10,000 of them: 0.72 of the
nearest ten where a filter kept 1 %, and fewer than ten). So the rows that satisfy a
filter are counted first, and then found by one of these roads:

*Enumerating* where they are few: as many are asked for as there are. Milvus compares
every row left if half of them are wanted (``kHnswSearchBFTopkThreshold`` of its library
Knowhere), and getting all of them proves that none was missed. If some are missing, all
are read and compared here.

*Sifting* where they are many: the nearest without any filter, so many that enough of
them satisfy it, and then those that do.

*Half of them* if sifting finds too few, because the rows the filter keeps lie far from
the query: half as many are asked for as there are, so that all are compared.

*In parts* if half of them are more than one answer holds: Milvus compares every row
left if fewer than 7 % are (``kHnswSearchKnnBFFilterThreshold``), so each sixteenth of
all keys is asked by itself. Keys are digests: each has a sixteenth of every segment.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lookalike.backends.milvus_filter import EVERYTHING, KEY, literal
from lookalike.backends.milvus_reader import (
    Answer,
    Reader,
    batches,
    ranked,
)
from lookalike.backends.milvus_rows import GEN
from lookalike.collections import Metric
from lookalike.interfaces import Hit, Vectors
from lookalike.metrics import score

ENUMERATED = 600  # so many rows take no longer than any other road
SIFTED_COST = 5  # a row sifted takes as long as this many enumerated
COMPARED = 5_000  # rows read and compared here at most: half a second
DEEPEST = 4_096  # rows sifted at most; their keys are 140 kB of expression
ENOUGH = 0.5  # of all rows: where a filter keeps more a graph finds its way
SPARE = 16  # rows enumerated beyond the count, which may be a moment old
DIGITS = "0123456789abcdef"  # of which keys are made


class Nearest:
    """One search: some queries of the same limit and filter.

    Args:
        reader: of the collection.
        queries: prepared vectors ``[Q, D]``.
        limit: how many hits each shall have, at least 1.
        metric: that of the collection.
    """

    def __init__(
        self, reader: Reader, queries: Vectors, limit: int, metric: Metric
    ) -> None:
        self._reader = reader
        self._queries = queries
        self._limit = limit
        self._metric = metric

    def find(self, expression: str) -> list[list[Hit]]:
        """For each query its nearest rows that satisfy the expression, best first."""
        if self._reader.arranged.is_exact:
            return _hits(self._asked(expression))
        if not expression:
            return self._completed(self._asked(""), "")
        return self._filtered(expression, self._reader.estimate(expression))

    def _filtered(self, expression: str, there: int) -> list[list[Hit]]:
        few, most = max(ENUMERATED, 2 * self._limit), self._reader.most_rows - SPARE
        if there <= min(few, most):
            return self._enumerated(expression, there)
        rows = self._reader.estimate("")
        if self._reader.arranged.is_graph:
            few += SIFTED_COST * self._depth(there, rows)
        if there <= min(few, most):
            return self._enumerated(expression, there)
        return self._among_many(expression, there, rows)

    # --- roads -----------------------------------------------------------------------

    def _enumerated(self, expression: str, there: int) -> list[list[Hit]]:
        """All rows that satisfy the expression, so that none of them is missed."""
        answers = self._asked(expression, there + SPARE, share=0.0)
        if max(answer.rows for answer in answers) >= there + SPARE:
            counted = self._reader.count(expression)
            if counted > there:  # more came since
                return self._filtered(expression, counted)
        if min(answer.rows for answer in answers) < there:
            there = self._reader.count(expression)  # some may be gone since
        if min(answer.rows for answer in answers) < there <= COMPARED:
            return self._compared(expression)
        return self._completed(answers, expression)

    def _among_many(self, expression: str, there: int, rows: int) -> list[list[Hit]]:
        """Where there may be too many to compare all that satisfy the expression."""
        arranged, share = self._reader.arranged, min(1.0, there / max(1, rows))
        if not arranged.is_graph or share >= ENOUGH:
            return self._completed(self._asked(expression, share=share), expression)
        depth = self._depth(there, rows)
        # It can be in vain, so it has to promise twice the speed.
        if depth <= min(DEEPEST, there // (4 * SIFTED_COST)):
            found = self._sifted(expression, depth)
            if all(len(answer.hits) >= self._limit for answer in found):
                return _hits(found)
        if there <= min(COMPARED, self._reader.most_rows - SPARE):
            return self._enumerated(expression, there)
        half = there // 2 + SPARE
        if half <= self._reader.most_rows:
            return self._completed(self._asked(expression, half), expression)
        return self._completed(self._in_parts(expression), expression)

    def _sifted(self, expression: str, depth: int) -> list[Answer]:
        """Those of the nearest rows that satisfy the expression."""
        answers = self._asked("", depth, wanted=depth)
        found_keys = {hit.key for answer in answers for hit in answer.hits}
        kept: set[tuple[str, int]] = set()
        for keys in batches(sorted(found_keys), DEEPEST):
            listed = ", ".join(literal(key) for key in keys)
            rows = self._reader.rows(
                [GEN], filter=f"({expression} and ({KEY} in [{listed}]))"
            )
            kept |= {(row[KEY], row[GEN]) for row in rows}
        found = []
        for answer in answers:
            hits = [hit for hit in answer.hits if (hit.key, hit.gen) in kept]
            found.append(Answer(hits[: self._limit], answer.rows))
        return found

    def _in_parts(self, expression: str) -> list[Answer]:
        """The nearest of each sixteenth of the keys, put together."""
        parts = [self._asked(f"({expression} and {part})") for part in _sixteenths()]
        return [_merged(answers, self._limit) for answers in zip(*parts, strict=True)]

    def _compared(self, expression: str) -> list[list[Hit]]:
        """The nearest of all rows that satisfy the expression, compared here."""
        found = self._reader.rows([], filter=expression or EVERYTHING, limit=COMPARED)
        best: list[list[Hit]] = [[] for _ in self._queries]
        for keys in batches([row[KEY] for row in found]):
            stored = self._reader.vectors(keys)
            vectors = np.asarray([each.vector for each in stored.values()], np.float32)
            if not stored:
                continue
            for hits, query in zip(best, self._queries, strict=True):
                scores = score(query, vectors, self._metric)
                rows = [(hit.key, hit.gen, hit.score) for hit in hits]
                rows += [
                    (key, each.gen, float(closeness))
                    for (key, each), closeness in zip(
                        stored.items(), scores, strict=True
                    )
                ]
                hits[:] = ranked(rows, self._limit)
        return best

    # --- the engine ------------------------------------------------------------------

    def _asked(
        self,
        expression: str,
        limit: int | None = None,
        *,
        share: float = 1.0,
        wanted: int | None = None,
    ) -> list[Answer]:
        """What the engine finds by itself."""
        arranged = self._reader.arranged
        limit = min(self._reader.most_rows, limit or arranged.candidates(self._limit))
        effort = arranged.effort(limit, share)
        wanted = wanted or self._limit
        return self._reader.nearest(self._queries, limit, expression, effort, wanted)

    def _completed(self, answers: list[Answer], expression: str) -> list[list[Hit]]:
        """The same, if no row is missing; if one is, what a harder look finds."""
        hits = _hits(answers)
        fewest = min(map(len, hits))
        if fewest >= self._limit:
            return hits
        there = self._reader.count(expression)
        if fewest >= min(self._limit, there):
            return hits
        if there <= COMPARED:
            return self._compared(expression)
        return _hits(self._asked(expression, share=0.0))

    def _depth(self, there: int, rows: int) -> int:
        """Among how many of the nearest rows enough are likely to satisfy the filter.

        Three standard deviations of a Poisson distribution more than the mean.
        """
        enough = self._limit + 3 * math.sqrt(self._limit) + 3
        return math.ceil(enough * max(rows, there, 1) / max(there, 1))


def _sixteenths() -> list[str]:
    """Expressions that part all keys by their first digit."""
    edges = [literal(digit) for digit in DIGITS]
    return [
        " and ".join([f"({KEY} >= {low})", *([f"({KEY} < {high})"] if high else [])])
        for low, high in zip(edges, [*edges[1:], ""], strict=True)
    ]


def _merged(answers: Sequence[Answer], limit: int) -> Answer:
    rows = [(hit.key, hit.gen, hit.score) for each in answers for hit in each.hits]
    return Answer(ranked(rows, limit), sum(answer.rows for answer in answers))


def _hits(answers: Sequence[Answer]) -> list[list[Hit]]:
    return [answer.hits for answer in answers]
