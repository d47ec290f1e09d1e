"""Use case: judge duplicates, follow links to them, and show them as one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from lookalike.collections import Collection
from lookalike.copies import NEAR, likeness, pair_of
from lookalike.errors import BadRequest
from lookalike.interfaces import (
    Image,
    ImageId,
    ImageKey,
    Judged,
    Ledger,
    Pair,
    Verdict,
)

MAX_JUDGED = 50  # images in one verdict


def judge(
    ledger: Ledger,
    collection: Collection,
    ids: Sequence[ImageId],
    verdict: Verdict,
) -> list[Judged]:
    """Remember a verdict on each pair of some images, which are not shown again.

    It holds as long as both have the pictures they have now.

    Raises:
        BadRequest: code ``verdict_invalid``: not 2 to 50 different ids.
        ImageNotFound: one of them is not there.
    """
    return ledger.judge(collection, _pairs(ledger, collection, ids), verdict)


def withdraw(ledger: Ledger, collection: Collection, ids: Sequence[ImageId]) -> int:
    """Forget the verdicts on the pairs of some images; raises as ``judge``."""
    return ledger.withdraw(collection, _pairs(ledger, collection, ids))


def originals(
    ledger: Ledger, collection: Collection, images: Sequence[Image]
) -> dict[ImageKey, ImageId]:
    """The images that some are linked to as their duplicates, by the key of these.

    Left out is a link whose image is gone, or has another picture by now.
    """
    linked = [one for one in images if one.duplicate_of is not None]
    if not linked:
        return {}
    known = ledger.by_key(collection, [one.duplicate_of or one.key for one in linked])
    pairs = [
        (one, known[one.duplicate_of])
        for one in linked
        if one.duplicate_of is not None and one.duplicate_of in known
    ]
    return {
        one.key: original.id
        for (one, original), value in zip(pairs, likeness(pairs), strict=True)
        if value >= NEAR
    }


class Collapse:
    """Puts near duplicates among matches together; remembers what it compared.

    Two images that someone judged not to be duplicates stay apart.
    """

    def __init__(self, ledger: Ledger, collection: Collection) -> None:
        self._ledger = ledger
        self._collection = collection
        self._alike: dict[Pair, bool] = {}

    def __call__(
        self, images: Sequence[Image], close: Iterable[tuple[int, int]] | None = None
    ) -> list[list[int]]:
        """Places of those that stay, in order, each with its duplicates behind it.

        An image goes to the first one that stays and that it is a duplicate of.

        Args:
            images: all different, the better ones first.
            close: the places of two that may be near copies, the lesser first; others
                are compared only if someone judged them. By default all.
        """
        alike = self._alike_places(images, close)
        kept: dict[int, list[int]] = {}
        for place in range(len(images)):
            firsts = [other for other in alike.get(place, ()) if other in kept]
            kept.setdefault(min(firsts, default=place), []).append(place)
        return list(kept.values())

    def _alike_places(
        self, images: Sequence[Image], close: Iterable[tuple[int, int]] | None
    ) -> dict[int, list[int]]:
        """Of each place, the places before it of what it is a duplicate of."""
        judged = self._ledger.judged(self._collection, [one.key for one in images])
        pairs = set(combinations(range(len(images)), 2) if close is None else close)
        places = {image.key: place for place, image in enumerate(images)}
        pairs |= {
            (min(places[a], places[b]), max(places[a], places[b])) for a, b in judged
        }
        self._compare([(images[a], images[b]) for a, b in pairs], judged)
        alike: dict[int, list[int]] = {}
        for a, b in pairs:
            if self._alike[pair_of(images[a].key, images[b].key)]:
                alike.setdefault(b, []).append(a)
        return alike

    def _compare(
        self,
        pairs: Sequence[tuple[Image, Image]],
        judged: Mapping[Pair, Verdict],
    ) -> None:
        new = [(a, b) for a, b in pairs if pair_of(a.key, b.key) not in self._alike]
        for (a, b), value in zip(new, likeness(new), strict=True):
            verdict = judged.get(pair_of(a.key, b.key))
            is_alike = value >= NEAR or verdict is Verdict.DUPLICATE
            self._alike[pair_of(a.key, b.key)] = (
                is_alike and verdict is not Verdict.NOT_DUPLICATE
            )


def _pairs(
    ledger: Ledger, collection: Collection, ids: Sequence[ImageId]
) -> list[Pair]:
    if len(set(ids)) != len(ids) or not 2 <= len(ids) <= MAX_JUDGED:
        raise BadRequest(
            f"A verdict is on 2 to {MAX_JUDGED} different images.",
            code="verdict_invalid",
        )
    keys = sorted(ledger.image(collection, one).key for one in ids)
    return [(a, b) for at, a in enumerate(keys) for b in keys[at + 1 :]]
