from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from copied import cropped, encoded_again
from lookalike import duplicate_groups, duplicates
from lookalike.collections import CollectionUid
from lookalike.copies import NEAR
from lookalike.duplicate_groups import Page
from lookalike.duplicate_stars import Group, Tier
from lookalike.duplicates import Collapse
from lookalike.errors import BadQuery, BadRequest, ImageNotFound
from lookalike.interfaces import ImageId, Verdict
from pictures import jpeg
from small import Small


@pytest.fixture
def small(tmp_path: Path) -> Small:
    return Small.build(tmp_path)


def copies(seed: int) -> dict[str, bytes]:
    """A picture, the same bytes again, and two altered copies of it."""
    original, generator = jpeg(seed), np.random.default_rng(seed)
    return {
        f"{seed}-a": original,
        f"{seed}-b": original,
        f"{seed}-c": encoded_again(original, generator),
        f"{seed}-d": cropped(original, generator),
    }


def groups(
    small: Small, tier: Tier, cursor: str | None = None, limit: int = 50
) -> Page:
    return duplicate_groups.groups(
        *(small.ledger, small.index, small.collection, tier),
        cursor=cursor,
        limit=limit,
    )


def walk(small: Small, tier: Tier, limit: int = 50) -> list[Group]:
    page = groups(small, tier, limit=limit)
    found = page.groups
    while page.next_cursor is not None:
        page = groups(small, tier, page.next_cursor, limit)
        found = found + page.groups
    return found


def ids(found: list[Group]) -> list[list[str]]:
    return [sorted(str(one.image.id) for one in group.members) for group in found]


def judge(small: Small, verdict: Verdict, *names: str) -> None:
    given = [ImageId(name) for name in names]
    duplicates.judge(small.ledger, small.collection, given, verdict)


def test_the_exact_tier_shows_what_has_the_same_bytes(small: Small) -> None:
    small.ingest(copies(1) | copies(2) | {"alone": jpeg(3)})

    found = walk(small, Tier.EXACT)

    assert sorted(ids(found)) == [["1-a", "1-b"], ["2-a", "2-b"]]
    assert {one.similarity for group in found for one in group.members} == {1.0}


def test_the_near_tier_shows_altered_copies_too(small: Small) -> None:
    small.ingest(copies(1) | copies(2) | {"alone": jpeg(3), "other": jpeg(4)})

    found = walk(small, Tier.NEAR)

    assert ids(found) == [["1-a", "1-b", "1-c", "1-d"], ["2-a", "2-b", "2-c", "2-d"]]
    tiers = {str(one.image.id): one.tier for one in found[0].members}
    assert tiers == {
        "1-a": Tier.EXACT,
        "1-b": Tier.EXACT,
        "1-c": Tier.NEAR,
        "1-d": Tier.NEAR,
    }
    assert all(NEAR <= one.similarity <= 1 for one in found[0].members)


def test_the_similar_tier_goes_by_the_vectors(small: Small) -> None:
    small.ingest(copies(1) | {"other": jpeg(4)})

    (found,) = duplicate_groups.groups(
        *(small.ledger, small.index, small.collection, Tier.SIMILAR), threshold=0.5
    ).groups

    assert len(found.members) == 5
    assert found.tier is Tier.SIMILAR
    by_id = {str(one.image.id): one for one in found.members}
    assert by_id["1-c"].tier is Tier.NEAR
    assert by_id["other"].tier is Tier.SIMILAR
    assert 0.5 <= by_id["other"].similarity < by_id["1-c"].similarity


@pytest.mark.parametrize("tier", [Tier.EXACT, Tier.NEAR])
def test_pages_show_each_group_once(small: Small, tier: Tier) -> None:
    small.ingest(copies(1) | copies(2) | copies(3))

    one_by_one = [ids([group]) for group in walk(small, tier, limit=1)]

    assert one_by_one == [ids([group]) for group in walk(small, tier)]
    assert len(one_by_one) == 3


def test_images_that_come_between_two_pages_move_nothing(small: Small) -> None:
    small.ingest(copies(2) | copies(3) | copies(4))
    first = groups(small, Tier.NEAR, limit=1)
    small.ingest({"0-new": jpeg(50), "0-newer": jpeg(50), "3-new": jpeg(3)})

    second = groups(small, Tier.NEAR, first.next_cursor, limit=1)

    assert ids(second.groups) == [["3-a", "3-b", "3-c", "3-d", "3-new"]]


def test_an_image_that_was_deleted_is_in_no_group(small: Small) -> None:
    small.ingest(copies(1))
    small.ledger.delete_images(small.collection, [ImageId("1-c")])

    assert ids(walk(small, Tier.NEAR)) == [["1-a", "1-b", "1-d"]]


def test_an_image_with_another_picture_leaves_its_group(small: Small) -> None:
    small.ingest(copies(1))

    small.ingest({"1-c": jpeg(9)})

    assert ids(walk(small, Tier.NEAR)) == [["1-a", "1-b", "1-d"]]


@pytest.mark.parametrize("tier", [Tier.EXACT, Tier.NEAR])
@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_pair_with_a_verdict_is_never_shown_again(
    small: Small, tier: Tier, verdict: Verdict
) -> None:
    small.ingest(copies(1))

    judge(small, verdict, "1-a", "1-b")

    assert not [one for one in ids(walk(small, tier)) if {"1-a", "1-b"} <= set(one)]


