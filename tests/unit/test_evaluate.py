from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from fakes import MemoryIndex
from labelled import KINDS, add, fill
from lookalike.collections import Collection, FieldType, Metadata
from lookalike.errors import BadQuery
from lookalike.evaluate import Report, evaluate
from lookalike.filters import Filter, matches
from lookalike.interfaces import Digest, Hit, Image, ImageId, ImageKey, ImageState
from lookalike.rankings import Ranking
from lookalike.selectivity import conditions, described
from small import Small


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Small]:
    made = Small.build(tmp_path)
    yield made
    made.ledger.close()


class ForgetfulIndex(MemoryIndex):
    """Does not find every second of what a filter keeps."""

    def search(
        self,
        collection: Collection,
        vector: npt.NDArray[np.float32],
        limit: int,
        condition: Filter | None = None,
    ) -> list[Hit]:
        hits = super().search(collection, vector, 2 * limit, condition)
        return (hits if condition is None else hits[::2])[:limit]


class StingyIndex(MemoryIndex):
    """Stops at three."""

    def search(
        self,
        collection: Collection,
        vector: npt.NDArray[np.float32],
        limit: int,
        condition: Filter | None = None,
    ) -> list[Hit]:
        return super().search(collection, vector, 3, condition)


class WilfulIndex(MemoryIndex):
    """Of images that score the same it prefers the last ones."""

    def search(
        self,
        collection: Collection,
        vector: npt.NDArray[np.float32],
        limit: int,
        condition: Filter | None = None,
    ) -> list[Hit]:
        hits = super().search(collection, vector, 1_000, condition)[::-1]
        return sorted(hits, key=lambda hit: -hit.score)[:limit]


SOME_IMAGE = Image(
    *(ImageKey("0"), ImageId("0"), Digest("0"), 1, 1, 1, "PNG", {}),
    *(ImageState.INDEXED, 1, datetime(2026, 1, 1, tzinfo=UTC)),
    datetime(2026, 1, 1, tzinfo=UTC),
)


def report_of(small: Small, **options: object) -> Report:
    return evaluate(
        *(small.ledger, small.index, small.collection),
        **{"queries": 12, **options},  # type: ignore[arg-type]
    )


# --- recall --------------------------------------------------------------------------


def test_an_exact_index_has_full_recall_in_every_band(small: Small) -> None:
    fill(small, 200)

    report = report_of(small)

    assert [band.wanted for band in report.bands] == [1, 0.5, 0.1, 0.05, 0.01, 0.005]
    assert [band.recall for band in report.bands] == [1] * 6
    assert (report.recall, report.short, report.images) == (1, 0, 200)


def test_filters_keep_about_the_share_they_are_to_keep(small: Small) -> None:
    fill(small, 200)

    report = report_of(small)

    for band in report.bands:
        assert band.wanted / 2 <= band.share <= 2 * band.wanted
        assert all(band.filters)


def test_what_an_index_does_not_find_lowers_its_recall(small: Small) -> None:
    small = replace(small, index=ForgetfulIndex())
    small.index.create(small.collection)
    fill(small, 200)

    report = report_of(small, k=4)

    whole, *filtered = report.bands
    assert whole.recall == 1
    # Of the first four it finds the first and the third.
    assert filtered[0].recall == pytest.approx(0.5, abs=0.1)
    assert report.recall < 0.7


def test_too_few_results_are_told(small: Small) -> None:
    small = replace(small, index=StingyIndex())
    small.index.create(small.collection)
    fill(small, 100)

    report = report_of(small)

    assert report.bands[0].short == 12
    assert report.bands[0].recall < 0.4


def test_images_that_score_the_same_are_equally_good(small: Small) -> None:
    small = replace(small, index=WilfulIndex())
    small.index.create(small.collection)
    one = np.ones(192, np.float32)
    add(small, {str(number): {} for number in range(30)}, lambda _: one)

    report = report_of(small)

    assert report.recall == 1


