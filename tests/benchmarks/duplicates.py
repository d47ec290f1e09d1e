"""How well the near tier tells copies, and what it costs.

Of the 1,000 photographs 200 are drawn and altered in four ways: encoded again at a
quality of 40 to 60, resized to half, cropped to 90 % of each side, a quarter brighter
or darker. All 1,800 go through a worker into an index and a ledger; then the groups are
asked for, page by page.

- *pairs with the original*: the 800 of an altered copy and its original.
- *all pairs*: any two of the five, which are 2,000.
- recall is how many of these are in one group; precision, how many of the pairs in
  groups are true. Each pair of a group with its first image counts, and with ``all
  pairs`` each pair of members.
- *false groups* are those of the originals alone, before any copy came, as ids: what
  is true among them is for a person to say.

The cost of a signature is told beside that of decoding and embedding the same picture.

    PYTHONPATH=tests python -m benchmarks.duplicates [--seeds 3] [--lite]

Exit status 1 unless precision and recall of the pairs with the original are both 0.95
for each seed, no group is made of originals, and a signature costs less than 2 %.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

import photographs
from copied import ALTERATIONS
from fakes import MemoryIndex, RecordingQueue
from lookalike import duplicate_groups
from lookalike.backbones import find
from lookalike.backends.blobs import DirectoryBlobs
from lookalike.backends.ledger import SqlLedger
from lookalike.backends.milvus import MilvusIndex
from lookalike.backends.onnxruntime import OnnxEmbedder
from lookalike.collections import Collection, CollectionUid, Metric, Team
from lookalike.duplicate_stars import Group, Tier
from lookalike.images import Limits, decode_square
from lookalike.ingest import Intake, index_images
from lookalike.interfaces import VectorIndex
from lookalike.signatures import sign

ORIGINALS = 200
CHUNK = 32  # images that a worker decodes, embeds and signs together
TARGET = 0.95
MOST_COST = 0.02
ORIGINAL = "original"


@dataclass(frozen=True)
class Platform:
    """A worker with everything behind it."""

    ledger: SqlLedger
    blobs: DirectoryBlobs
    index: VectorIndex
    embedder: OnnxEmbedder
    collection: Collection

    def ingest(self, pictures: dict[str, bytes]) -> None:
        """Take pictures in and index them."""
        queue = RecordingQueue()
        intake = Intake(
            *(self.ledger, self.blobs, queue, self.collection, Limits()),
            max_metadata_bytes=1_000,
            chunk_images=32,
        )
        for name, data in pictures.items():
            staged = self.blobs.stage(self.collection.team)
            staged.file.write(data)
            intake.add(staged, name)
        intake.finish()
        for chunk in queue.take():
            index_images(
                *(self.ledger, self.blobs, self.embedder, self.index, chunk),
                limits=Limits(),
            )

    def groups(self, tier: Tier = Tier.NEAR) -> list[Group]:
        """All groups of a tier."""
        found: list[Group] = []
        cursor: str | None = None
        while True:
            page = duplicate_groups.groups(
                *(self.ledger, self.index, self.collection, tier), cursor=cursor
            )
            found += page.groups
            cursor = page.next_cursor
            if cursor is None:
                return found


@contextmanager
def running(folder: Path, *, lite: bool) -> Iterator[Platform]:
    """A platform with an empty collection."""
    embedder = OnnxEmbedder(find("resnet18"), threads=1)
    collection = Collection(
        uid=CollectionUid("0" * 32),
        team=Team("default"),
        name="measured",
        fields={},
        backbone="resnet18",
        fingerprint=embedder.fingerprint,
        dimension=embedder.dimension,
        metric=Metric.COSINE,
        created_at=datetime.now(UTC),
    )
    index: VectorIndex = (
        MilvusIndex(str(folder / "index.db")) if lite else MemoryIndex()
    )
    ledger = SqlLedger(f"sqlite:///{folder / 'ledger.sqlite3'}")
    with ExitStack() as stack:
        stack.callback(ledger.close)
        stack.callback(index.close)
        ledger.create_collection(collection)
        index.create(collection)
        blobs = DirectoryBlobs(folder / "originals")
        yield Platform(ledger, blobs, index, embedder, collection)


def main() -> int:
    """Print the tables; exit status 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lite", action="store_true", help="use Milvus Lite")
    arguments = parser.parse_args()
    pictures = {one.id: one.read() for one in photographs.load()}
    good = report_cost(list(pictures.values())[:640])
    for seed in range(arguments.seeds):
        with (
            tempfile.TemporaryDirectory() as folder,
            running(Path(folder), lite=arguments.lite) as platform,
        ):
            good &= measure(platform, pictures, seed)
    return 0 if good else 1


