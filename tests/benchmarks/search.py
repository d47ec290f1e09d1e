"""What the API adds to a search, beside the same search asked of Milvus directly.

10,000 pictures go into a fresh platform through its API. Every round then asks, twenty
queries at a time in turns, the API by picture and Milvus by vector for the same number
of matches among the same number of rows. The figure is (API p50 - embedding p50) /
Milvus p50, where embedding (decoding included) is what the platform itself reports for
these very requests. Medians over the rounds, with lowest and highest.

Milvus is asked twice. Once as a program would that does without a platform: it embeds
the picture itself and then searches, and only the search is timed. And once more at
once, with nothing in between. An embedding reads 44 MB of weights, so that what runs
after it finds the processor's caches cold: that doubles the time of the API's own code,
and is no part of what the API adds. The first of the two is the one to compare with.

    PYTHONPATH=tests python -m benchmarks.search [--images DIR] [--rounds 5] [--server]

Without ``--server`` both sides use Milvus Lite: the API's inside ``lookalike up``, the
other in this process. With it, both use one Milvus 2.3.5 server, and the API is
``lookalike api`` with a Celery worker, Redis and PostgreSQL.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
from pymilvus import DataType, MilvusClient

import photographs
from benchmarks import ingest
from lookalike.backbones import find
from lookalike.backends.milvus_kinds import Arrangement, index_params
from lookalike.backends.onnxruntime import OnnxEmbedder
from lookalike.collections import IndexKind, Metric
from lookalike.images import Limits, decode_square
from main_job import Api
from servers.milvus import milvus_server
from servers.postgres import running_postgres
from servers.processes import running_api, running_up, running_worker
from servers.redis import free_port, running_redis

ROWS = 10_000
LIMIT = 10
TARGET = 1.5
QUERIES = 100
TURN = 20  # queries of one side before it is the other's turn


def main() -> int:
    """Print the table; exit status 1 if the API adds more than it may."""
    arguments = parse()
    pictures = ingest.load(arguments.images, 1000)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        started = (server if arguments.server else embedded)(stack, Path(folder))
        url, milvus = started
        with Api(url) as api, raw_milvus(milvus) as raw:
            api.create("measured")
            fill(api, pictures)
            embedder = OnnxEmbedder(find("resnet18"), threads=os.cpu_count() or 1)
            connection = HTTPConnection(url.removeprefix("http://"))
            rounds = [
                measure(connection, raw, embedder, pictures)
                for _ in range(arguments.rounds)
            ]
            connection.close()
    return report(rounds)


def parse() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=Path, default=photographs.folder())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--server", action="store_true")
    return parser.parse_args()


def embedded(stack: ExitStack, folder: Path) -> tuple[str, str]:
    """``lookalike up``, and a Milvus Lite file to compare with."""
    _, url = stack.enter_context(running_up(folder))
    return url, str(folder / "raw.db")


def server(stack: ExitStack, folder: Path) -> tuple[str, str]:
    """api and worker with the server of each part, and that very Milvus server."""
    milvus = stack.enter_context(milvus_server())
    postgres = stack.enter_context(running_postgres())
    settings = {
        "LOOKALIKE_DATA_DIR": str(folder / "data"),
        "LOOKALIKE_MILVUS_URI": milvus,
        "LOOKALIKE_DATABASE_URL": postgres.new_database(),
        "LOOKALIKE_REDIS_URL": stack.enter_context(running_redis(folder)).url,
    }
    _, url = stack.enter_context(running_api(folder, free_port(), settings))
    stack.enter_context(running_worker(folder, settings))
    return url, milvus


def fill(api: Api, pictures: Sequence[bytes]) -> None:
    """10,000 images: each picture ten times, as other ids."""
    for start in range(0, ROWS, ingest.BATCH):
        chosen = [pictures[(start + n) % len(pictures)] for n in range(ingest.BATCH)]
        items = [{"id": str(start + n)} for n in range(ingest.BATCH)]
        job = api.post("measured", [("", data) for data in chosen], items)
        if start % 1000 == 900:
            api.wait(job)
    ingest.until_done(api.http)


@contextmanager
def raw_milvus(uri: str) -> Iterator[Callable[[np.ndarray], Any]]:
    """A search asked of Milvus directly, among as many rows of the same length."""
    client, name = MilvusClient(uri), f"raw_{uuid.uuid4().hex}"
    is_lite = not uri.startswith("http")
    dimension = find("resnet18").dimension
    schema = client.create_schema(auto_id=False)
    schema.add_field("key", DataType.VARCHAR, max_length=32, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
    # As the platform builds it by default.
    arranged = (
        Arrangement(IndexKind.IVF_FLAT, {"nlist": 1}, is_lite=True)
        if is_lite
        else Arrangement(
            IndexKind.HNSW, {"M": 16, "efConstruction": 200}, is_lite=False
        )
    )
    params = index_params(arranged, Metric.COSINE)
    client.create_collection(name, schema=schema, index_params=params)
    vectors = unit_vectors(ROWS, dimension)
    for start in range(0, ROWS, 500):
        client.insert(
            name,
            [
                {"key": f"{n:032x}", "vector": vectors[n]}
                for n in range(start, start + 500)
            ],
        )
    client.flush(name)
    client.load_collection(name)
    effort = {"nprobe": 1024} if is_lite else {"ef": 64}

    def search(vector: np.ndarray) -> Any:
        return client.search(
            name, [vector], limit=LIMIT, search_params={"params": effort}
        )

    try:
        yield search
    finally:
        client.drop_collection(name)
        client.close()


def unit_vectors(count: int, dimension: int) -> np.ndarray:
    """Random directions, as like a network's as needed for time, not for quality."""
    made = np.random.default_rng(7).standard_normal((count, dimension), np.float32)
    unit: np.ndarray = made / np.linalg.norm(made, axis=1, keepdims=True)
    return unit


