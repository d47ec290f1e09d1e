"""Groups of duplicates: stars around one image, never chains.

A group is the image that comes first in the order of ids, and images that come after it
and are duplicates of it, not merely of each other. So nothing is in a group by a chain
of small steps. An image that is in such a group begins one of its own only with
duplicates that its first image has not. Two images on which there is a verdict are
never in one group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from lookalike.copies import pair_of
from lookalike.interfaces import Image, Pair, Verdict

Compare = Callable[[Image, Image], float]


class Tier(StrEnum):
    """How sure it is that two images are duplicates."""

    EXACT = "exact"  # the same bytes
    NEAR = "near"  # the same picture
    SIMILAR = "similar"  # a close vector


@dataclass(frozen=True)
class Member:
    """An image of a group, and how alike it is to the group's first."""

    image: Image
    tier: Tier
    similarity: float


@dataclass(frozen=True)
class Group:
    """An image and what are duplicates of it.

    Attributes:
        members: the first one is what the others were compared with.
        more: whether there may be more members than could be looked at.
    """

    members: list[Member]
    more: bool = False

    @property
    def tier(self) -> Tier:
        """The least sure tier of its members."""
        order = list(Tier)
        return max((one.tier for one in self.members), key=order.index)


@dataclass(frozen=True)
class Neighbours:
    """An image, and its duplicates that come before and after it."""

    image: Image
    before: list[Member]
    after: list[Member]
    more: bool


def stars(
    found: Neighbours,
    judged: Mapping[Pair, Verdict],
    compare: Compare,
    threshold: float,
) -> Iterator[Group]:
    """The groups that begin with an image.

    Of these duplicates that come after it, those are left out that are in one group
    with it already: an image before both is a duplicate of both.
    """

    def is_open(a: Image, b: Image) -> bool:
        return pair_of(a.key, b.key) not in judged

    first = found.image
    before = [one.image for one in found.before if is_open(one.image, first)]
    open_ones = [one for one in found.after if is_open(one.image, first)]
    left = [
        one
        for one in open_ones
        if not any(
            is_open(each, one.image) and compare(each, one.image) >= threshold
            for each in before
        )
    ]
    left.sort(key=lambda one: (-one.similarity, one.image.id))
    # No two on which there is a verdict are shown together again.
    parts: list[list[Member]] = []
    for one in left:
        for part in parts:
            if all(is_open(other.image, one.image) for other in part):
                part.append(one)
                break
        else:
            parts.append([one])
    for part in parts:
        yield Group([Member(first, Tier.EXACT, 1.0), *part], found.more)
