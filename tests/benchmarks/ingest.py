"""How fast images go in over HTTP, beside the sum of the parts that cannot be left out.

Every round measures each part alone, on one thread, and then the whole: a fresh
``lookalike up`` that takes the same pictures through its API, four requests of 100 at a
time. The limit is what the cores could do if there were only decoding, inference and
insertion: cores / (decode + inference + insert). The other stages are in the table so
that it shows where the rest goes. Medians over the rounds, with lowest and highest.

    PYTHONPATH=tests python -m benchmarks.ingest [--images DIR] [--rounds 5]
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import statistics
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import httpx
import numpy as np
import psutil

import photographs
from lookalike.api.multipart import Sink, read_form
from lookalike.backbones import find
from lookalike.backends.blobs import DirectoryBlobs
from lookalike.backends.ledger import SqlLedger
from lookalike.backends.milvus import MilvusIndex
from lookalike.backends.onnxruntime import OnnxEmbedder
from lookalike.collections import (
    DEFAULT_TEAM,
    Collection,
    CollectionUid,
    Metric,
)
from lookalike.images import Limits, decode_square, read_header, thumbnail
from lookalike.interfaces import (
    ImageId,
    IndexRow,
    NewImage,
    Outcome,
    Result,
    image_key,
)
from servers.processes import Process, running_up

T = TypeVar("T")
Files = list[tuple[str, tuple[str, bytes]]]

BATCH = 100  # images in one request
REQUESTS = 4  # in flight at once
CHUNK = 64  # images a worker takes at once
TIMES = 4  # each picture goes in so often
TARGET = 0.6
MEMORY_LIMIT_MIB = 1536
STAGES = (
    ("decode", "in the limit"),
    ("inference", "in the limit"),
    ("insert", "in the limit"),
    ("upload", "read the form, stage and hash the bytes"),
    ("header", "check format, size and structure"),
    ("fsync", "store 100 originals durably"),
    ("ledger", "accept, claim and finish"),
    ("thumbnail", "made on first view, not while ingesting"),
)


def main() -> int:
    """Print the table; exit status 1 if the whole misses its share of the limit."""
    arguments = parse()
    pictures = load(arguments.images, arguments.count)
    cores = len(os.sched_getaffinity(0))
    size = statistics.mean(map(len, pictures)) / 1000
    print(f"{len(pictures)} pictures of {size:.0f} kB on average, {cores} cores")
    rounds: list[dict[str, float]] = []
    # Nothing is deleted before the end: for some seconds after many files were deleted,
    # making new ones is slow on ext4, and that is not what is measured here.
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(arguments.rounds):
            folder = Path(scratch) / str(number)
            rounds.append(one_round(pictures, folder, cores))
            line = "round {}: {rate:.0f} img/s of {limit:.0f}, share {share:.2f}"
            print(line.format(number + 1, **rounds[-1]), flush=True)
    report(rounds)
    share = statistics.median(each["share"] for each in rounds)
    memory = max(each["memory"] for each in rounds)
    return 0 if share >= TARGET and memory < MEMORY_LIMIT_MIB else 1


def one_round(pictures: Sequence[bytes], folder: Path, cores: int) -> dict[str, float]:
    """Milliseconds an image for each part, and the whole with its share."""
    (folder / "parts").mkdir(parents=True)
    measured = {
        name: seconds * 1000
        for name, seconds in parts(pictures, folder / "parts").items()
    }
    in_limit = sum(measured[name] for name in ("decode", "inference", "insert"))
    measured["limit"] = cores * 1000 / in_limit
    os.sync()  # what the parts wrote is not written out while the whole is measured
    measured["rate"], measured["memory"] = whole(many(pictures), folder / "whole")
    measured["share"] = measured["rate"] / measured["limit"]
    return measured


def parse() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=Path, default=photographs.folder())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=1000)
    return parser.parse_args()


def load(folder: Path, count: int) -> list[bytes]:
    """So many different pictures: those of the folder."""
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in {".jpg", ".png"})
    if not paths:
        sys.exit(f"no pictures in {folder}: give --images DIR")
    return [path.read_bytes() for path in itertools.islice(paths, count)]


def many(pictures: Sequence[bytes]) -> list[bytes]:
    """Each picture several times, as files of different bytes.

    So the start, when there is nothing to index yet, and the end, when there is nothing
    to upload any more, weigh little. Decoders ignore what follows the end of a picture.
    """
    return [
        picture + number.to_bytes(4) for number in range(TIMES) for picture in pictures
    ]


def report(rounds: Sequence[dict[str, float]]) -> None:
    """The table, in Markdown."""
    print(
        "\n| stage | ms/image, one thread | lowest | highest | |\n|---|---|---|---|---|"
    )
    for name, note in STAGES:
        print(f"| {name} | {spread([each[name] for each in rounds], 3)} | {note} |")
    print("\n| whole | median | lowest | highest |\n|---|---|---|---|")
    for name, title, digits in (
        ("limit", "limit, img/s", 0),
        ("rate", "over HTTP, img/s", 0),
        ("share", f"share of the limit (at least {TARGET})", 2),
        ("memory", f"peak memory, MiB (below {MEMORY_LIMIT_MIB})", 0),
    ):
        print(f"| {title} | {spread([each[name] for each in rounds], digits)} |")


def spread(values: Sequence[float], digits: int) -> str:
    """Median, lowest and highest, as cells."""
    chosen = (statistics.median(values), min(values), max(values))
    return " | ".join(f"{value:.{digits}f}" for value in chosen)


# --- the parts, alone ----------------------------------------------------------------


def parts(pictures: Sequence[bytes], folder: Path) -> dict[str, float]:
    """Seconds an image for each part alone, on one thread."""
    count, limits = len(pictures), Limits()
    backbone = find("resnet18")
    embedder = OnnxEmbedder(backbone, threads=1)
    embedder.embed(
        np.zeros((2, backbone.geometry.side, backbone.geometry.side, 3), "u1")
    )

    squares, decode = timed(
        lambda: [decode_square(data, backbone.geometry, limits) for data in pictures]
    )
    vectors, inference = timed(
        lambda: np.concatenate(
            [
                embedder.embed(np.stack(squares[start : start + CHUNK]))
                for start in range(0, count, CHUNK)
            ]
        )
    )
    _, header = timed(lambda: [read_header(io.BytesIO(d), limits) for d in pictures])
    _, small = timed(lambda: [thumbnail(data, 320, limits) for data in pictures[:200]])
    insert = insertion(folder, vectors)
    upload, fsync = storage(folder, pictures)
    ledger = bookkeeping(folder, pictures)
    return {
        "decode": decode / count,
        "inference": inference / count,
        "insert": insert / count,
        "upload": upload / count,
        "header": header / count,
        "fsync": fsync / count,
        "ledger": ledger / count,
        "thumbnail": small / min(200, count),
    }


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What the work gives, and the seconds it took."""
    started = time.perf_counter()
    given = work()
    return given, time.perf_counter() - started