def measure(
    connection: HTTPConnection,
    raw: Callable[[np.ndarray], Any],
    embedder: OnnxEmbedder,
    pictures: Sequence[bytes],
) -> dict[str, float]:
    """Milliseconds at the median of one round, both sides asked in turns."""
    names = ("api", "embedding", "search", "milvus", "warm")
    spent: dict[str, list[float]] = {name: [] for name in names}
    for first in range(0, QUERIES, TURN):
        turn = [
            pictures[n * len(pictures) // QUERIES] for n in range(first, first + TURN)
        ]
        for picture in turn:
            took, seconds = ingest.timed(lambda: asked(connection, picture))  # noqa: B023
            spent["api"].append(seconds * 1000)
            spent["embedding"].append(took["decode"] + took["embed"])
            spent["search"].append(took["search"])
        for picture in turn:
            square = decode_square(picture, embedder.geometry, Limits())
            vector = embedder.embed(square[np.newaxis])[0]
            for name in ("milvus", "warm"):
                _, seconds = ingest.timed(lambda: raw(vector))  # noqa: B023
                spent[name].append(seconds * 1000)
    medians = {name: statistics.median(values) for name, values in spent.items()}
    added = medians["api"] - medians["embedding"]
    medians["added"] = added / medians["milvus"]
    medians["added to warm"] = added / medians["warm"]
    return medians


def asked(connection: HTTPConnection, picture: bytes) -> dict[str, float]:
    """Ask the API what looks like a picture; where it says the time went.

    Through Python's own HTTP client, the one that takes least time itself.
    """
    connection.request(
        "POST",
        f"/v1/collections/measured/search?limit={LIMIT}",
        picture,
        {"Content-Type": "image/jpeg"},
    )
    answer = json.loads(connection.getresponse().read())
    took: dict[str, float] = answer["took_ms"]
    assert len(answer["matches"]) == LIMIT
    return took


def report(rounds: Sequence[dict[str, float]]) -> int:
    """The table, in Markdown; 1 if the target is missed."""
    print("| p50, ms | median of rounds | lowest | highest |\n|---|---|---|---|")
    for name, title in (
        ("api", "API, by picture"),
        ("embedding", "of which decoding and inference"),
        ("search", "of which index and ledger"),
        ("milvus", "Milvus, by vector, after an embedding"),
        ("warm", "Milvus, by vector, once more at once"),
        ("added", f"(API - embedding) / Milvus (at most {TARGET})"),
        ("added to warm", "the same, of Milvus once more at once"),
    ):
        print(f"| {title} | {ingest.spread([each[name] for each in rounds], 2)} |")
    return int(statistics.median(each["added"] for each in rounds) > TARGET)


if __name__ == "__main__":
    sys.exit(main())
