"""Pages: matches are gathered until there are enough, arranged, and remembered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lookalike.collections import Collection
from lookalike.cursors import Place, to_cursor
from lookalike.duplicates import Collapse
from lookalike.gathering import Gathering
from lookalike.interfaces import ImageKey, Ledger, VectorIndex
from lookalike.probes import Vector, parts
from lookalike.results import (
    POOL,
    Group,
    Match,
    Shortage,
    diverse,
    grouped,
)

# The cosine of two vectors below which their images are not compared as near copies:
# of 200 photographs, encoded again, resized, cropped to 90 % or 30 % brighter, all were
# above, and of other pairs 0.3 %.
CLOSE = 0.7


class Page:
    """One page of a search.

    Attributes:
        place: where the search stands before it.
        gathering: what it is made of; ``fill`` lets it go on as long as needed.
        groups: the matches of the page, once it is filled.
        because: why there are fewer than wanted; None if there are not.
        next_cursor: leads to the page after this one; None if there is none.
    """

    def __init__(
        self,
        ledger: Ledger,
        index: VectorIndex,
        collection: Collection,
        place: Place,
    ) -> None:
        self._index = index
        self._collection = collection
        self._want = place.want
        self.place = place
        self.gathering = Gathering(ledger, index, collection, place)
        self._collapse = Collapse(ledger, collection)
        self._known: dict[ImageKey, Vector] = {}
        self.groups: list[Group] = []
        self.because: Shortage | None = None
        self.next_cursor: str | None = None

    def fill(self) -> list[Match]:
        """The matches of the page, in order; those of one group together."""
        groups = self._arranged()
        while not self._is_enough(groups):
            self.gathering.go_on()
            groups = self._arranged()
        self.groups = self._chosen(groups)
        if len(self.groups) < self._want.limit:
            self.because = self._shortage()
        elif len(groups) > len(self.groups) or self._may_follow():
            self.next_cursor = to_cursor(self._after(), self._collection)
        self._complete_groups()
        return self._told()

    # --- enough ----------------------------------------------------------------------

    def _is_enough(self, groups: Sequence[Group]) -> bool:
        if self.gathering.is_exhausted or self._is_below(self.gathering.floor):
            return True
        wanted = self._want.limit * (POOL if self._want.diversity else 1)
        if len(groups) < wanted:
            return False
        return len(groups) > wanted or self.gathering.has_more

    def _is_below(self, score: float) -> bool:
        return self._want.min_score is not None and score < self._want.min_score

    def _may_follow(self) -> bool:
        return self.gathering.has_more and not self._is_below(self.gathering.floor)

    def _shortage(self) -> Shortage:
        want, gathering = self._want, self.gathering
        if gathering.is_cut:
            return Shortage.DEPTH
        lowest = gathering.fresh[-1].score if gathering.fresh else np.inf
        if not gathering.is_exhausted or self._is_below(lowest):
            return Shortage.MIN_SCORE
        if want.group_by is not None:
            return Shortage.GROUPS
        return Shortage.COLLECTION if want.condition is None else Shortage.FILTER

    # --- arranging -------------------------------------------------------------------

    def _arranged(self) -> list[Group]:
        """Groups of what was found so far and is good enough, best first."""
        good = [one for one in self.gathering.fresh if not self._is_below(one.score)]
        groups = grouped(good, self._want.group_by)
        return self._collapsed(groups) if self._want.collapse_duplicates else groups

    def _collapsed(self, groups: Sequence[Group]) -> list[Group]:
        """Groups without those whose best is a near duplicate of a better one.

        What is one of something shown before is left out altogether.
        """
        shown = grouped(self.gathering.shown, self._want.group_by)
        both = [*shown, *groups]
        best = [group.best for group in both]
        kept = self._collapse([one.image for one in best], self._close(best))
        return [
            replace(both[first], collapsed=[both[other] for other in others])
            for first, *others in kept
            if first >= len(shown)
        ]

    def _close(self, matches: Sequence[Match]) -> list[tuple[int, int]]:
        """Places of two whose vectors are close enough for near copies."""
        vectors = self._vectors(matches)
        known = [n for n, one in enumerate(matches) if one.image.key in vectors]
        if not known:
            return []
        stacked = np.stack([vectors[matches[n].image.key] for n in known])
        lengths = np.linalg.norm(stacked, axis=1, keepdims=True)
        unit = stacked / np.maximum(lengths, 1e-12)
        pairs = np.argwhere(np.triu(unit @ unit.T >= CLOSE, k=1))
        return [(known[a], known[b]) for a, b in pairs.tolist()]

    def _chosen(self, groups: Sequence[Group]) -> list[Group]:
        want = self._want
        if not want.diversity:
            return list(groups[: want.limit])
        pool = groups[: want.limit * POOL]
        vectors = self._vectors([group.best for group in pool])
        shown = [*self._vectors(self.gathering.shown).values()]
        before = np.array(shown, np.float32).reshape(-1, self._collection.dimension)
        return diverse(pool, vectors, before, want, self._collection.metric)

    def _vectors(self, matches: Sequence[Match]) -> dict[ImageKey, Vector]:
        """The stored vectors of matches, by key; each is asked for once."""
        keys = [match.image.key for match in matches]
        new = [key for key in keys if key not in self._known]
        if new:
            stored = self._index.vectors(self._collection, new)
            self._known |= {key: stored[key].vector for key in new if key in stored}
        return {key: self._known[key] for key in keys if key in self._known}

    def _complete_groups(self) -> None:
        """Fill up each group, the best match first."""
        size = self._want.group_size
        for group in self.groups:
            if size > len(group.matches) and group.value is not None:
                more = self.gathering.of_group(group.value, size)
                good = [one for one in more if not self._is_below(one.score)]
                known = {one.id for one in good}
                # What was found first stays, even if the index moved on meanwhile.
                kept = [one for one in group.matches if one.id not in known]
                group.matches = sorted([*kept, *good], key=lambda one: one.place)
            del group.matches[size:]

    # --- what is told ----------------------------------------------------------------

    def _told(self) -> list[Match]:
        matches = [
            replace(match, duplicates=[other.best.id for other in group.collapsed])
            if group.collapsed
            else match
            for group in self.groups
            for match in group.matches
        ]
        if not self._want.explain:
            return matches
        vectors = self._vectors(matches)
        return [
            self._explained(match, vectors[match.image.key])
            if match.image.key in vectors
            else match
            for match in matches
        ]

    def _explained(self, match: Match, vector: Vector) -> Match:
        probe = self.place.probe
        made = parts(probe, vector, self._collection.metric)
        return replace(match, parts=made, positives=probe.positives)

    def _after(self) -> Place:
        """Where the search stands after this page."""
        marks = {one.mark for group in self.groups for one in (group, *group.collapsed)}
        return replace(self.place, shown=self.place.shown | marks)