def test_deleted_images_that_an_index_still_has_do_not_count(small: Small) -> None:
    fill(small, 60)
    gone = [ImageId(str(number)) for number in range(5)]
    small.ledger.delete_images(small.collection, gone)

    report = report_of(small)

    assert (report.images, report.recall, report.short) == (55, 1, 0)


def test_few_images_are_not_evaluated(small: Small) -> None:
    fill(small, 19)

    with pytest.raises(BadQuery, match="needs 20") as raised:
        report_of(small)

    assert raised.value.code == "too_few_images"


def test_progress_is_told(small: Small) -> None:
    fill(small, 40)
    told: list[tuple[str, int, int]] = []

    report_of(small, progress=lambda *one: told.append(one))

    assert {what for what, _, _ in told} == {"searching", "reading all vectors"}
    assert told[-1][1:] == (40, 40)


# --- by label ------------------------------------------------------------------------


def test_matches_are_judged_by_their_label(small: Small) -> None:
    fill(small, 90)

    report = report_of(small, label="category")

    told = report.labels
    assert told is not None
    assert (told.label, told.queries, told.ranked) == ("category", 12, 12)
    # Images of a kind lie together, far from the others.
    assert told.precision_at_k > 0.9
    assert told.mean_average_precision > 0.8


def test_average_precision_is_that_of_the_definition(small: Small) -> None:
    images = [
        replace(SOME_IMAGE, key=ImageKey(str(place)), metadata={"category": kind})
        for place, kind in enumerate("abaab")
    ]
    angles = np.arange(5) / 10
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    ranked = Ranking(small.collection, "category", images[:1], vectors[:1], 1)

    for part in (slice(0, 2), slice(2, 5)):
        ranked.take(images[part], vectors[part])

    # After the query come b, a, a, b: right at ranks 2 and 3.
    assert ranked.mean_average_precision() == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_without_a_label_nothing_is_judged(small: Small) -> None:
    fill(small, 30)

    assert report_of(small).labels is None


def test_a_label_must_be_a_field_of_labels(small: Small) -> None:
    with pytest.raises(BadQuery, match="price"):
        report_of(small, label="price")


def test_stated_chances_are_held_against_what_is_seen(small: Small) -> None:
    fill(small, 240)

    report = report_of(small, label="category")

    assert report.labels is not None
    assert sum(tenth.matches for tenth in report.labels.tenths) == pytest.approx(
        1_200, abs=400
    )
    for tenth in report.labels.tenths:
        assert tenth.stated == pytest.approx(tenth.seen, abs=0.1)


# --- filters of a wanted share -------------------------------------------------------

FIELDS = {
    "kind": FieldType.STRING,
    "tags": FieldType.STRINGS,
    "price": FieldType.FLOAT,
    "sold": FieldType.BOOL,
    "made": FieldType.DATETIME,
}


def some_metadata(count: int) -> list[Metadata]:
    rng = random.Random(1)
    return [
        {
            "kind": rng.choice(KINDS),
            "tags": rng.sample(["a", "b", "c", "d"], 2),
            "price": round(rng.lognormvariate(3, 1), 2),
            "sold": rng.random() < 0.2,
            "made": f"2026-01-{rng.randint(1, 28):02}T00:00:00.000000Z",
        }
        for _ in range(count)
    ]


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01, 0.002])
def test_conditions_keep_what_they_are_to_keep(share: float) -> None:
    metadata = some_metadata(3_000)

    made = conditions(metadata, FIELDS, share, 4, random.Random(2))

    assert len(made) == 4
    assert len({described(one) for one in made}) == 4
    for one in made:
        kept = sum(matches(one, each) for each in metadata) / len(metadata)
        assert share / 2 < kept < share * 2


def test_images_that_are_all_alike_cannot_be_told_apart() -> None:
    alike: list[Metadata] = [{"kind": "shoes"}] * 100

    assert conditions(alike, FIELDS, 0.1, 4, random.Random(3)) == []
    assert conditions([{}] * 100, FIELDS, 0.1, 4, random.Random(3)) == []
    assert conditions([{}] * 100, {}, 0.1, 4, random.Random(3)) == []
