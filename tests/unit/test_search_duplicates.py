"""Searches that show near duplicates as one match."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from copied import cropped, encoded_again
from lookalike import duplicates
from lookalike.interfaces import ImageId, Verdict
from lookalike.queries import Picture, Query
from lookalike.results import Found, Shortage, Want
from pictures import jpeg
from small import Small
from vector_shelf import ids


@pytest.fixture
def small(tmp_path: Path) -> Small:
    """Four pictures, each with two altered copies."""
    small = Small.build(tmp_path)
    for seed in range(1, 5):
        original, generator = jpeg(seed), np.random.default_rng(seed)
        small.ingest(
            {
                f"{seed}-a": original,
                f"{seed}-b": encoded_again(original, generator),
                f"{seed}-c": cropped(original, generator),
            },
            {"category": f"picture {seed}"},
        )
    return small


def find(small: Small, want: Want, cursor: str | None = None) -> Found:
    if cursor is not None:
        return small.searcher.next_page(small.collection, cursor, want, None)
    query = Query.of(Picture(jpeg(2)))
    return small.searcher.search(small.collection, query, want)


def test_near_duplicates_come_with_the_best_of_them(small: Small) -> None:
    found = find(small, Want(collapse_duplicates=True))

    shown = {str(one.id): sorted(one.duplicates) for one in found.matches}
    assert len(shown) == 4
    assert {name[0] for name in shown} == set("1234")
    assert shown["2-a"] == ["2-b", "2-c"]
    assert all(len(others) == 2 for others in shown.values())
    assert found.because is Shortage.COLLECTION


def test_pages_show_each_of_them_once(small: Small) -> None:
    want = Want(limit=1, collapse_duplicates=True)
    found = find(small, want)
    told = [*ids(found), *found.matches[0].duplicates]

    while found.next_cursor is not None:
        found = find(small, want, found.next_cursor)
        told += [name for one in found.matches for name in (one.id, *one.duplicates)]

    assert sorted(told) == [f"{seed}-{copy}" for seed in range(1, 5) for copy in "abc"]


def test_a_duplicate_that_comes_later_is_left_out(small: Small) -> None:
    want = Want(limit=1, collapse_duplicates=True)
    found = find(small, want)
    small.ingest({"2-d": encoded_again(jpeg(2), np.random.default_rng(9))})

    second = find(small, want, found.next_cursor)

    assert found.matches[0].id[0] == "2"
    assert second.matches[0].id[0] != "2"
    assert second.complete


def test_what_was_judged_different_is_shown_by_itself(small: Small) -> None:
    pair = [ImageId("2-a"), ImageId("2-b")]
    duplicates.judge(small.ledger, small.collection, pair, Verdict.NOT_DUPLICATE)

    found = find(small, Want(collapse_duplicates=True))

    assert {"2-a", "2-b"} <= set(ids(found))


def test_groups_of_near_duplicates_come_with_the_best_of_them(small: Small) -> None:
    small.ledger.update_metadata(
        small.collection, ImageId("2-b"), {"category": "another"}
    )

    found = find(small, Want(group_by="category", collapse_duplicates=True))

    categories = [match.image.metadata["category"] for match in found.matches]
    assert sorted(map(str, categories)) == [f"picture {n}" for n in range(1, 5)]
    assert list(found.matches[0].duplicates) == ["2-b"]


def test_duplicates_are_collapsed_before_others_are_spread(small: Small) -> None:
    found = find(small, Want(limit=4, collapse_duplicates=True, diversity=0.2))

    assert {name[0] for name in ids(found)} == set("1234")
