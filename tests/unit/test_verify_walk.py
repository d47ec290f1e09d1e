from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from fakes import MemoryIndex
from ledgers import a_collection, an_image, done, failed, index_all, opened
from lookalike.backends.blobs import DirectoryBlobs
from lookalike.backends.ledger import SqlLedger
from lookalike.collections import Collection
from lookalike.errors import CollectionNotFound, IndexUnavailable
from lookalike.interfaces import (
    ImageId,
    ImageKey,
    IndexRow,
    Operation,
    Work,
    WorkId,
    image_key,
)
from lookalike.verify import Report, verify

VECTOR = np.ones(512, dtype=np.float32)


@dataclass
class Site:
    """A ledger, an index and originals that agree, until a test breaks them."""

    ledger: SqlLedger
    index: MemoryIndex
    originals: Path
    collection: Collection
    rung: list[WorkId] = field(default_factory=list)

    @property
    def blobs(self) -> DirectoryBlobs:
        return DirectoryBlobs(self.originals)

    def accept(self, *ids: str) -> list[WorkId]:
        """Have images recorded, with an original each."""
        blobs, staged = self.blobs, []
        for one in ids:
            staged.append(blobs.stage(self.collection.team))
            staged[-1].file.write(one.encode())
        blobs.keep(staged)
        entries = [an_image(one, position=n) for n, one in enumerate(ids)]
        return self.ledger.accept(self.collection, entries).work

    def work(self, ids: Sequence[WorkId]) -> None:
        """Do what is pending, as a worker would."""
        while claimed := self.ledger.claim(ids):
            for work in claimed:
                if work.operation is Operation.DELETE:
                    self.index.delete(self.collection, [work.key])
                else:
                    self.put(work.key, work.gen)
            self.ledger.finish(done(claimed))

    def ingest(self, *ids: str) -> None:
        self.work(self.accept(*ids))

    def delete(self, *ids: str) -> list[WorkId]:
        return self.ledger.delete_images(
            self.collection, [ImageId(one) for one in ids]
        ).work

    def put(self, key: ImageKey, gen: int) -> None:
        self.index.upsert(self.collection, [IndexRow(key, gen, VECTOR, {})])

    def lose(self, *ids: str) -> None:
        self.index.delete(self.collection, [self.key(one) for one in ids])

    def key(self, image_id: str) -> ImageKey:
        return image_key(self.collection.team, self.collection.uid, ImageId(image_id))

    def rows(self) -> dict[ImageKey, int]:
        return dict(self.index.rows(self.collection, None, 10_000))

    def look(self) -> Report:
        return verify(self.ledger, self.index, self.blobs, self.collection)

    def repair(self) -> Report:
        return verify(
            *(self.ledger, self.index, self.blobs, self.collection), repair=self.ring
        )

    def ring(self, work: Sequence[WorkId]) -> None:
        self.rung += work
        self.work(work)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    collection, index = a_collection(), MemoryIndex()
    index.create(collection)
    with opened(f"sqlite:///{tmp_path / 'ledger.sqlite3'}") as ledger:
        ledger.create_collection(collection)
        yield Site(ledger, index, tmp_path / "originals", collection)


def test_what_agrees_is_reported_so(site: Site) -> None:
    site.ingest("a", "b", "c")
    site.work(site.delete("c"))

    report = site.look()

    assert report == Report(checked=3)
    assert report.remaining == 0


def test_an_empty_collection_agrees(site: Site) -> None:
    assert site.look() == Report()


def test_a_row_that_is_gone_is_written_again(site: Site) -> None:
    site.ingest("a", "b", "c")
    before = site.rows()
    site.lose("a", "b")

    report = site.repair()

    assert report == Report(checked=3, missing=2, repaired=2)
    assert site.rows() == before
    assert site.look() == Report(checked=3)