def a_collection() -> Collection:
    """An empty collection for the bundled backbone."""
    backbone = find("resnet18")
    return Collection(
        uid=CollectionUid(uuid.uuid4().hex),
        team=DEFAULT_TEAM,
        name="measured",
        fields={},
        backbone=backbone.name,
        fingerprint=backbone.fingerprint,
        dimension=backbone.dimension,
        metric=Metric.COSINE,
        created_at=datetime.now(UTC),
    )


def insertion(folder: Path, vectors: np.ndarray) -> float:
    """Seconds to insert all vectors into Milvus Lite, chunk by chunk."""
    index, collection = MilvusIndex(str(folder / "milvus.db")), a_collection()
    index.create(collection)
    rows = [
        IndexRow(
            image_key(DEFAULT_TEAM, collection.uid, ImageId(str(n))), 1, vector, {}
        )
        for n, vector in enumerate(vectors)
    ]

    def insert() -> None:
        for start in range(0, len(rows), CHUNK):
            index.upsert(collection, rows[start : start + CHUNK])
        index.settle(collection)

    _, seconds = timed(insert)
    index.close()
    return seconds


def storage(folder: Path, pictures: Sequence[bytes]) -> tuple[float, float]:
    """Seconds to read and stage the forms, and to store their files durably."""
    blobs = DirectoryBlobs(folder / "originals")
    read = kept = 0.0
    for start in range(0, len(pictures), BATCH):
        request = httpx.Request("POST", "http://x", files=files(pictures, start))
        body = io.BytesIO(request.read())
        boundary = request.headers["content-type"].split("boundary=")[1]
        staged = []

        def take() -> io.BufferedIOBase:
            staged.append(blobs.stage(DEFAULT_TEAM))  # noqa: B023  # used at once
            return staged[-1].file  # type: ignore[return-value]  # noqa: B023

        sink = Sink(take, BATCH, 2**24)  # type: ignore[arg-type]

        def upload() -> None:
            read_form(body, boundary, sink)  # noqa: B023
            for one in staged:  # noqa: B023
                one.digest()

        read += timed(upload)[1]
        kept += timed(lambda: blobs.keep(staged))[1]  # noqa: B023
    return read, kept


