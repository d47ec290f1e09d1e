"""A collection of images with chosen vectors: real ledger, any index, no pictures."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fakes import FakeEmbedder, MemoryIndex
from ledgers import an_image, done
from lookalike.backends.blobs import DirectoryBlobs
from lookalike.backends.ledger import SqlLedger
from lookalike.collections import (
    DEFAULT_TEAM,
    Collection,
    CollectionUid,
    Fields,
    FieldType,
    Metadata,
    Metric,
)
from lookalike.images import Limits
from lookalike.interfaces import ImageId, IndexRow, VectorIndex
from lookalike.queries import Example, Numbers, Query
from lookalike.results import Found, Want
from lookalike.search import Searcher

FIELDS: Fields = {
    "product": FieldType.STRING,
    "size": FieldType.INT,
    "price": FieldType.FLOAT,
    "tags": FieldType.STRINGS,
    "is_new": FieldType.BOOL,
    "where": FieldType.GEO,
}
Vector = npt.NDArray[np.float32]


class VectorShelf:
    """Puts vectors with metadata under ids, and searches among them."""

    def __init__(
        self,
        folder: Path,
        index: VectorIndex | None = None,
        *,
        dimension: int = 8,
        metric: Metric = Metric.COSINE,
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.ledger = SqlLedger(f"sqlite:///{folder / 'ledger.sqlite3'}")
        self.index = index or MemoryIndex()
        self.collection = Collection(
            uid=CollectionUid(secrets.token_hex(16)),
            team=DEFAULT_TEAM,
            name="shelf",
            fields=FIELDS,
            backbone="fake",
            fingerprint=FakeEmbedder.fingerprint,
            dimension=dimension,
            metric=metric,
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
        )
        self.ledger.create_collection(self.collection)
        self.index.create(self.collection)
        self.searcher = Searcher(
            self.ledger,
            DirectoryBlobs(folder / "originals"),
            FakeEmbedder(),
            self.index,
            Limits(),
        )

    def put(
        self,
        vectors: Mapping[str, Sequence[float] | Vector],
        metadata: Mapping[str, Metadata] | None = None,
        *,
        content: str = "",
    ) -> None:
        """Have images of these vectors, each with the metadata under its id."""
        known = metadata or {}
        images = [
            replace(
                an_image(name, position=place, metadata=known.get(name, {})),
                digest=an_image(name + content).digest,
            )
            for place, name in enumerate(vectors)
        ]
        accepted = self.ledger.accept(self.collection, images)
        works = self.ledger.claim(accepted.work)
        rows = [
            IndexRow(
                work.key,
                work.gen,
                np.asarray(vectors[work.image_id], np.float32),
                work.metadata,
            )
            for work in works
        ]
        self.index.upsert(self.collection, rows)
        self.ledger.finish(done(works))

    def delete(self, *names: str) -> None:
        """Delete images, in the index too."""
        gone = [ImageId(name) for name in names]
        accepted = self.ledger.delete_images(self.collection, gone)
        works = self.ledger.claim(accepted.work)
        self.index.delete(self.collection, [work.key for work in works])
        self.ledger.finish(done(works))

    def find(self, vector: Sequence[float] | Vector, want: Want) -> Found:
        """What is nearest to a vector."""
        return self.searcher.search(self.collection, near(vector), want)

    def go_on(self, found: Found, want: Want) -> Found:
        """The page after another one."""
        assert found.next_cursor is not None
        return self.searcher.next_page(
            self.collection, found.next_cursor, want, query=None
        )

    def pages(self, vector: Sequence[float] | Vector, want: Want) -> list[list[str]]:
        """The ids of every page, from the first to the last."""
        found = self.find(vector, want)
        pages = [ids(found)]
        while found.next_cursor is not None:
            found = self.go_on(found, want)
            pages.append(ids(found))
        return pages


def near(vector: Sequence[float] | Vector) -> Query:
    """The query of one vector."""
    return Query((Example(Numbers([float(number) for number in vector])),))


def ids(found: Found) -> list[str]:
    """The ids of the matches, in order."""
    return [match.id for match in found.matches]


def at(score: float, dimension: int = 8, axis: int = 1) -> Vector:
    """A unit vector whose cosine with the first axis is that score."""
    made = np.zeros(dimension, np.float32)
    made[0], made[axis] = score, np.sqrt(1 - score * score)
    return made


FIRST = at(1.0)
