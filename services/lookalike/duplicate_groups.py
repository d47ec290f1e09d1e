"""Groups of duplicates among the images of a collection, page by page.

Three tiers, each with what the ones before it find: *exact* (the same bytes), *near* (a
copy that was encoded again, resized, cropped a little, or made brighter) and *similar*
(a vector that lies close).

Of how groups are made see ``lookalike.duplicate_stars``.
"""

from __future__ import annotations

from dataclasses import dataclass

from lookalike.collections import Collection
from lookalike.copies import COPIES, NEAR
from lookalike.duplicate_stars import Group, Member, Neighbours, Tier, stars
from lookalike.duplicate_walk import Walk
from lookalike.errors import BadQuery, BadRequest
from lookalike.interfaces import Digest, ImageId, Ledger, VectorIndex

SIMILAR = 0.9  # cosine of vectors from which on two are similar, by default


@dataclass(frozen=True)
class Page:
    """Some groups, and where to go on; None at the end."""

    groups: list[Group]
    next_cursor: str | None


def groups(
    ledger: Ledger,
    index: VectorIndex,
    collection: Collection,
    tier: Tier,
    *,
    cursor: str | None = None,
    limit: int = 50,
    threshold: float | None = None,
) -> Page:
    """The next groups of duplicates.

    A page can be short before the end, even empty: it looks at 500 images (of the exact
    tier at 20,000). It can hold a few groups more than the limit, if these all begin
    with one image. What comes, changes or goes meanwhile neither shifts nor repeats the
    rest.

    Args:
        ledger: knows the images, their signatures and verdicts.
        index: where duplicates are looked for.
        collection: whose images.
        tier: this one and those before it.
        cursor: ``next_cursor`` of the page before.
        limit: most groups.
        threshold: least similarity; by default 0.96 (near) or 0.9 (similar).

    Raises:
        BadRequest: code ``cursor_invalid``: it is not of such a page.
        BadQuery: code ``threshold_invalid``.
        IndexUnavailable, LedgerUnavailable: as usual.
    """
    place = _place(cursor, tier)
    if tier is Tier.EXACT:
        return _exact_page(ledger, collection, place, limit)
    walk = Walk(ledger, index, collection, tier, _threshold(tier, threshold))
    after = None if place is None else ImageId(place)
    found, last = walk.page(after, limit)
    return Page(found, _cursor(tier, last))


def _exact_page(
    ledger: Ledger, collection: Collection, place: str | None, limit: int
) -> Page:
    after = None if place is None else Digest(place)
    digests, last = ledger.repeated(collection, after, limit)
    copies = ledger.copies(collection, digests, COPIES + 1)
    judged = ledger.judged(
        collection, [one.key for images in copies.values() for one in images]
    )
    found: list[Group] = []
    for digest in digests:
        images = sorted(copies.get(digest, ()), key=lambda one: one.id)
        more = len(images) > COPIES
        images = images[:COPIES]
        for at, first in enumerate(images):
            neighbours = Neighbours(
                first,
                [Member(one, Tier.EXACT, 1.0) for one in images[:at]],
                [Member(one, Tier.EXACT, 1.0) for one in images[at + 1 :]],
                more,
            )
            found += stars(neighbours, judged, lambda a, b: 1.0, 1.0)
    return Page(found, _cursor(Tier.EXACT, last))


def _threshold(tier: Tier, given: float | None) -> float:
    if given is None:
        return NEAR if tier is Tier.NEAR else SIMILAR
    if 0.5 <= given <= 1:
        return given
    raise BadQuery(f"A threshold is 0.5 to 1; got {given:g}.", code="threshold_invalid")


def _cursor(tier: Tier, place: str | None) -> str | None:
    return None if place is None else f"{tier.value} {place}"


def _place(cursor: str | None, tier: Tier) -> str | None:
    if cursor is None:
        return None
    of, _, place = cursor.partition(" ")
    if of == tier.value:
        return place
    raise BadRequest(
        f"The cursor does not belong to the tier {tier.value!r}.", code="cursor_invalid"
    )
