"""What goes in and out over HTTP about duplicates."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from lookalike.api.schemas import Asked, AskedInAddress, Image, Told
from lookalike.copies import NEAR
from lookalike.duplicate_groups import SIMILAR
from lookalike.duplicate_stars import Tier
from lookalike.duplicates import MAX_JUDGED
from lookalike.interfaces import Verdict


class GroupPage(AskedInAddress):
    """Which groups of duplicates."""

    tier: Literal["exact", "near", "similar"] = Field(
        "near",
        description="`exact`: the same bytes; `near`: also the same picture, encoded "
        "again, resized, cropped a little or brighter; `similar`: also a close vector.",
    )
    threshold: float | None = Field(
        None,
        description=f"Least similarity, 0.5 to 1; by default {NEAR} (near) or "
        f"{SIMILAR} (similar).",
    )
    limit: int = Field(50, description="Most groups to answer: 1 to 200.")
    cursor: str | None = Field(None, description="`next_cursor` of the page before.")


class Duplicate(Told):
    """An image of a group of duplicates."""

    image: Image
    tier: Tier = Field(description="How sure it is that it is a duplicate.")
    similarity: float = Field(description="To the first image of the group; at most 1.")


class DuplicateGroup(Told):
    """An image, and those that are duplicates of it."""

    tier: Tier = Field(description="The least sure one of its members.")
    members: list[Duplicate] = Field(description="The first is what others are like.")
    more: bool = Field(description="There may be more members than were looked at.")


class DuplicateGroups(Told):
    """Groups of duplicates, in order of the id of their first image."""

    groups: list[DuplicateGroup]
    next_cursor: str | None = Field(
        description="Go on with it until it is null: a page can be short, even empty."
    )


class Judgement(Asked):
    """A verdict on some images: it holds for each pair of them."""

    ids: list[str] = Field(description=f"2 to {MAX_JUDGED} different ids.")
    verdict: Literal["duplicate", "not_duplicate"]


class Judged(Told):
    """What someone found out about two images, as long as they keep their pictures."""

    ids: list[str] = Field(description="Two ids.")
    verdict: Verdict
    created_at: datetime


class VerdictList(Told):
    """Verdicts on pairs of images."""

    verdicts: list[Judged]
    next_cursor: str | None = None


class VerdictPage(AskedInAddress):
    """Which page of verdicts."""

    limit: int = Field(100, description="Most verdicts to answer: 1 to 1,000.")
    cursor: str | None = Field(None, description="`next_cursor` of the page before.")


class Withdrawal(Asked):
    """Images of which all verdicts on each other are to be forgotten."""

    ids: list[str] = Field(description=f"2 to {MAX_JUDGED} different ids.")


class Withdrawn(Told):
    """How many verdicts were forgotten."""

    withdrawn: int