def bookkeeping(folder: Path, pictures: Sequence[bytes]) -> float:
    """Seconds the ledger takes to accept, hand out and end all work."""
    ledger, collection = SqlLedger(f"sqlite:///{folder / 'ledger'}"), a_collection()
    ledger.create_collection(collection)

    def record() -> None:
        for start in range(0, len(pictures), BATCH):
            new = [
                NewImage(n, ImageId(f"{start}/{n}"), "0" * 64, 1, 1, 1, "JPEG", {})  # type: ignore[arg-type]
                for n in range(min(BATCH, len(pictures) - start))
            ]
            ids = ledger.accept(collection, new).work
            for first in range(0, len(ids), CHUNK):
                claimed = ledger.claim(ids[first : first + CHUNK])
                ledger.finish([Result(work.id, Outcome.DONE) for work in claimed])

    _, seconds = timed(record)
    ledger.close()
    return seconds


# --- the whole -----------------------------------------------------------------------


def files(pictures: Sequence[bytes], start: int) -> Files:
    """The files of one request's form, for httpx."""
    chosen = pictures[start : start + BATCH]
    return [("image", (f"{n}.jpg", data)) for n, data in enumerate(chosen)]


def whole(pictures: Sequence[bytes], folder: Path) -> tuple[float, float]:
    """Images a second from the first request to the last job's end, and peak MiB."""
    with (
        running_up(folder) as (up, url),
        httpx.Client(base_url=url, timeout=300) as http,
    ):
        http.post("/v1/collections", json={"name": "c"}).raise_for_status()
        http.post(  # so that everything is loaded
            "/v1/collections/c/images", files={"image": ("warm.jpg", pictures[0])}
        ).raise_for_status()
        until_done(http)
        http.delete("/v1/collections/c").raise_for_status()
        http.post("/v1/collections", json={"name": "c"}).raise_for_status()
        with Memory(up) as memory:
            _, seconds = timed(lambda: send(http, pictures))
    return len(pictures) / seconds, memory.peak_mib


def send(http: httpx.Client, pictures: Sequence[bytes]) -> None:
    """Everything, a few requests at a time, until it is all searchable."""

    def one(start: int) -> None:
        size = len(pictures[start : start + BATCH])
        items = [{"id": str(start + n)} for n in range(size)]
        http.post(
            "/v1/collections/c/images",
            files=files(pictures, start),
            data={"items": json.dumps(items)},
        ).raise_for_status()

    with ThreadPoolExecutor(REQUESTS) as pool:
        list(pool.map(one, range(0, len(pictures), BATCH)))
    until_done(http)
    counts = http.get("/v1/collections/c").json()["counts"]
    assert counts["indexed"] == len(pictures), counts


def until_done(http: httpx.Client) -> None:
    """Wait until no job has anything pending."""
    while True:
        jobs = http.get("/v1/jobs").json()["jobs"]
        if all(job["finished_at"] for job in jobs):
            return
        time.sleep(0.1)


class Memory:
    """The most memory a process held during the block, in MiB."""

    def __init__(self, process: Process) -> None:
        self._process = psutil.Process(process.pid)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.peak_mib = 0.0

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            self.peak_mib = max(self.peak_mib, self._process.memory_info().rss / 2**20)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


if __name__ == "__main__":
    sys.exit(main())
