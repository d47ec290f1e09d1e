"""Verification on the real engines: broken by hand, found, repaired, whole again."""

from __future__ import annotations

import functools
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from fakes import FakeEmbedder, RecordingQueue
from ledgers import DATABASES, new_database
from lookalike import bootstrap, verify
from lookalike.backends.blobs import DirectoryBlobs
from lookalike.backends.ledger import SqlLedger
from lookalike.backends.milvus import MilvusIndex
from lookalike.catalogue import create_collection
from lookalike.cli import main
from lookalike.collections import DEFAULT_TEAM, Collection, CollectionUid
from lookalike.config import Settings
from lookalike.embedded import only_process
from lookalike.images import Limits
from lookalike.ingest import Intake, index_images
from lookalike.interfaces import (
    BlobStore,
    Hit,
    ImageId,
    ImageKey,
    IndexRow,
    JobQueue,
    Ledger,
    VectorIndex,
    image_key,
)
from lookalike.verify import Report
from servers.milvus import ServerMissing, milvus_server
from small import collection_for, picture

NAMES = [f"image-{number}" for number in range(12)]


@dataclass
class Platform:
    """A real ledger, real originals and a real index, agreeing at first."""

    ledger: Ledger
    blobs: BlobStore
    index: VectorIndex
    embedder: FakeEmbedder
    queue: RecordingQueue
    collection: Collection

    def ingest(self) -> None:
        take_in(self.ledger, self.blobs, self.queue, self.collection)
        self.work()

    def work(self) -> None:
        """Do everything that was rung for, in the order of the rings."""
        for chunk in self.queue.take():
            parts = (self.ledger, self.blobs, self.embedder, self.index)
            index_images(*parts, chunk, limits=Limits())

    def verify(self, *, repair: bool = False) -> Report:
        return verify.verify(
            *(self.ledger, self.index, self.blobs, self.collection),
            repair=self.queue.ring if repair else None,
            keys_at_once=5,
        )

    def key(self, name: str) -> ImageKey:
        return image_key(DEFAULT_TEAM, self.collection.uid, ImageId(name))

    def put(self, key: ImageKey, gen: int) -> None:
        """Write a row that shows nothing."""
        vector = np.ones(self.collection.dimension, dtype=np.float32)
        self.index.upsert(self.collection, [IndexRow(key, gen, vector, {})])

    def found(self, name: str) -> list[Hit]:
        """What looks most like the picture of that name."""
        seed = NAMES.index(name)
        vector = self.index.vectors(self.collection, [self.key(NAMES[seed])])
        return self.index.search(self.collection, vector[self.key(name)].vector, 1)


def take_in(
    ledger: Ledger, blobs: BlobStore, queue: JobQueue, collection: Collection
) -> None:
    """Accept a dozen pictures."""
    intake = Intake(
        *(ledger, blobs, queue, collection, Limits()),
        max_metadata_bytes=16_384,
        chunk_images=32,
    )
    for seed, name in enumerate(NAMES):
        staged = blobs.stage(DEFAULT_TEAM)
        staged.file.write(picture(seed))
        intake.add(staged, name, {})
    intake.finish()


@pytest.fixture(
    params=["lite", pytest.param("server", marks=pytest.mark.milvus_server)]
)
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MilvusIndex]:
    if request.param == "lite":
        made = MilvusIndex(str(tmp_path / "milvus.db"))
        yield made
        made.close()
        return
    try:
        with milvus_server() as uri:
            made = MilvusIndex(uri)
            yield made
            made.close()
    except ServerMissing as reason:
        pytest.skip(f"no Milvus server: {reason}")


@pytest.fixture(params=DATABASES)
def platform(
    request: pytest.FixtureRequest, index: MilvusIndex, tmp_path: Path
) -> Iterator[Platform]:
    embedder, ledger = FakeEmbedder(), SqlLedger(new_database(request.param, tmp_path))
    uid = CollectionUid(secrets.token_hex(16))
    collection = replace(collection_for(embedder), uid=uid)
    ledger.create_collection(collection)
    index.create(collection)
    blobs = DirectoryBlobs(tmp_path / "originals")
    made = Platform(ledger, blobs, index, embedder, RecordingQueue(), collection)
    made.ingest()
    yield made
    index.drop(collection)
    ledger.close()


def test_what_was_broken_by_hand_is_found_repaired_and_whole_again(
    platform: Platform,
) -> None:
    index, collection = platform.index, platform.collection
    platform.queue.ring(
        platform.ledger.delete_images(collection, [ImageId("image-0")]).work
    )
    platform.work()
    whole = platform.verify()
    right = index.rows(collection, None, 100)
    gens = dict(right)

    index.delete(collection, [platform.key("image-1"), platform.key("image-2")])
    platform.put(platform.key("image-3"), gens[platform.key("image-3")] - 1)
    platform.put(platform.key("image-0"), 1)
    platform.put(ImageKey("f" * 32), 1)

    seen = platform.verify()
    repaired = platform.verify(repair=True)
    platform.work()
    again = platform.verify()

    broken = Report(checked=13, missing=2, stale=1, ghosts=2)
    assert whole == Report(checked=12)
    assert seen == broken
    assert repaired == replace(broken, repaired=5)
    assert again == Report(checked=12)
    assert index.rows(collection, None, 100) == right
    for name in NAMES[1:4]:
        (hit,) = platform.found(name)
        assert hit.key == platform.key(name)


def test_an_index_that_was_lost_is_filled_from_the_originals(
    platform: Platform,
) -> None:
    right = platform.index.rows(platform.collection, None, 100)
    platform.index.drop(platform.collection)

    report = platform.verify(repair=True)
    platform.work()

    assert report == Report(checked=12, missing=12, repaired=12)
    assert platform.index.rows(platform.collection, None, 100) == right
    assert platform.verify() == Report(checked=12)


# --- the command ---------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder as `lookalike up` leaves it, its index broken by hand."""
    settings = Settings(data_dir=tmp_path / "data", workers=1)
    parts = bootstrap.connect(settings)
    made = create_collection(
        parts.ledger, parts.index, parts.backbone, DEFAULT_TEAM, "a"
    )
    queue = RecordingQueue()
    take_in(parts.ledger, parts.blobs, queue, made)
    for chunk in queue.take():
        parts.index_images(chunk)
    keys = [key for key, _ in parts.index.rows(made, None, 3)]
    parts.index.delete(made, keys)
    parts.close()
    return settings.data_dir


def lookalike(*words: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(main, [str(word) for word in words])
    return done.exit_code, done.output


def test_the_command_finds_and_repairs_what_is_broken(data: Path) -> None:
    look = functools.partial(lookalike, "verify", "--data-dir", data, "--json")

    found = look()
    repaired = look("--repair")
    after = look()

    counts = {"collection": "a", "checked": 12, "missing": 3, "stale": 0, "ghosts": 0}
    rest = {"originals_missing": 0, "without_original": []}
    assert found[0] == 1
    assert json.loads(found[1]) == {
        "collections": [counts | {"repaired": 0} | rest],
        "remaining": 3,
    }
    assert repaired[0] == 0
    assert json.loads(repaired[1]) == {
        "collections": [counts | {"repaired": 3} | rest],
        "remaining": 0,
    }
    assert after[0] == 0
    assert json.loads(after[1])["collections"][0]["missing"] == 0


def test_the_command_is_refused_while_another_process_has_the_data(
    data: Path,
) -> None:
    with only_process(Settings(data_dir=data)):
        status, said = lookalike("verify", "--data-dir", data)

    assert status == 2
    assert "is in use by process" in said
