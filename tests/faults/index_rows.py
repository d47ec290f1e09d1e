"""Everything that an index holds, at Strong consistency, beside the palette.

A program of its own, ``python -m faults.index_rows URI NAME FILE``, because whoever has
opened gRPC must not fork, and the harness starts processes all the time. FILE becomes
an ``.npz``: for each row its key and gen, which picture of the palette its vector is
nearest to, and the cosine of the two.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from faults import specimens

TIMEOUT = 60.0
PARTS = [f"{number:02x}" for number in range(0, 256, 4)]


@dataclass(frozen=True)
class Row:
    """One row of an index."""

    gen: int
    picture: int
    score: float


def read(uri: str, name: str, file: Path) -> dict[str, list[Row]]:
    """The rows of an index by key; a key should have one.

    Raises:
        CalledProcessError: the index cannot be read.
    """
    command = [sys.executable, "-m", "faults.index_rows", uri, name, str(file)]
    folder = str(Path(__file__).parents[1])
    paths = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), folder]))
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": paths})
    rows: dict[str, list[Row]] = {}
    with np.load(file) as found:
        for key, gen, picture, score in zip(
            *(found[column] for column in ("keys", "gens", "pictures", "scores")),
            strict=True,
        ):
            rows.setdefault(str(key), []).append(
                Row(int(gen), int(picture), float(score))
            )
    return rows


def main(uri: str, name: str, file: str) -> None:
    """Write the rows of an index to a file."""
    from pymilvus import MilvusClient

    from lookalike.backends.milvus_filter import KEY
    from lookalike.backends.milvus_rows import GEN, VECTOR

    client = MilvusClient(uri, timeout=TIMEOUT)
    if not uri.startswith("http"):
        client.flush(name, timeout=TIMEOUT)  # what a crash left in a buffer
    client.load_collection(name, timeout=TIMEOUT)
    palette = embedded_palette()
    found: dict[str, list[Any]] = {each: [] for each in ("keys", "gens")}
    pictures, scores = [], []
    for first, following in zip(PARTS, [*PARTS[1:], "g"], strict=True):
        rows = client.query(
            name,
            filter=f'{KEY} >= "{first}" and {KEY} < "{following}"',
            output_fields=[KEY, GEN, VECTOR],
            limit=16_000,
            consistency_level="Strong",
            timeout=TIMEOUT,
        )
        if not rows:
            continue
        found["keys"] += [row[KEY] for row in rows]
        found["gens"] += [row[GEN] for row in rows]
        cosines = np.asarray([row[VECTOR] for row in rows], np.float32) @ palette.T
        pictures.append(cosines.argmax(1))
        scores.append(cosines.max(1))
    np.savez(
        file,
        keys=np.asarray(found["keys"], dtype=np.str_),
        gens=np.asarray(found["gens"], dtype=np.int64),
        pictures=np.concatenate(pictures or [np.zeros(0, np.int64)]),
        scores=np.concatenate(scores or [np.zeros(0, np.float32)]),
    )


def embedded_palette() -> npt.NDArray[np.float32]:
    """The vectors of all pictures of the palette."""
    from lookalike.backbones import find
    from lookalike.backends.onnxruntime import OnnxEmbedder
    from lookalike.images import Limits, decode_square

    backbone = find("resnet18")
    embedder = OnnxEmbedder(backbone, threads=1)
    squares = np.stack(
        [
            decode_square(specimens.picture(number), backbone.geometry, Limits())
            for number in range(specimens.PALETTE)
        ]
    )
    starts = range(0, len(squares), 64)
    return np.concatenate([embedder.embed(squares[n : n + 64]) for n in starts])


if __name__ == "__main__":
    main(*sys.argv[1:4])
