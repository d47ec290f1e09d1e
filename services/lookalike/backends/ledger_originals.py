"""What a duplicate names as the image that was there before: is it there still?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Row

from lookalike.backends.ledger_values import RowsByKey
from lookalike.interfaces import Original, Outcome, Result


def named(results: Iterable[Result]) -> set[str]:
    """The keys of the images that results name."""
    return {one.duplicate_of.key for one in results if one.duplicate_of is not None}


def is_gone(result: Result, heads: RowsByKey) -> bool:
    """Whether an image was refused for one that cannot be found any more."""
    return (
        result.outcome is Outcome.FAILED
        and result.duplicate_of is not None
        and not _holds(result.duplicate_of, heads)
    )


def link(result: Result, heads: RowsByKey) -> str | None:
    """The key of the image that another is linked to, if it can be found."""
    original = result.duplicate_of
    return original.key if original is not None and _holds(original, heads) else None


def _holds(original: Original, heads: RowsByKey) -> bool:
    head = heads.get(original.key)
    return head is not None and head.digest == original.digest and _is_found(head)


def _is_found(head: Row[Any]) -> bool:
    """Whether a search finds the image by the picture it has now."""
    is_current = head.indexed_gen == head.gen or head.signature is not None
    is_alive = head.want == "present" and head.failed is None
    return bool(is_alive and is_current and head.indexed_gen >= head.born_gen)
