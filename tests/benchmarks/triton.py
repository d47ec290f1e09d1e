"""How fast images go in when Triton embeds, beside ONNX Runtime in the same process.

Every round runs one and then the other, in turn first: a fresh ``lookalike up`` takes
the same pictures over HTTP, as in ``benchmarks.ingest``. Triton runs on the same cores,
with the Python backend. Beside it, embedding alone: the same squares through both, from
as many threads as workers. What counts is the ratio within a round. The processor time
of all processes tells the same where other programs take the cores.

    PYTHONPATH=tests python -m benchmarks.triton [--images DIR] [--rounds 5]
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import psutil

import photographs
from benchmarks.ingest import load, many, send, spread, timed, until_done
from lookalike.backbones import find
from lookalike.backends.onnxruntime import OnnxEmbedder
from lookalike.backends.triton import TritonEmbedder
from lookalike.images import Limits, decode_square
from lookalike.interfaces import Embedder, Pixels
from servers.processes import running_up
from servers.triton import TritonServer, running_triton

CHUNK = 64
TARGET = 0.7
CELLS = (
    ("embed_here", "embedding alone, ONNX Runtime here, img/s", 0),
    ("embed_triton", "embedding alone, Triton, img/s", 0),
    ("embed_ratio", "ratio", 2),
    ("ingest_here", "ingestion, ONNX Runtime here, img/s", 0),
    ("ingest_triton", "ingestion, Triton, img/s", 0),
    ("ingest_ratio", f"ratio (at least {TARGET})", 2),
    ("cpu_here", "processor time of ingestion, ONNX Runtime here, ms/image", 2),
    ("cpu_triton", "processor time of ingestion, Triton, ms/image", 2),
    ("cpu_ratio", "ratio, the former over the latter", 2),
)


def main() -> int:
    """Print the table; exit status 1 if Triton's ingestion misses its share."""
    arguments = parse()
    pictures = load(arguments.images, arguments.count)
    rounds: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with running_triton(folder) as server:
            for number in range(arguments.rounds):
                rounds.append(one_round(pictures, server, folder / str(number), number))
                print(f"round {number + 1}: {rounds[-1]}", flush=True)
    print("\n| | median | lowest | highest |\n|---|---|---|---|")
    for name, title, digits in CELLS:
        print(f"| {title} | {spread([each[name] for each in rounds], digits)} |")
    median = statistics.median(each["ingest_ratio"] for each in rounds)
    return 0 if median >= TARGET else 1


def parse() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=Path, default=photographs.folder())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=1000)
    return parser.parse_args()


def one_round(
    pictures: Sequence[bytes], server: TritonServer, folder: Path, number: int
) -> dict[str, float]:
    """Images a second by each of the two ways, and their ratios."""
    backbone = find("resnet18")
    squares = np.stack(
        [decode_square(data, backbone.geometry, Limits()) for data in pictures]
    )
    urls = {"here": "", "triton": server.url}
    embedders: dict[str, Embedder] = {
        "here": OnnxEmbedder(backbone, threads=1),
        "triton": TritonEmbedder(backbone, server.url),
    }
    measured: dict[str, float] = {}
    ways = list(urls) if number % 2 == 0 else list(urls)[::-1]
    for way in ways:
        measured[f"embed_{way}"] = embedding(embedders[way], squares)
    for way in ways:
        os.sync()
        measured[f"ingest_{way}"], measured[f"cpu_{way}"] = ingestion(
            pictures, urls[way], folder / way, server
        )
    for kind in ("embed", "ingest"):
        ratio = measured[f"{kind}_triton"] / measured[f"{kind}_here"]
        measured[f"{kind}_ratio"] = ratio
    measured["cpu_ratio"] = measured["cpu_here"] / measured["cpu_triton"]
    return {name: round(value, 3) for name, value in measured.items()}


def embedding(embedder: Embedder, squares: Pixels) -> float:
    """Images a second, in chunks of a worker's, from one thread more than cores."""
    chunks = [squares[at : at + CHUNK] for at in range(0, len(squares), CHUNK)]
    embedder.embed(chunks[0])

    def all_of_them() -> None:
        with ThreadPoolExecutor(len(os.sched_getaffinity(0)) + 1) as pool:
            for _ in itertools.repeat(None, 2):
                list(pool.map(embedder.embed, chunks))

    return 2 * len(squares) / timed(all_of_them)[1]


def ingestion(
    pictures: Sequence[bytes], triton_url: str, folder: Path, server: TritonServer
) -> tuple[float, float]:
    """Images a second from the first request to the last job's end, and ms of CPU."""
    settings = {"LOOKALIKE_TRITON_URL": triton_url} if triton_url else {}
    with (
        running_up(folder, settings) as (up, url),
        httpx.Client(base_url=url, timeout=300) as http,
    ):
        http.post("/v1/collections", json={"name": "c"}).raise_for_status()
        http.post(  # so that everything is loaded
            "/v1/collections/c/images", files={"image": ("warm.jpg", pictures[0])}
        ).raise_for_status()
        until_done(http)
        http.delete("/v1/collections/c").raise_for_status()
        http.post("/v1/collections", json={"name": "c"}).raise_for_status()
        processes = [psutil.Process(up.pid), *server.processes()]
        used = sum(map(processor_seconds, processes))
        _, seconds = timed(lambda: send(http, many(pictures)))
        used = sum(map(processor_seconds, processes)) - used
    count = len(many(pictures))
    return count / seconds, used * 1000 / count


def processor_seconds(process: psutil.Process) -> float:
    """What a process has used so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    sys.exit(main())
