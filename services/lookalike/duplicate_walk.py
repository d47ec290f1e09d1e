"""Near and similar duplicates, found by walking through a collection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from lookalike import metrics
from lookalike.collections import Collection, Metric
from lookalike.copies import CANDIDATES, NEAR, likeness, pair_of
from lookalike.duplicate_stars import Group, Member, Neighbours, Tier, stars
from lookalike.interfaces import (
    Hit,
    Image,
    ImageId,
    ImageKey,
    Ledger,
    Pair,
    StoredVector,
    VectorIndex,
)

WALKED = 500  # images that one page of groups looks at
BATCH = 100
MANY = 200  # nearest vectors looked at where the usual number were all duplicates


class Walk:
    """Goes through the images of a collection in order of id."""

    def __init__(
        self,
        ledger: Ledger,
        index: VectorIndex,
        collection: Collection,
        tier: Tier,
        threshold: float,
    ) -> None:
        self._ledger = ledger
        self._index = index
        self._collection = collection
        self._tier = tier
        self._threshold = threshold
        self._known: dict[Pair, float] = {}  # how alike two images look

    def page(
        self, after: ImageId | None, limit: int
    ) -> tuple[list[Group], ImageId | None]:
        """The groups that begin after an id, and where to go on; None at the end."""
        found: list[Group] = []
        for _ in range(WALKED // BATCH):
            images = self._ledger.images(self._collection, after, BATCH)
            for image, more in self._groups(images):
                if found and len(found) + len(more) > limit:
                    return found, after
                found += more
                after = image.id
            if len(images) < BATCH:
                return found, None
        return found, after

    def _groups(self, images: Sequence[Image]) -> Iterator[tuple[Image, list[Group]]]:
        """Each image, with the groups that begin with it."""
        found = self._neighbours([one for one in images if one.is_searchable])
        keys = {one.key for one in images}
        keys |= {
            member.image.key
            for each in found.values()
            for member in (*each.before, *each.after)
        }
        judged = self._ledger.judged(self._collection, sorted(keys)) if found else {}
        for image in images:
            if image.key not in found:
                yield image, []
                continue
            yield (
                image,
                list(stars(found[image.key], judged, self._compare, self._threshold)),
            )

    def _neighbours(self, images: Sequence[Image]) -> dict[ImageKey, Neighbours]:
        """The duplicates of each image that has any."""
        stored = self._vectors(images)
        asked = [one for one in images if one.key in stored]
        found = self._nearest(asked, stored, CANDIDATES + 1)
        crowded = [one for one in asked if one.key in found and found[one.key].more]
        return found | self._nearest(crowded, stored, MANY)

    def _nearest(
        self,
        images: Sequence[Image],
        stored: Mapping[ImageKey, StoredVector],
        limit: int,
    ) -> dict[ImageKey, Neighbours]:
        if not images:
            return {}
        vectors = np.stack([stored[one.key].vector for one in images])
        answers = self._index.search_many(self._collection, vectors, limit)
        newest: dict[ImageKey, Hit] = {}
        for hit in (hit for hits in answers for hit in hits):
            if hit.key not in newest or newest[hit.key].gen < hit.gen:
                newest[hit.key] = hit
        known = self._ledger.verified(self._collection, list(newest.values()))
        pairs = [
            (image, known[hit.key], hit.score)
            for image, hits in zip(images, answers, strict=True)
            for hit in hits
            if hit.key in known and hit.key != image.key
        ]
        members = self._members([pair for pair in pairs if pair[1].is_searchable])
        return {
            image.key: Neighbours(
                image,
                [one for one in members[image.key] if one.image.id < image.id],
                [one for one in members[image.key] if one.image.id > image.id],
                more=len(hits) == limit and len(members[image.key]) >= limit - 1,
            )
            for image, hits in zip(images, answers, strict=True)
            if image.key in members
        }

    def _members(
        self, pairs: Sequence[tuple[Image, Image, float]]
    ) -> dict[ImageKey, list[Member]]:
        """Of each first image of the pairs, those that are duplicates of it."""
        metric = self._collection.metric
        if self._tier is Tier.SIMILAR:
            pairs = [
                (a, b, score)
                for a, b, score in pairs
                if a.digest == b.digest or _closeness(score, metric) >= self._threshold
            ]
        looks = self._looks([(a, b) for a, b, _ in pairs])
        members: dict[ImageKey, list[Member]] = {}
        for (image, other, score), value in zip(pairs, looks, strict=True):
            if self._tier is Tier.NEAR and value < self._threshold:
                continue
            is_near = value >= NEAR or self._tier is Tier.NEAR
            sure = Tier.NEAR if is_near else Tier.SIMILAR
            if self._tier is Tier.SIMILAR:
                value = _closeness(score, metric)
            if image.digest == other.digest:
                sure, value = Tier.EXACT, 1.0
            members.setdefault(image.key, []).append(Member(other, sure, value))
        return members

    def _looks(self, pairs: Sequence[tuple[Image, Image]]) -> list[float]:
        """How alike the images of each pair look.

        The one whose id comes first is the first of a pair, whichever was looked at: of
        two images it is always said the same.
        """
        keys = [pair_of(a.key, b.key) for a, b in pairs]
        new = {
            key: (a, b) if a.id < b.id else (b, a)
            for key, (a, b) in zip(keys, pairs, strict=True)
            if key not in self._known
        }
        self._known |= zip(new, likeness(list(new.values())), strict=True)
        return [self._known[key] for key in keys]

    def _compare(self, first: Image, second: Image) -> float:
        """How alike two images are that were not found by each other's vectors."""
        if self._tier is Tier.NEAR or first.digest == second.digest:
            return self._looks([(first, second)])[0]
        stored = self._vectors([first, second])
        if len(stored) < 2:
            return 0.0
        one, other = stored[first.key].vector, stored[second.key].vector
        metric = self._collection.metric
        score = metrics.score(one, other[np.newaxis], metric)
        return _closeness(float(score[0]), metric)

    def _vectors(self, images: Sequence[Image]) -> dict[ImageKey, StoredVector]:
        """The stored vectors, without those of a life that a deletion has ended."""
        keys = [one.key for one in images]
        stored = self._index.vectors(self._collection, keys) if keys else {}
        born = {one.key: one.born_gen for one in images}
        return {key: one for key, one in stored.items() if one.gen >= born[key]}


def _closeness(score: float, metric: Metric) -> float:
    """The cosine of two vectors of a network, which are of unit length, by a score."""
    return 1 - score * score / 2 if metric is Metric.EUCLIDEAN else score
