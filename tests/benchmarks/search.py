"""What the API adds to a search, beside the same search asked of Milvus directly.

10,000 pictures go into a fresh platform through its API. Every round then asks, one
query after the other, the API by picture and Milvus by vector for the same number of
matches among the same number of rows. The figure is (API p50 - embedding p50) / Milvus
p50, where embedding (decoding included) is what the platform itself reports for these
very requests. Medians over the rounds, with lowest and highest.

    PYTHONPATH=tests python -m benchmarks.search [--images DIR] [--rounds 5] [--server]

Without ``--server`` both sides use Milvus Lite: the API's inside ``lookalike up``, the
other in this process. With it, both use one Milvus 2.3.5 server, and the API is
``lookalike api`` with a Celery worker, Redis and PostgreSQL.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from pymilvus import DataType, MilvusClient

import photographs
from benchmarks import ingest
from lookalike.backbones import find
from lookalike.backends.milvus_rows import index_params
from main_job import Api
from servers.milvus import milvus_server
from servers.postgres import running_postgres
from servers.processes import running_api, running_up, running_worker
from servers.redis import free_port, running_redis

ROWS = 10_000
LIMIT = 10
TARGET = 1.5
QUERIES = 100


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
            rounds = [measure(api, raw, pictures) for _ in range(arguments.rounds)]
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
    params = index_params(is_lite=is_lite)
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
    api: Api, raw: Callable[[np.ndarray], Any], pictures: Sequence[bytes]
) -> dict[str, float]:
    """Milliseconds at the median of one round, in turns of ten queries each."""
    spent: dict[str, list[float]] = {"api": [], "embedding": [], "milvus": []}
    queries = unit_vectors(QUERIES, find("resnet18").dimension)
    for turn in range(0, QUERIES, 10):
        for n in range(turn, turn + 10):
            started = time.perf_counter()
            took = asked(api.http, pictures[n * len(pictures) // QUERIES])
            spent["api"].append((time.perf_counter() - started) * 1000)
            spent["embedding"].append(took["decode"] + took["embed"])
        for n in range(turn, turn + 10):
            started = time.perf_counter()
            raw(queries[n])
            spent["milvus"].append((time.perf_counter() - started) * 1000)
    medians = {name: statistics.median(values) for name, values in spent.items()}
    medians["added"] = (medians["api"] - medians["embedding"]) / medians["milvus"]
    return medians


def asked(http: httpx.Client, picture: bytes) -> dict[str, float]:
    """Ask the API what looks like a picture; where it says the time went."""
    answer = http.post(
        f"/v1/collections/measured/search?limit={LIMIT}",
        content=picture,
        headers={"Content-Type": "image/jpeg"},
    )
    took: dict[str, float] = answer.raise_for_status().json()["took_ms"]
    return took


def report(rounds: Sequence[dict[str, float]]) -> int:
    """The table, in Markdown; 1 if the target is missed."""
    print("| p50, ms | median of rounds | lowest | highest |\n|---|---|---|---|")
    for name, title in (
        ("api", "API, by picture"),
        ("embedding", "of which decoding and inference"),
        ("milvus", "Milvus, by vector"),
        ("added", f"(API - embedding) / Milvus (at most {TARGET})"),
    ):
        print(f"| {title} | {ingest.spread([each[name] for each in rounds], 2)} |")
    return int(statistics.median(each["added"] for each in rounds) > TARGET)


if __name__ == "__main__":
    sys.exit(main())