def test_two_members_with_a_verdict_are_shown_apart(small: Small) -> None:
    small.ingest(copies(1))

    judge(small, Verdict.NOT_DUPLICATE, "1-c", "1-d")

    found = ids(walk(small, Tier.NEAR))
    assert ["1-a", "1-b", "1-c"] in found
    assert ["1-a", "1-d"] in found
    assert not [one for one in found if {"1-c", "1-d"} <= set(one)]


def test_what_is_open_still_is_shown_once_the_first_image_is_judged(
    small: Small,
) -> None:
    small.ingest(copies(1))

    for name in ("1-b", "1-c", "1-d"):
        judge(small, Verdict.NOT_DUPLICATE, "1-a", name)

    assert ids(walk(small, Tier.NEAR)) == [["1-b", "1-c", "1-d"]]


def test_verdicts_on_all_pairs_leave_nothing_to_show(small: Small) -> None:
    small.ingest(copies(1))

    judge(small, Verdict.NOT_DUPLICATE, "1-a", "1-b", "1-c", "1-d")

    assert walk(small, Tier.NEAR) == []
    assert walk(small, Tier.EXACT) == []


def test_a_verdict_that_was_withdrawn_does_not_count(small: Small) -> None:
    small.ingest(copies(1))
    judge(small, Verdict.NOT_DUPLICATE, "1-a", "1-b")

    given = [ImageId("1-b"), ImageId("1-a")]
    gone = duplicates.withdraw(small.ledger, small.collection, given)

    assert gone == 1
    assert ids(walk(small, Tier.EXACT)) == [["1-a", "1-b"]]


def test_a_verdict_is_about_the_pictures(small: Small) -> None:
    small.ingest(copies(1))
    judge(small, Verdict.NOT_DUPLICATE, "1-a", "1-b")

    small.ingest({"1-b": copies(1)["1-c"]})

    assert ids(walk(small, Tier.EXACT)) == [["1-b", "1-c"]]
    assert ids(walk(small, Tier.NEAR)) == [["1-a", "1-b", "1-c", "1-d"]]


@pytest.mark.parametrize("names", [[], ["1-a"], ["1-a", "1-a"], ["x"] * 51])
def test_a_verdict_is_on_different_images(small: Small, names: list[str]) -> None:
    small.ingest(copies(1))

    with pytest.raises(BadRequest) as caught:
        judge(small, Verdict.DUPLICATE, *names)

    assert caught.value.code == "verdict_invalid"


def test_a_verdict_is_on_images_that_are_there(small: Small) -> None:
    small.ingest(copies(1))

    with pytest.raises(ImageNotFound):
        judge(small, Verdict.DUPLICATE, "1-a", "unknown")


def test_a_cursor_belongs_to_its_tier(small: Small) -> None:
    with pytest.raises(BadRequest) as caught:
        groups(small, Tier.NEAR, "exact 1-a")

    assert caught.value.code == "cursor_invalid"


@pytest.mark.parametrize("threshold", [0.49, 1.1])
def test_a_threshold_has_bounds(small: Small, threshold: float) -> None:
    with pytest.raises(BadQuery) as caught:
        duplicate_groups.groups(
            *(small.ledger, small.index, small.collection, Tier.NEAR),
            threshold=threshold,
        )

    assert caught.value.code == "threshold_invalid"


def test_duplicates_of_another_collection_are_not_shown(small: Small) -> None:
    other = replace(small.collection, name="other", uid=CollectionUid("2" * 32))
    small.ledger.create_collection(other)
    small.index.create(other)
    small.ingest({"a": jpeg(1)})
    small.collection = other
    small.ingest({"b": jpeg(1)})

    assert walk(small, Tier.EXACT) == []
    assert walk(small, Tier.NEAR) == []


def test_more_copies_than_usual_are_one_group(small: Small) -> None:
    data = jpeg(1)
    small.ingest({f"{number:02}": data for number in range(40)})

    (near,) = walk(small, Tier.NEAR)
    (exact,) = walk(small, Tier.EXACT)

    assert len(near.members) == len(exact.members) == 40
    assert not near.more
    assert not exact.more


# --- collapsing ----------------------------------------------------------------------


def test_matches_are_collapsed_into_the_best_one(small: Small) -> None:
    small.ingest(copies(1) | copies(2))
    order = ["2-c", "1-a", "2-a", "1-d", "1-b"]
    images = [small.ledger.image(small.collection, ImageId(one)) for one in order]

    kept = Collapse(small.ledger, small.collection)(images)

    assert kept == [[0, 2], [1, 3, 4]]


def test_what_was_judged_different_is_not_collapsed(small: Small) -> None:
    small.ingest(copies(1))
    judge(small, Verdict.NOT_DUPLICATE, "1-a", "1-b")
    images = small.ledger.images(small.collection, None, 10)

    kept = Collapse(small.ledger, small.collection)(images)

    assert kept == [[0, 2, 3], [1]]


def test_what_was_judged_a_duplicate_is_collapsed(small: Small) -> None:
    small.ingest({"a": jpeg(1), "b": jpeg(2)})
    judge(small, Verdict.DUPLICATE, "a", "b")
    images = small.ledger.images(small.collection, None, 10)

    assert Collapse(small.ledger, small.collection)(images) == [[0, 1]]


def test_a_longer_list_is_collapsed_as_its_beginning_was(small: Small) -> None:
    small.ingest(copies(1) | copies(2))
    images = small.ledger.images(small.collection, None, 10)
    collapse = Collapse(small.ledger, small.collection)

    assert collapse(images[:3]) == [[0, 1, 2]]
    assert collapse(images) == [[0, 1, 2, 3], [4, 5, 6, 7]]
