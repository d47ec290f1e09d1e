"""What every ledger must remember of the meaning of scores."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from ledgers import a_collection
from lookalike.backends.ledger import SqlLedger
from lookalike.collections import Collection, Metric
from lookalike.errors import CollectionNotFound
from lookalike.relevance import Calibration, Centre, Curve


def a_calibration(collection: Collection, images: int = 100) -> Calibration:
    return Calibration(
        fingerprint=collection.fingerprint,
        made_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        images=images,
        sampled=100,
        below=Curve((0.1, 0.9), (0.0, 1.0)),
        centre=Centre(Metric.COSINE, np.zeros(4, np.float32), 1.0),
    )


def test_at_first_nothing_is_known_of_scores(
    ledger: SqlLedger, shop: Collection
) -> None:
    assert ledger.calibration(shop) is None


def test_the_newest_calibration_is_kept(ledger: SqlLedger, shop: Collection) -> None:
    for images in (100, 200):
        ledger.keep_calibration(shop, a_calibration(shop, images))

    assert ledger.calibration(shop) == a_calibration(shop, 200)


def test_a_calibration_is_of_one_backbone(ledger: SqlLedger, shop: Collection) -> None:
    ledger.keep_calibration(shop, a_calibration(shop))

    assert ledger.calibration(replace(shop, fingerprint="another")) is None


def test_a_calibration_is_of_one_collection(
    ledger: SqlLedger, shop: Collection
) -> None:
    other = a_collection("other")
    ledger.create_collection(other)
    ledger.keep_calibration(shop, a_calibration(shop))

    assert ledger.calibration(other) is None


def test_a_calibration_goes_with_its_collection(
    ledger: SqlLedger, shop: Collection
) -> None:
    ledger.keep_calibration(shop, a_calibration(shop))

    ledger.delete_collection(shop)

    assert ledger.calibration(shop) is None


def test_no_calibration_is_kept_of_a_collection_that_is_gone(
    ledger: SqlLedger, shop: Collection
) -> None:
    ledger.delete_collection(shop)

    with pytest.raises(CollectionNotFound):
        ledger.keep_calibration(shop, a_calibration(shop))