@pytest.mark.parametrize("off_by", [-1, 5])
def test_a_row_of_another_operation_is_written_again(site: Site, off_by: int) -> None:
    site.ingest("a")
    before = site.rows()
    site.put(site.key("a"), before[site.key("a")] + off_by)

    report = site.repair()

    assert report == Report(checked=1, stale=1, repaired=1)
    assert site.rows() == before
    assert site.look() == Report(checked=1)


def test_a_row_of_a_deleted_image_is_deleted_again(site: Site) -> None:
    site.ingest("a")
    (gen,) = site.rows().values()
    site.work(site.delete("a"))
    site.put(site.key("a"), gen)

    report = site.repair()

    assert report == Report(checked=1, ghosts=1, repaired=1)
    assert site.rows() == {}
    assert site.look() == Report(checked=1)


def test_a_row_that_the_ledger_never_heard_of_is_deleted_without_work(
    site: Site,
) -> None:
    site.ingest("a")
    before = site.rows()
    site.put(ImageKey("f" * 32), 7)

    report = site.repair()

    assert report == Report(checked=2, ghosts=1, repaired=1)
    assert site.rows() == before
    assert site.rung == []


def test_without_repair_nothing_changes(site: Site) -> None:
    site.ingest("a", "b")
    site.lose("a")
    site.put(ImageKey("f" * 32), 7)
    before = site.rows()

    report = site.look()

    assert report == Report(checked=3, missing=1, ghosts=1)
    assert report.remaining == 2
    assert site.rows() == before
    assert not site.ledger.has_pending()


def test_what_is_pending_is_no_difference(site: Site) -> None:
    site.ingest("changed", "deleted")
    site.accept("new")
    changed = an_image("changed", content="other")
    site.ledger.accept(site.collection, [changed])
    site.delete("deleted")

    report = site.look()

    assert report == Report(
        checked=3, originals_missing=1, without_original=(ImageId("changed"),)
    )


def test_what_failed_is_no_difference(site: Site) -> None:
    works = site.ledger.claim(site.accept("a"))
    site.ledger.finish(failed(works))

    assert site.look() == Report(checked=1)


def test_what_was_accepted_and_then_forgotten_is_found(site: Site) -> None:
    """Neither pending nor failed nor indexed: the ledger itself cannot do that."""
    site.ingest("a")
    (row,) = site.rows().items()
    works = site.ledger.claim(site.accept("b"))
    site.ledger.finish(done(works))  # but nothing was written

    report = site.repair()

    assert report == Report(checked=2, missing=1, repaired=1)
    assert site.rows().keys() == {row[0], site.key("b")}


