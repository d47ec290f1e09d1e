"""A whole platform in one process: real ledger and originals, everything else fake."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from fakes import FakeEmbedder, MemoryIndex, RecordingQueue
from lookalike.backends.blobs import DirectoryBlobs
from lookalike.backends.ledger import SqlLedger
from lookalike.collections import (
    Collection,
    CollectionUid,
    FieldType,
    Metric,
    Team,
)
from lookalike.images import Limits
from lookalike.ingest import Intake, index_images
from lookalike.interfaces import Digest, ImageId, Job, StagedBlob
from lookalike.search import Searcher

TEAM = Team("default")
NOW_FIELDS = {
    "category": FieldType.STRING,
    "price": FieldType.FLOAT,
    "tags": FieldType.STRINGS,
}


def picture(seed: int, size: tuple[int, int] = (96, 80), format: str = "PNG") -> bytes:
    """A picture of random blocks, different for each seed."""
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    image = Pillow.fromarray(blocks).resize(size, Pillow.Resampling.BILINEAR)
    file = io.BytesIO()
    image.save(file, format)
    return file.getvalue()


@dataclass
class Small:
    """The parts, with the few steps that most tests begin with."""

    ledger: SqlLedger
    blobs: DirectoryBlobs
    embedder: FakeEmbedder
    index: MemoryIndex
    queue: RecordingQueue
    limits: Limits
    collection: Collection

    @classmethod
    def build(cls, folder: Path) -> Small:
        embedder = FakeEmbedder()
        ledger = SqlLedger(f"sqlite:///{folder / 'ledger.sqlite3'}")
        index = MemoryIndex()
        collection = collection_for(embedder)
        ledger.create_collection(collection)
        index.create(collection)
        return cls(
            ledger=ledger,
            blobs=DirectoryBlobs(folder / "originals"),
            embedder=embedder,
            index=index,
            queue=RecordingQueue(),
            limits=Limits(),
            collection=collection,
        )

    @property
    def searcher(self) -> Searcher:
        return Searcher(self.ledger, self.blobs, self.embedder, self.index, self.limits)

    def intake(self, key: str | None = None) -> Intake:
        return Intake(
            self.ledger,
            self.blobs,
            self.queue,
            self.collection,
            self.limits,
            max_metadata_bytes=16_384,
            chunk_images=32,
            idempotency_key=key,
        )

    def stage(self, data: bytes) -> StagedBlob:
        staged = self.blobs.stage(self.collection.team)
        staged.file.write(data)
        return staged

    def ingest(
        self, pictures: dict[str, bytes], metadata: object = None, *, work: bool = True
    ) -> Job:
        """Accept pictures by id, and do the work unless told not to."""
        intake = self.intake()
        for image_id, data in pictures.items():
            intake.add(self.stage(data), image_id, metadata)
        job = intake.finish()
        if work:
            self.work()
        return self.ledger.job(TEAM, job.id)

    def work(self) -> None:
        """Do everything that was rung for."""
        for chunk in self.queue.take():
            index_images(
                self.ledger,
                self.blobs,
                self.embedder,
                self.index,
                chunk,
                limits=self.limits,
            )

    def image_digest(self, image_id: str) -> Digest:
        return self.ledger.image(self.collection, ImageId(image_id)).digest


def collection_for(embedder: FakeEmbedder, name: str = "things") -> Collection:
    from datetime import UTC, datetime

    return Collection(
        uid=CollectionUid("0123456789abcdef0123456789abcdef"),
        team=TEAM,
        name=name,
        fields=NOW_FIELDS,
        backbone="fake",
        fingerprint=embedder.fingerprint,
        dimension=embedder.dimension,
        metric=Metric.COSINE,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