def measure(platform: Platform, pictures: dict[str, bytes], seed: int) -> bool:
    """Print what is found with the copies of one seed; whether it is enough."""
    platform.ingest(pictures)
    alone = platform.groups()
    generator = np.random.default_rng(seed)
    drawn = generator.choice(sorted(pictures), ORIGINALS, replace=False)
    made = {
        f"{name}#{how}": alter(pictures[name], generator)
        for name in map(str, drawn)
        for how, alter in ALTERATIONS.items()
    }
    platform.ingest(made)
    started = time.perf_counter()
    found = platform.groups()
    seconds = time.perf_counter() - started
    print(f"\nseed {seed}: {len(found)} groups, {seconds:.1f} s for all pages")
    print(f"groups of originals alone: {len(alone)}")
    for group in alone:
        told = [f"{one.image.id} ({one.similarity:.3f})" for one in group.members]
        print("  " + ", ".join(told))
    return report_quality(found, [str(one) for one in drawn]) and not alone


def report_quality(found: Sequence[Group], drawn: Sequence[str]) -> bool:
    """Print precision and recall; whether they are enough."""
    named = [[str(one.image.id) for one in group.members] for group in found]
    starred = {frozenset((one[0], other)) for one in named for other in one[1:]}
    together = {
        frozenset(pair) for one in named for pair in itertools.combinations(one, 2)
    }
    versions = {
        name: [name, *(f"{name}#{how}" for how in ALTERATIONS)] for name in drawn
    }
    with_original = {
        frozenset((name, other))
        for name, each in versions.items()
        for other in each[1:]
    }
    every = {
        frozenset(pair)
        for each in versions.values()
        for pair in itertools.combinations(each, 2)
    }
    print(f"{'':<24}{'recall':>10}{'precision':>11}")
    enough = True
    for label, wanted, shown in (
        ("pairs with the original", with_original, starred | together),
        ("all pairs", every, together),
    ):
        recall = len(wanted & shown) / len(wanted)
        precision = len(every & shown) / max(1, len(shown))
        print(f"{label:<24}{recall:>10.4f}{precision:>11.4f}")
        if wanted is with_original:
            enough = min(recall, precision) >= TARGET
    missed = Counter(
        next(name for name in pair if "#" in name).partition("#")[2]
        for pair in with_original - together
    )
    print("missed, of 200 each: " + (str(dict(missed)) if missed else "none"))
    for pair in sorted(map(sorted, together - every)):
        print("false: " + " and ".join(pair))
    return enough


def report_cost(pictures: Sequence[bytes]) -> bool:
    """Print what a signature costs beside the rest of a worker's work."""
    embedder = OnnxEmbedder(find("resnet18"), threads=1)
    spent: dict[str, list[float]] = {"decode": [], "embed": [], "sign": []}
    for start in range(0, len(pictures), CHUNK):
        clock = [time.perf_counter()]
        chunk = pictures[start : start + CHUNK]
        squares = np.stack(
            [decode_square(one, embedder.geometry, Limits()) for one in chunk]
        )
        clock.append(time.perf_counter())
        embedder.embed(squares)
        clock.append(time.perf_counter())
        sign(squares)
        clock.append(time.perf_counter())
        for step, (before, after) in zip(
            spent.values(), itertools.pairwise(clock), strict=True
        ):
            step.append((after - before) / len(chunk))
    medians = {step: statistics.median(each) * 1000 for step, each in spent.items()}
    share = medians["sign"] / (medians["decode"] + medians["embed"])
    told = ", ".join(f"{step} {ms:.2f} ms" for step, ms in medians.items())
    print(f"an image, medians of chunks: {told}; a signature adds {share:.1%}")
    return share < MOST_COST


if __name__ == "__main__":
    sys.exit(main())
