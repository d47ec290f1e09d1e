from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fakes import MemoryIndex
from labelled import add, fill
from ledgers import an_hour_passes
from lookalike import calibration
from lookalike.backends.ledger import SqlLedger
from lookalike.calibration import alike, calibrate, drawn, is_due, tenths
from lookalike.collections import Collection
from lookalike.errors import BadQuery
from lookalike.housekeeping import Housekeeping
from lookalike.interfaces import ImageId
from lookalike.relevance import Calibration
from lookalike.verify import never
from small import Small


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Small]:
    made = Small.build(tmp_path)
    yield made
    made.ledger.close()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.sqlite3'}"


def made_of(small: Small, label: str | None = None) -> Calibration:
    made = calibrate(small.ledger, small.index, small.collection, label, seed=1)
    assert made is not None
    return made


def test_of_fewer_than_100_images_nothing_is_found_out(small: Small) -> None:
    fill(small, 99)

    assert calibrate(small.ledger, small.index, small.collection) is None


def test_the_percentile_is_that_of_random_pairs(small: Small) -> None:
    fill(small, 120)
    made = made_of(small)
    sample = drawn(small.ledger, small.index, small.collection, 1_000)
    scores = (sample.vectors @ sample.vectors.T)[np.triu_indices(120, 1)]

    assert (made.images, made.sampled) == (120, 120)
    for place in np.quantile(scores, [0.1, 0.5, 0.9]):
        share = float((scores < place).mean())
        assert made.percentile(float(place)) == pytest.approx(share, abs=0.01)


def test_a_near_match_is_likelier_to_have_the_label_than_a_far_one(
    small: Small,
) -> None:
    fill(small, 120)
    made = made_of(small, "category")
    sample = drawn(small.ledger, small.index, small.collection, 1)
    query = sample.vectors[0]

    near, far = made.same(1.0, query), made.same(0.3, query)

    assert near is not None
    assert far is not None
    assert near > 0.9
    assert far <= near


def test_lists_are_alike_if_they_share_an_entry() -> None:
    assert alike(["a", "b"], ["b", "c"])
    assert not alike(["a"], ["b"])
    assert alike("a", "a")
    assert not alike(1, 2)


def test_labels_can_be_lists(small: Small) -> None:
    fill(small, 120)

    made = made_of(small, "tags")

    assert made.labels is not None
    assert set(made.labels.same.values) == {1.0}  # all share the tag "all"


def test_without_enough_labels_no_chance_is_stated(small: Small) -> None:
    add(small, {str(number): {} for number in range(110)})

    assert made_of(small, "category").labels is None


def test_deleted_images_are_not_sampled(small: Small) -> None:
    fill(small, 105)
    gone = [ImageId(str(number)) for number in range(10)]
    small.ledger.delete_images(small.collection, gone)  # the index still has them

    sample = drawn(small.ledger, small.index, small.collection, 1_000)

    assert {image.id for image in sample.images}.isdisjoint(gone)
    assert len(sample.images) == 95


def test_a_sample_is_random_and_without_repeats(small: Small) -> None:
    fill(small, 60)

    samples = [
        [image.id for image in drawn(*_parts(small), 30, seed).images]
        for seed in range(4)
    ]

    assert all(len(set(one)) == 30 for one in samples)
    assert len({tuple(one) for one in samples}) > 1


@pytest.mark.parametrize(
    ("label", "code", "told"),
    [
        ("categori", "query_unknown_field", "did you mean 'category'"),
        ("price", "query_wrong_type", "string, string"),
    ],
)
def test_a_label_must_be_a_field_of_labels(
    small: Small, label: str, code: str, told: str
) -> None:
    with pytest.raises(BadQuery, match=told) as raised:
        calibrate(small.ledger, small.index, small.collection, label)

    assert raised.value.code == code


def test_tenths_tell_what_was_stated_and_seen() -> None:
    stated = np.repeat([0.1, 0.9], 50)
    truth = np.concatenate([np.arange(50) < 5, np.arange(50) < 45])

    found = tenths(stated, truth)

    assert [count for _, _, count in found] == [10] * 10
    assert np.mean([seen for _, seen, _ in found[:5]]) == pytest.approx(0.1)
    assert np.mean([seen for _, seen, _ in found[5:]]) == pytest.approx(0.9)


# --- in time -------------------------------------------------------------------------


def test_it_is_due_at_100_images_and_when_they_grew_by_half(small: Small) -> None:
    due = []
    for first, count in ((0, 99), (99, 100)):
        fill(small, count, first)
        due.append(is_due(*_parts(small)))
    calibration.keep(*_parts(small), None)
    for first, count in ((100, 100), (100, 149), (149, 150)):
        fill(small, count, first)
        due.append(is_due(*_parts(small)))

    assert due == [False, True, False, False, True]


def test_housekeeping_calibrates_with_the_labels_as_before(
    small: Small, url: str
) -> None:
    fill(small, 100)
    housekeeping = Housekeeping(
        *(small.ledger, small.index, small.blobs, small.queue.ring),
        orphan_hours=24,
        keep_days=30,
    )
    housekeeping(never)
    first = small.ledger.calibration(small.collection)
    calibration.keep(*_parts(small), "category")
    fill(small, 150, first=100)
    an_hour_passes(url)

    housekeeping(never)

    second = small.ledger.calibration(small.collection)
    assert first is not None
    assert first.labels is None
    assert second is not None
    assert second.labels is not None
    assert (first.images, second.images) == (100, 150)
    assert second.labels.field == "category"


def _parts(small: Small) -> tuple[SqlLedger, MemoryIndex, Collection]:
    return small.ledger, small.index, small.collection
