"""Results: what a search asks for and answers, and how matches are arranged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from lookalike import metrics
from lookalike.collections import (
    Collection,
    FieldType,
    MetadataValue,
    Metric,
    unknown_field,
)
from lookalike.errors import BadQuery
from lookalike.filters import Filter
from lookalike.interfaces import Image, ImageId, ImageKey, Vectors
from lookalike.relevance import Relevance

DIGITS = 6  # of a score: engines differ beyond that, and so do blocks of one engine
MAX_COMPARED = 100  # limit of a search that compares matches with each other
MAX_EXPLAINED = 20  # limit of a search that explains its scores
MAX_GROUPED = 1_000  # limit times group_size
MAX_GROUP_SIZE = 100
POOL = 5  # candidates of such a search, for each match
MARK = 6  # bytes; two of 10,000 images share one with a chance of 2e-7
GROUPED_BY = (FieldType.STRING, FieldType.INT, FieldType.BOOL, FieldType.DATETIME)


class Shortage(StrEnum):
    """Why there are fewer matches than were asked for."""

    COLLECTION = "collection"  # there are no more images
    FILTER = "filter"  # no more images satisfy the filter
    GROUPS = "groups"  # there are no more groups
    MIN_SCORE = "min_score"  # all others score lower
    DEPTH = "depth"  # too many had to be left out; there may be more


@dataclass(frozen=True)
class Want:
    """What a search asks for, beside the query itself.

    Attributes:
        limit: most matches, or groups of them.
        condition: which images are considered.
        min_score: the least score of a match.
        group_by: one field of which each value appears once; an image without it is a
            group of its own.
        group_size: most matches of each group.
        diversity: 0 to 1: how much a match loses by being like a better one.
        collapse_duplicates: whether near duplicates of a better match come with it.
        include_query: whether images that are part of the query can be matches.
        explain: whether to say what each example adds to each score.
    """

    limit: int = 10
    condition: Filter | None = None
    min_score: float | None = None
    group_by: str | None = None
    group_size: int = 1
    diversity: float = 0.0
    collapse_duplicates: bool = False
    include_query: bool = False
    explain: bool = False

    @property
    def compares(self) -> bool:
        """Whether matches are compared with each other."""
        return self.diversity > 0 or self.collapse_duplicates

    def digest(self, collection: Collection) -> bytes:
        """8 bytes that differ if anything that must not change between pages does."""
        told = (
            *(collection.uid, self.condition, self.min_score, self.group_by),
            *(self.group_size, self.diversity, self.collapse_duplicates),
            self.include_query,
        )
        return hashlib.sha256(repr(told).encode(errors="replace")).digest()[:8]


@dataclass(frozen=True)
class Match:
    """One lookalike: its score (higher is closer) and its image.

    ``duplicates`` are the ids of near duplicates that came with it; ``parts`` what
    each example of the query adds to the score, first the ``positives`` of them.
    """

    id: ImageId
    score: float
    image: Image
    relevance: Relevance | None = None
    duplicates: Sequence[ImageId] = ()
    parts: Sequence[float] | None = None
    positives: int = 1

    @property
    def place(self) -> tuple[float, str]:
        """Sorts the better one first; ties by id."""
        return -self.score, self.id


@dataclass(frozen=True)
class Timing:
    """Where the time went, in milliseconds."""

    decode: float = 0.0
    embed: float = 0.0
    search: float = 0.0  # index and ledger


@dataclass(frozen=True)
class Found:
    """The answer to a search.

    ``complete`` says that as many matches (or groups) were found as were asked for;
    if not, ``because`` says why. ``next_cursor`` leads to the matches after these;
    None: there are none.
    """

    matches: list[Match]
    complete: bool
    timing: Timing
    because: Shortage | None = None
    next_cursor: str | None = None


@dataclass
class Group:
    """Matches of one value of a field, best first; of no field: one match.

    ``collapsed`` are groups whose best matches are near duplicates of its best.
    """

    mark: bytes
    value: MetadataValue | None
    matches: list[Match] = field(default_factory=list)
    collapsed: list[Group] = field(default_factory=list)

    @property
    def best(self) -> Match:
        """Its best match."""
        return self.matches[0]


def check_want(collection: Collection, want: Want) -> None:
    """Return if a collection can be asked this.

    Raises:
        BadQuery: ``query_unknown_field``, ``query_wrong_type``, ``limit_invalid`` or
            ``query_invalid``.
    """
    if not 0 <= want.diversity <= 1:
        raise BadQuery(f"Diversity is 0 to 1; got {want.diversity}.")
    if not 1 <= want.group_size <= MAX_GROUP_SIZE:
        raise BadQuery(
            f"A group_size is 1 to {MAX_GROUP_SIZE}; got {want.group_size}.",
            code="limit_invalid",
            extra={"limit": MAX_GROUP_SIZE},
        )
    for applies, most, which in (
        (want.compares, MAX_COMPARED, "With diversity or collapse_duplicates"),
        (want.explain, MAX_EXPLAINED // want.group_size, "With explain"),
        (want.group_size > 1, MAX_GROUPED // want.group_size, "With this group_size"),
    ):
        if applies and want.limit > most:
            raise _too_many(which, most, want.limit)
    if want.group_by is not None:
        _check_group_by(collection, want.group_by)
    elif want.group_size != 1:
        raise BadQuery("A group_size goes with group_by.")
    if want.collapse_duplicates and want.group_size != 1:
        raise BadQuery("With collapse_duplicates a group_size is 1.")


def _check_group_by(collection: Collection, name: str) -> None:
    if name not in collection.fields:
        detail, extra = unknown_field(name, collection.fields)
        raise BadQuery(detail, code="query_unknown_field", extra=extra)
    kind = collection.fields[name]
    if kind not in GROUPED_BY:
        accepted = ", ".join(GROUPED_BY)
        raise BadQuery(
            f"Field {name!r} is {kind.value}; images are grouped by a field of "
            f"{accepted}.",
            code="query_wrong_type",
            extra={"field": name, "accepted": list(GROUPED_BY)},
        )


def _too_many(which: str, most: int, got: int) -> BadQuery:
    """The error for a limit that is too high in some kind of search."""
    return BadQuery(
        f"{which}, a limit is 1 to {most}; got {got}.",
        code="limit_invalid",
        extra={"limit": most},
    )


# --- arranging -----------------------------------------------------------------------


def mark_of(key: ImageKey) -> bytes:
    """What a cursor remembers of an image."""
    return bytes.fromhex(key[: 2 * MARK])


def group_mark(match: Match, group_by: str | None) -> bytes:
    """What a cursor remembers of the group a match is in."""
    value = value_of(match, group_by)
    if value is None:
        return mark_of(match.image.key)
    text = json.dumps(value, ensure_ascii=True)
    return hashlib.sha256(b"group\0" + text.encode()).digest()[:MARK]


def value_of(match: Match, group_by: str | None) -> MetadataValue | None:
    """The value of the field that a match is grouped by."""
    return None if group_by is None else match.image.metadata.get(group_by)


def grouped(matches: Iterable[Match], group_by: str | None) -> list[Group]:
    """Groups of matches that come best first, in order of the best of each.

    An image without the field is a group of its own; so is each without ``group_by``.
    """
    groups: dict[bytes, Group] = {}
    for match in matches:
        mark = group_mark(match, group_by)
        if mark not in groups:
            groups[mark] = Group(mark, value_of(match, group_by))
        groups[mark].matches.append(match)
    return list(groups.values())


def diverse(
    groups: Sequence[Group],
    vectors: Mapping[ImageKey, Vectors],
    shown: Vectors,
    want: Want,
    metric: Metric,
) -> list[Group]:
    """As many groups as are wanted, each good and unlike those before it.

    Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998): next comes the
    one with the highest ``(1 - d) * score - d * s``, where ``d`` is the diversity and
    ``s`` the score between it and the most similar one before.

    Args:
        groups: the candidates, best first.
        vectors: of the best image of each, prepared; without one a group counts as
            unlike every other.
        shown: float32 ``[S, D]``: of what came on earlier pages.
        want: how many, and how diverse.
        metric: of the collection.
    """
    if not groups:
        return []
    blank = np.zeros(0, np.float32)
    known = [vectors.get(group.best.image.key, blank) for group in groups]
    nearest = np.array([_nearest(one, shown, metric) for one in known])
    gains = np.array([group.best.score for group in groups])
    chosen: list[Group] = []
    left = np.ones(len(groups), bool)
    has = np.array([one.size > 0 for one in known])
    stacked = np.stack([one for one in known if one.size]) if has.any() else None
    while len(chosen) < want.limit and left.any():
        value = (1 - want.diversity) * gains
        value -= want.diversity * np.where(np.isfinite(nearest), nearest, 0.0)
        best = int(np.argmax(np.where(left, value, -np.inf)))
        left[best] = False
        chosen.append(groups[best])
        if stacked is not None and has[best]:
            near = metrics.score(known[best], stacked, metric)
            nearest[has] = np.maximum(nearest[has], near)
    return chosen


def _nearest(vector: Vectors, shown: Vectors, metric: Metric) -> float:
    if not vector.size or not len(shown):
        return -np.inf
    return float(metrics.score(vector, shown, metric).max())