class BusyIndex(MemoryIndex):
    """Between two looks at the ledger, work goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.before_rows: list[object] = []

    def rows(
        self,
        collection: Collection,
        after: ImageKey | None,
        limit: int,
        upto: ImageKey | None = None,
    ) -> list[tuple[ImageKey, int]]:
        if self.before_rows:
            action = self.before_rows.pop()
            assert callable(action)
            action()
        return super().rows(collection, after, limit, upto)


def busy(site: Site) -> tuple[Site, BusyIndex]:
    index = BusyIndex()
    index.create(site.collection)
    return Site(site.ledger, index, site.originals, site.collection), index


def test_an_image_that_comes_during_the_walk_is_no_ghost(site: Site) -> None:
    site, index = busy(site)
    site.ingest("a")
    index.before_rows.append(lambda: site.ingest("b"))

    report = site.repair()

    assert report == Report(checked=2)
    assert len(site.rows()) == 2


def test_an_image_that_goes_during_the_walk_is_not_missing(site: Site) -> None:
    site, index = busy(site)
    site.ingest("a", "b")
    index.before_rows.append(lambda: site.work(site.delete("b")))

    report = site.repair()

    assert report == Report(checked=2)
    assert site.rung == []


def test_an_image_that_changes_during_the_walk_is_not_stale(site: Site) -> None:
    site, index = busy(site)
    site.ingest("a")

    def change() -> None:
        entry = an_image("a", metadata={"price": 9.0})
        site.work(site.ledger.accept(site.collection, [entry]).work)

    index.before_rows.append(change)

    assert site.repair() == Report(checked=1)


def test_a_lost_original_is_named_and_keeps_no_worker_busy(site: Site) -> None:
    site.ingest("a", "b")
    for path in site.originals.glob("*/??/*"):
        if path.read_bytes() == b"b":
            path.unlink()
    site.lose("b")

    report = site.repair()

    assert report == Report(
        checked=2,
        missing=1,
        originals_missing=1,
        without_original=(ImageId("b"),),
    )
    assert report.remaining == 2
    assert site.rung == []


def test_an_index_that_lost_the_whole_collection_is_filled_again(site: Site) -> None:
    site.ingest("a", "b")
    before = site.rows()
    site.index.drop(site.collection)

    with pytest.raises(IndexUnavailable):
        site.look()
    report = site.repair()

    assert report == Report(checked=2, missing=2, repaired=2)
    assert site.rows() == before


def test_a_collection_that_was_deleted_is_not_made_again(site: Site) -> None:
    site.ledger.delete_collection(site.collection)
    site.index.drop(site.collection)

    with pytest.raises(CollectionNotFound):
        site.repair()
    with pytest.raises(IndexUnavailable):
        site.index.count(site.collection)


def test_a_walk_ends_early_when_told_to(site: Site) -> None:
    site.ingest("a")

    report = verify(
        *(site.ledger, site.index, site.blobs, site.collection), stop=lambda: True
    )

    assert report == Report()


class WatchedIndex(MemoryIndex):
    """Notes how many rows it was asked for at once."""

    most = 0

    def rows(
        self,
        collection: Collection,
        after: ImageKey | None,
        limit: int,
        upto: ImageKey | None = None,
    ) -> list[tuple[ImageKey, int]]:
        self.most = max(self.most, limit)
        return super().rows(collection, after, limit, upto)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_broken_is_found_page_by_page(site: Site, seed: int) -> None:
    source, index = random.Random(seed), WatchedIndex()
    index.create(site.collection)
    site = Site(site.ledger, index, site.originals, site.collection)
    names = [f"image-{number}" for number in range(120)]
    site.ingest(*names)
    deleted = source.sample(names, 30)
    site.work(site.delete(*deleted))
    alive = sorted(set(names) - set(deleted))
    right = site.rows()
    lost = source.sample(alive, source.choice([0, 5, len(alive)]))
    site.lose(*lost)
    stale = [name for name in alive if name not in lost and source.random() < 0.2]
    for name in stale:
        site.put(site.key(name), 1_000_000)
    back = source.sample(deleted, 7)
    strange = [
        ImageKey(f"{source.getrandbits(128):032x}")
        for _ in range(source.choice([0, 3, 200]))
    ]
    for key in (*map(site.key, back), *strange):
        site.put(key, 1)

    index.most = 0
    reports = [
        verify(
            *(site.ledger, index, site.blobs, site.collection, site.ring),
            after=after,
            upto=upto,
            keys_at_once=7,
        )
        for after, upto in ((None, ImageKey("6")), (ImageKey("6"), None))
    ]

    assert index.most == 7
    assert sum(reports, Report()) == Report(
        checked=120 + len(strange),
        missing=len(lost),
        stale=len(stale),
        ghosts=len(back) + len(strange),
        repaired=len(lost) + len(stale) + len(back) + len(strange),
    )
    assert site.rows() == right
    assert site.look() == Report(checked=120)


def test_work_of_a_walk_is_counted_in_no_job(site: Site) -> None:
    works: list[Work] = index_all(
        site.ledger, site.ledger.accept(site.collection, [an_image("a")])
    )
    assert len(works) == 1
    (before,) = site.ledger.jobs(site.collection.team, None, 10)

    site.repair()

    assert site.ledger.jobs(site.collection.team, None, 10) == [before]
