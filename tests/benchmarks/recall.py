"""How many of the true nearest images a search finds, at every share a filter keeps.

Vectors that lie as the embeddings of the 1,000 photographs do (``real_vectors``) go
into a fresh index. Every query then asks with filters that keep ever smaller shares of
them: chosen at random, and chosen by looks, which is harder, because then the rows that
are kept lie together and mostly far from the query. No filter is used twice. Its answer
is held against the exact one, and against that of pymilvus asked directly for the same,
in turns, as a program would that does without a platform.

    PYTHONPATH=tests python -m benchmarks.recall [--server] [--rows N] [--queries 200]
        [--kind HNSW] [--metric cosine] [--fresh] [--limit 10]

Without ``--server`` on Milvus Lite. ``--fresh`` asks as soon as the rows are written,
before the engine had time to index them.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pymilvus import MilvusClient

import photographs
from lookalike.backbones import find
from lookalike.backends.milvus import MilvusIndex
from lookalike.backends.milvus_filter import compile_filter
from lookalike.backends.milvus_guard import Timeouts
from lookalike.backends.milvus_kinds import arrangement, engine_metric
from lookalike.backends.milvus_rows import GEN, VECTOR, engine_name
from lookalike.backends.onnxruntime import OnnxEmbedder
from lookalike.collections import (
    DEFAULT_TEAM,
    Collection,
    CollectionUid,
    FieldType,
    IndexKind,
    IndexSpec,
    Metric,
)
from lookalike.filters import Filter, parse
from lookalike.images import Limits, decode_square
from lookalike.interfaces import ImageKey, IndexRow
from lookalike.metrics import prepare, score
from real_vectors import Matrix, local_dimension, resampled
from servers.milvus import milvus_server

TARGET = 0.99
SHARES = (100.0, 50.0, 20.0, 10.0, 5.0, 1.0, 0.5, 0.1)  # per cent
GROUPS = 500  # of looks
FIELDS = {"place": FieldType.INT, "look": FieldType.INT}
BUILD_SECONDS = 600.0
PATIENT = Timeouts(connect=30, search=60, write=120, admin=300)  # on a busy machine

Keep = npt.NDArray[np.bool_]  # [N], which rows a filter keeps


def main() -> int:
    """Print the tables; exit status 1 if anything nearest is missed too often."""
    arguments = parse_arguments()
    seeds = embedded(photographs.load())
    rows = arguments.rows or (100_000 if arguments.server else 20_000)
    vectors = resampled(seeds, rows, seed=1)
    queries = resampled(seeds, arguments.queries, seed=2)
    lie_on = [local_dimension(some[:1000]) for some in (vectors, seeds)]
    print(
        f"{rows:,} x {vectors.shape[1]} vectors on {lie_on[0]:.1f} dimensions (a "
        f"thousand photographs: {lie_on[1]:.1f}), {len(queries)} queries\n"
    )
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        uri = str(Path(folder) / "recall.db")
        if arguments.server:
            uri = stack.enter_context(milvus_server())
        bench = stack.enter_context(filled(uri, vectors, arguments))
        return report(bench, queries, arguments.limit)


def parse_arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", action="store_true")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--limit", type=int, default=10)
    parser.add_argument("--kind", type=IndexKind, default=None)
    parser.add_argument("--metric", type=Metric, default=Metric.COSINE)
    return parser.parse_args()


def embedded(pictures: list[photographs.Photograph]) -> Matrix:
    """The vectors of pictures by the bundled backbone: float32 ``[N, D]``."""
    embedder = OnnxEmbedder(find("resnet18"), threads=2)
    geometry, limits = embedder.geometry, Limits()
    squares = [decode_square(each.read(), geometry, limits) for each in pictures]
    return np.concatenate([embedder.embed(square[np.newaxis]) for square in squares])


# --- the index ------------------------------------------------------------------------


@dataclass(frozen=True)
class Bench:
    """An index, what is in it, and a client of the same engine."""

    index: MilvusIndex
    raw: MilvusClient
    collection: Collection
    vectors: Matrix  # prepared
    place: npt.NDArray[np.int64]  # of each row, in random order
    look: npt.NDArray[np.int64]  # of each row, which of the groups it looks like
    numbers: dict[str, int]  # of each key, its row


@contextmanager
def filled(uri: str, vectors: Matrix, arguments: argparse.Namespace) -> Iterator[Bench]:
    """A fresh collection with these vectors; it goes with the block."""
    rng = np.random.default_rng(3)
    centres = vectors[rng.integers(0, len(vectors), GROUPS)]
    keys = [
        hashlib.sha256(str(n).encode()).hexdigest()[:32] for n in range(len(vectors))
    ]
    bench = Bench(
        index=MilvusIndex(uri, timeouts=PATIENT),
        raw=MilvusClient(uri),
        collection=a_collection(vectors.shape[1], arguments),
        vectors=prepare(vectors, arguments.metric),
        place=rng.permutation(len(vectors)),
        look=np.argmax(vectors @ centres.T, axis=1),
        numbers={key: number for number, key in enumerate(keys)},
    )
    bench.index.create(bench.collection)
    try:
        started = time.perf_counter()
        write(bench, keys)
        print(f"written in {time.perf_counter() - started:.0f} s", end="; ")
        if not arguments.fresh:
            bench.index.settle(bench.collection)
            wait_until_indexed(bench)
            print(f"indexed after {time.perf_counter() - started:.0f} s", end="")
        print("\n")
        yield bench
    finally:
        bench.index.drop(bench.collection)
        bench.index.close()
        bench.raw.close()


def a_collection(dimension: int, arguments: argparse.Namespace) -> Collection:
    """A collection of this metric and kind of index."""
    return Collection(
        uid=CollectionUid(secrets.token_hex(16)),
        team=DEFAULT_TEAM,
        name="recall",
        fields=FIELDS,
        backbone="resnet18",
        fingerprint="",
        dimension=dimension,
        metric=arguments.metric,
        created_at=datetime.now(UTC),
        index=IndexSpec(arguments.kind),
    )


def write(bench: Bench, keys: list[str]) -> None:
    """All rows, a thousand at a time."""
    for start in range(0, len(keys), 1_000):
        bench.index.upsert(
            bench.collection,
            [
                IndexRow(
                    ImageKey(keys[number]),
                    1,
                    bench.vectors[number],
                    {
                        "place": int(bench.place[number]),
                        "look": int(bench.look[number]),
                    },
                )
                for number in range(start, min(start + 1_000, len(keys)))
            ],
        )


def wait_until_indexed(bench: Bench) -> None:
    """Return when a server searches every row by its index."""
    if bench.index.is_lite:
        return
    name, deadline = engine_name(bench.collection), time.monotonic() + BUILD_SECONDS
    while time.monotonic() < deadline:
        loaded = bench.raw.list_loaded_segments(name)
        rows = sum(segment.num_rows for segment in loaded if segment.index_name)
        # Without an index, as FLAT is, segments have no name of one.
        flat = bench.collection.index.kind is IndexKind.FLAT
        if rows >= len(bench.vectors) or (flat and loaded):
            return
        time.sleep(1)
    raise TimeoutError("the index was not built in time")


# --- measuring ------------------------------------------------------------------------


@dataclass
class Side:
    """What one of the two answered in a band."""

    found: int = 0
    short: int = 0  # answers with fewer than there are
    seconds: list[float] = field(default_factory=list)

    def add(self, keys: list[int], nearest: set[int], seconds: float) -> None:
        """Count an answer."""
        self.found += len(nearest & set(keys))
        self.short += len(keys) != len(nearest)
        self.seconds.append(seconds)

    def cells(self, wanted: int) -> str:
        """Recall, answers that are not complete, and milliseconds."""
        high = float(np.percentile(self.seconds, 99))
        return (
            f"{self.found / wanted:.4f} | {self.short} | "
            f"{statistics.median(self.seconds) * 1000:.1f} | {high * 1000:.1f}"
        )


def report(bench: Bench, queries: Matrix, limit: int) -> int:
    """A table of each kind of filter; 1 if a band misses the target."""
    asked = prepare(queries, bench.collection.metric)
    poor = 0
    for title, filters in (("at random", by_place), ("by looks", by_look)):
        print(
            f"| kept, {title} | rows | recall@{limit} | incomplete | p50, ms | p99, ms "
            "| pymilvus: recall | incomplete | p50, ms | p99, ms | p50 ratio |\n"
            "|---|---|---|---|---|---|---|---|---|---|---|"
        )
        for share in SHARES:
            if title == "by looks" and share * GROUPS < 100:
                continue
            poor += measure(bench, asked, limit, share, filters)
        print()
    return int(poor > 0)


def measure(
    bench: Bench,
    queries: Matrix,
    limit: int,
    share: float,
    filters: Callable[[Bench, float, int], tuple[Filter | None, Keep]],
) -> bool:
    """One line of a table; whether it misses the target."""
    ours, raw, wanted, kept = Side(), Side(), 0, []
    for number, query in enumerate(queries):
        condition, keep = filters(bench, share, number)
        nearest = exact(bench, query, keep, limit)
        wanted += len(nearest)
        kept.append(int(keep.sum()))
        turns = [(ours, ask_index), (raw, ask_pymilvus)]
        for side, ask in turns if number % 2 else turns[::-1]:
            started = time.perf_counter()
            keys = ask(bench, query, limit, condition)
            seconds = time.perf_counter() - started
            side.add([bench.numbers[key] for key in keys], nearest, seconds)
    ratio = statistics.median(ours.seconds) / statistics.median(raw.seconds)
    print(
        f"| {share:g} % | {statistics.mean(kept):,.0f} | {ours.cells(wanted)} | "
        f"{raw.cells(wanted)} | {ratio:.1f} |",
        flush=True,
    )
    return ours.found < TARGET * wanted or ours.short > 0


def by_place(bench: Bench, share: float, number: int) -> tuple[Filter | None, Keep]:
    """Some share of all rows, chosen at random; another for each number."""
    rows = len(bench.place)
    width = round(rows * share / 100)
    if width == rows:
        return None, np.ones(rows, bool)
    start = number * 997 % (rows - width)
    condition = parse({"place": {"$gte": start, "$lt": start + width}}, FIELDS)
    return condition, (bench.place >= start) & (bench.place < start + width)


def by_look(bench: Bench, share: float, number: int) -> tuple[Filter | None, Keep]:
    """The rows of some groups that look alike; others for each number."""
    chosen = np.random.default_rng(number).permutation(GROUPS)
    some = [int(group) for group in chosen[: math.ceil(GROUPS * share / 100)]]
    return parse({"look": some}, FIELDS), np.isin(bench.look, some)


def exact(bench: Bench, query: Any, keep: Keep, limit: int) -> set[int]:
    """The rows that really are the nearest of those kept."""
    kept = np.flatnonzero(keep)
    scores = score(query, bench.vectors[kept], bench.collection.metric)
    few = min(limit, len(kept))
    return set(kept[np.argpartition(-scores, few - 1)[:few]].tolist())


def ask_index(
    bench: Bench, query: Any, limit: int, condition: Filter | None
) -> list[str]:
    """The keys that Lookalike's index finds."""
    hits = bench.index.search(bench.collection, query, limit, condition)
    return [hit.key for hit in hits]


def ask_pymilvus(
    bench: Bench, query: Any, limit: int, condition: Filter | None
) -> list[str]:
    """The keys that Milvus finds when asked the way its documentation shows."""
    arranged = arrangement(bench.collection, is_lite=bench.index.is_lite)
    params = {"ef": 64} if arranged.is_graph else arranged.effort(limit)
    found = bench.raw.search(
        engine_name(bench.collection),
        [query],
        filter="" if condition is None else compile_filter(condition),
        limit=limit,
        output_fields=[GEN],
        anns_field=VECTOR,
        search_params={
            "metric_type": engine_metric(bench.collection.metric),
            "params": params,
        },
    )[0]
    return [hit.id for hit in found]


if __name__ == "__main__":
    sys.exit(main())
