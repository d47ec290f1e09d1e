"""Images with labels and vectors of our choosing; no picture is looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ledgers import an_image
from lookalike.collections import Metadata
from lookalike.interfaces import IndexRow, Outcome, Result, Vectors, Work
from small import Small

KINDS = ("shoes", "bags", "hats")


def fill(small: Small, count: int, first: int = 0) -> None:
    """Have so many images, of three kinds in turn, near their kind's corner."""
    kinds = [KINDS[number % len(KINDS)] for number in range(count)]
    add(
        small,
        {
            str(number): {"category": kind, "tags": [kind, "all"], "price": number / 4}
            for number, kind in list(enumerate(kinds))[first:]
        },
    )


def vector_of(work: Work) -> Vectors:
    """Its kind's direction and as much of a random one."""
    kind = work.metadata.get("category")
    vector = np.random.default_rng(int(work.image_id)).normal(size=192) / 192**0.5
    if isinstance(kind, str):
        vector[KINDS.index(kind)] += 1.0
    found: Vectors = vector.astype(np.float32)
    return found


def add(
    small: Small,
    metadata: Mapping[str, Metadata],
    vector: Callable[[Work], Vectors] = vector_of,
) -> None:
    """Have images of these metadata and vectors, indexed; without any pictures."""
    images = [
        an_image(name, position=place, metadata=known)
        for place, (name, known) in enumerate(metadata.items())
    ]
    works = small.ledger.claim(small.ledger.accept(small.collection, images).work)
    rows = [IndexRow(one.key, one.gen, vector(one), one.metadata) for one in works]
    small.index.upsert(small.collection, rows)
    small.ledger.finish([Result(one.id, Outcome.DONE) for one in works])
