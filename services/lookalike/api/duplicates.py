"""Duplicates: groups of them, page by page, and verdicts on them."""

from __future__ import annotations

from collections.abc import Sequence

from flask import Blueprint, Response

from lookalike import duplicate_groups, duplicates, interfaces
from lookalike.api import addresses
from lookalike.api.context import backends, collection
from lookalike.api.duplicate_schemas import (
    Duplicate,
    DuplicateGroup,
    DuplicateGroups,
    GroupPage,
    Judged,
    Judgement,
    VerdictList,
    VerdictPage,
    Withdrawal,
    Withdrawn,
)
from lookalike.api.images import MAX_PAGE, check_limit, images_of
from lookalike.api.operations import operation, tell
from lookalike.collections import Collection
from lookalike.duplicate_stars import Group, Tier
from lookalike.errors import (
    BadQuery,
    BadRequest,
    CollectionNotFound,
    ImageNotFound,
    StorageFull,
)
from lookalike.interfaces import ImageId, ImageKey, Pair, Verdict

bp = Blueprint("duplicates", __name__, url_prefix="/v1/collections/<name>/duplicates")

MAX_GROUPS = 200


@bp.get("")
@operation(
    "List duplicates",
    "duplicates",
    {200: DuplicateGroups},
    query=GroupPage,
    raises=(CollectionNotFound, BadQuery),
)
def list_duplicates(name: str, query: GroupPage) -> Response:
    """Groups of images that are duplicates, page by page.

    A group is an image and those duplicates of it that come after it in order of id, so
    that nothing is in it by a chain of small steps. Images on which there is a verdict
    are never in one group again.
    """
    found_in = collection(name)
    tier = Tier(query.tier)
    parts = backends()
    page = duplicate_groups.groups(
        parts.ledger,
        parts.index,
        found_in,
        tier,
        cursor=addresses.from_cursor(query.cursor),
        limit=check_limit(query.limit, MAX_GROUPS),
        threshold=query.threshold,
    )
    return tell(
        DuplicateGroups(
            groups=_groups(found_in, page.groups),
            next_cursor=addresses.to_cursor(page.next_cursor),
        )
    )


@bp.post("/verdicts")
@operation(
    "Judge duplicates",
    "duplicates",
    {200: VerdictList},
    body=Judgement,
    raises=(CollectionNotFound, ImageNotFound, StorageFull),
)
def judge_duplicates(name: str, body: Judgement) -> Response:
    """Remember a verdict on each pair of some images, in place of an earlier one.

    It is about their pictures: if one of them gets another, it does not hold any more.
    """
    found_in = collection(name)
    judged = duplicates.judge(
        backends().ledger, found_in, _ids(body.ids), Verdict(body.verdict)
    )
    return tell(VerdictList(verdicts=_judged(found_in, judged)))


@bp.get("/verdicts")
@operation(
    "List verdicts",
    "duplicates",
    {200: VerdictList},
    query=VerdictPage,
    raises=(CollectionNotFound, BadQuery),
)
def list_verdicts(name: str, query: VerdictPage) -> Response:
    """Verdicts that hold, page by page."""
    found_in = collection(name)
    limit = check_limit(query.limit, MAX_PAGE)
    after = _after(query.cursor)
    judged = backends().ledger.verdicts(found_in, after, limit)
    last = " ".join(judged[-1].pair) if len(judged) == limit else None
    return tell(
        VerdictList(
            verdicts=_judged(found_in, judged), next_cursor=addresses.to_cursor(last)
        )
    )


@bp.post("/verdicts/delete")
@operation(
    "Delete verdicts",
    "duplicates",
    {200: Withdrawn},
    body=Withdrawal,
    raises=(CollectionNotFound, ImageNotFound, StorageFull),
)
def delete_verdicts(name: str, body: Withdrawal) -> Response:
    """Forget the verdicts on each pair of some images."""
    gone = duplicates.withdraw(backends().ledger, collection(name), _ids(body.ids))
    return tell(Withdrawn(withdrawn=gone))


def _groups(found_in: Collection, groups: Sequence[Group]) -> list[DuplicateGroup]:
    told = images_of(found_in, [one.image for group in groups for one in group.members])
    each = iter(told)
    return [
        DuplicateGroup(
            tier=group.tier,
            members=[
                Duplicate(
                    image=next(each),
                    tier=one.tier,
                    similarity=round(one.similarity, 4),
                )
                for one in group.members
            ],
            more=group.more,
        )
        for group in groups
    ]


def _judged(found_in: Collection, judged: Sequence[interfaces.Judged]) -> list[Judged]:
    keys = [key for one in judged for key in one.pair]
    known = backends().ledger.by_key(found_in, keys)
    return [
        Judged(
            ids=sorted(known[key].id for key in one.pair),
            verdict=one.verdict,
            created_at=one.created_at,
        )
        for one in judged
        if known.keys() >= set(one.pair)
    ]


def _ids(given: Sequence[str]) -> list[ImageId]:
    return [ImageId(one) for one in given]


def _after(cursor: str | None) -> Pair | None:
    place = addresses.from_cursor(cursor)
    if place is None:
        return None
    a, _, b = place.partition(" ")
    if len(a) == len(b) == 32:
        return ImageKey(a), ImageKey(b)
    raise BadRequest(
        "A cursor is the `next_cursor` of the page before, unchanged.",
        code="cursor_invalid",
    )
