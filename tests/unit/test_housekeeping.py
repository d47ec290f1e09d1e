from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes import MemoryIndex
from ledgers import an_hour_passes, days_pass
from lookalike.collections import Collection
from lookalike.errors import LedgerUnavailable
from lookalike.housekeeping import Housekeeping
from lookalike.interfaces import ImageId, ImageKey
from lookalike.verify import never
from small import Small, picture


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Small]:
    made = Small.build(tmp_path)
    yield made
    made.ledger.close()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.sqlite3'}"


@pytest.fixture
def originals(tmp_path: Path) -> Path:
    return tmp_path / "originals"


def keeper(small: Small) -> Housekeeping:
    return Housekeeping(
        *(small.ledger, small.index, small.blobs, small.queue.ring),
        orphan_hours=24,
        keep_days=30,
    )


def delete(small: Small, *names: str) -> None:
    ids = [ImageId(name) for name in names]
    small.queue.ring(small.ledger.delete_images(small.collection, ids).work)
    small.work()


def lose_a_row(small: Small) -> ImageKey:
    ((key, _), *_) = small.index.rows(small.collection, None, 1)
    small.index.delete(small.collection, [key])
    return key


def held(small: Small) -> set[ImageKey]:
    return {key for key, _ in small.index.rows(small.collection, None, 100)}


def files_get_two_days_older(originals: Path) -> None:
    for path in originals.rglob("*"):
        if path.is_file():
            moment = path.stat().st_mtime - 48 * 3600
            os.utime(path, (moment, moment))


def test_originals_of_deleted_images_go_after_a_while(
    small: Small, url: str, originals: Path
) -> None:
    small.ingest({"a": picture(1), "b": picture(2)})
    delete(small, "b")
    kept = small.image_digest("a")

    for _ in range(2):  # set aside, then removed
        files_get_two_days_older(originals)
        keeper(small)(never)
        an_hour_passes(url)

    found = [path.name for path in originals.glob("*/**/*") if path.is_file()]
    assert found == [kept]


def test_finished_jobs_are_forgotten_after_a_while(small: Small, url: str) -> None:
    small.ingest({"a": picture(1)})
    days_pass(url, 31)

    keeper(small)(never)

    assert small.ledger.jobs(small.collection.team, None, 10) == []
    assert small.image_digest("a")


def test_the_index_is_repaired_once_a_day(
    small: Small, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    small.ingest({"a": picture(1), "b": picture(2)})
    key = lose_a_row(small)

    with caplog.at_level(logging.WARNING):
        keeper(small)(never)
    small.work()
    repaired = held(small)
    small.index.delete(small.collection, [key])
    rung = []
    for _ in range(24):
        an_hour_passes(url)
        keeper(small)(never)
        rung.append(len(small.queue.take()))

    assert "1 missing, 0 stale, 0 ghosts; 1 repaired" in caplog.text
    assert key in repaired
    assert sum(rung) == 1
    assert rung[:22] == [0] * 22


def test_within_the_hour_nothing_is_done(small: Small, url: str) -> None:
    keeper(small)(never)
    small.ingest({"a": picture(1)})
    lose_a_row(small)

    keeper(small)(never)

    assert small.queue.take() == []


class SeemsLarge(MemoryIndex):
    """Says that it holds three million rows."""

    def count(self, collection: Collection) -> int:
        return 3_000_000


def test_a_large_collection_is_verified_in_parts_that_miss_nothing(
    small: Small,
) -> None:
    large = SeemsLarge()
    large.create(small.collection)
    small.index = large
    small.ingest({f"image-{number}": picture(number) for number in range(40)})
    before = held(small)
    large.delete(small.collection, sorted(before))
    large.create(small.collection)

    keeper(small)(never)
    small.work()

    assert held(small) == before


def test_an_index_that_is_down_keeps_nothing_else_back(
    small: Small, url: str, originals: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small.ingest({"a": picture(1)})
    delete(small, "a")
    files_get_two_days_older(originals)
    days_pass(url, 31)
    small.index.is_down = True

    with caplog.at_level(logging.WARNING):
        keeper(small)(never)

    assert small.ledger.jobs(small.collection.team, None, 10) == []
    assert [path.parent.parent.name for path in originals.glob("*/*/*/*")] == [
        "set-aside"
    ]
    assert "verifying collection things has to wait: The index is down" in caplog.text


def test_an_index_that_was_down_is_verified_an_hour_later(
    small: Small, url: str
) -> None:
    small.ingest({"a": picture(1)})
    lose_a_row(small)
    small.index.is_down = True
    keeper(small)(never)
    small.index.is_down = False
    an_hour_passes(url)

    keeper(small)(never)

    assert len(small.queue.take()) == 1


def test_a_disk_that_is_away_keeps_nothing_else_back(
    small: Small, originals: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small.ingest({"a": picture(1)})
    lose_a_row(small)
    (originals / ".sweep.lock").mkdir()

    with caplog.at_level(logging.WARNING):
        keeper(small)(never)

    assert "removing originals without images has to wait" in caplog.text
    assert len(small.queue.take()) == 1


def test_a_lost_original_is_named_in_the_log(
    small: Small, originals: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small.ingest({"a": picture(1)})
    for path in originals.glob("*/??/*"):
        path.unlink()

    keeper(small)(never)

    assert "1 images whose original is not there: 'a'" in caplog.text


def test_nothing_is_begun_once_it_is_to_stop(small: Small) -> None:
    small.ingest({"a": picture(1)})
    lose_a_row(small)

    keeper(small)(lambda: True)

    assert small.queue.take() == []


def test_a_ledger_that_is_away_is_reported(small: Small, tmp_path: Path) -> None:
    house = keeper(small)
    small.ledger.close()
    for path in tmp_path.glob("ledger.sqlite3*"):
        path.unlink()
    (tmp_path / "ledger.sqlite3").mkdir()

    with pytest.raises(LedgerUnavailable):
        house(never)
