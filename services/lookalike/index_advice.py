"""What each kind of vector index costs and gives, for so many images of such vectors.

``SOURCES`` says where the formulas and figures come from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypedDict

from lookalike.collections import IndexKind
from lookalike.index_kinds import choose, params_of

SOURCES = {
    "faiss": 'bytes a vector: "Guidelines to choose an index", the wiki of Faiss',
    "knowhere": "codes in memory of 0.125 of the vectors, cached nodes of 0.1 and 56 "
    'links a node: "knowhere-related Configurations", documentation of Milvus 2.5',
    "gpu": '1.8 times the vectors: "GPU Index", documentation of Milvus',
    "measured": "recall@10, the least of all filters that keep 0.1 to 100 %, by "
    "tests/benchmarks/recall.py with the parameters used here: 100,000 vectors of 512 "
    "numbers for HNSW, 20,000 for the others, on Milvus 2.3.5",
}

FLOAT = 4  # bytes
LINK = 4
ID = 8
LINKS_OF_DISKANN = 56
CODES_OF_DISKANN = 0.125
CACHE_OF_DISKANN = 0.1
OVERHEAD_OF_CAGRA = 1.8
LITE_IMAGES = 100_000  # a search of so many takes Milvus Lite 30 ms


@dataclass(frozen=True)
class Cost:
    """What one kind of index costs and gives.

    Attributes:
        kind: which.
        memory: bytes of main memory for searching; of a GPU's for GPU_CAGRA.
        disk: bytes of fast disk read while searching.
        recall: of the nearest ten, how many are found.
        build: what building takes.
        search: what a search compares.
        sources: of these statements; keys of ``SOURCES``.
    """

    kind: IndexKind
    memory: int
    disk: int
    recall: str
    build: str
    search: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Advice:
    """Which index for so many images, and why; and what all of them cost."""

    images: int
    dimension: int
    kind: IndexKind | None  # None: the one the engine chooses by itself
    reason: str
    costs: tuple[Cost, ...]


def advise(images: int, dimension: int) -> Advice:
    """Which index suits so many images with vectors of so many numbers."""
    kind = choose(images).kind
    costs = tuple(_cost(each, images, dimension) for each in IndexKind)
    return Advice(images, dimension, kind, _reason(images, kind), costs)


def _reason(images: int, kind: IndexKind | None) -> str:
    if kind is not None:
        return (
            f"{kind.value} on a Milvus server: the vectors of so many images take a "
            "quarter of the memory, and what is found is ranked by the full ones. "
            "DISKANN takes still less, where the server has it and fast disks."
        )
    if images <= LITE_IMAGES:
        return (
            "automatic: Milvus Lite compares all and misses nothing; a Milvus server "
            "builds HNSW."
        )
    return (
        "automatic, on a Milvus server: HNSW, the quickest as long as all vectors fit "
        "in memory. Milvus Lite takes 30 ms a search for each 100,000 images."
    )


def _cost(kind: IndexKind, images: int, dimension: int) -> Cost:
    size = _Size(images, dimension, params_of(kind, {}, dimension))
    disk = size.vectors + images * LINKS_OF_DISKANN * LINK
    return Cost(
        kind,
        round(_MEMORY[kind](size)),
        disk if kind is IndexKind.DISKANN else 0,
        **_SAYS[kind],
    )


@dataclass(frozen=True)
class _Size:
    """Parts of an index, in bytes."""

    images: int
    dimension: int
    params: Mapping[str, int]

    @property
    def vectors(self) -> int:
        return self.images * self.dimension * FLOAT

    @property
    def links(self) -> int:
        return self.images * 2 * self.params["M"] * LINK

    @property
    def lists(self) -> int:
        return self.images * ID + self.params["nlist"] * self.dimension * FLOAT

    @property
    def codes(self) -> int:
        books = (1 << self.params["nbits"]) * self.dimension * FLOAT
        return self.images * self.params["m"] * self.params["nbits"] // 8 + books


_MEMORY: Mapping[IndexKind, Callable[[_Size], float]] = {
    IndexKind.FLAT: lambda size: size.vectors,
    IndexKind.HNSW: lambda size: size.vectors + size.links,
    IndexKind.IVF_FLAT: lambda size: size.vectors + size.lists,
    IndexKind.IVF_SQ8: lambda size: size.vectors / FLOAT + size.lists,
    IndexKind.IVF_PQ: lambda size: size.codes + size.lists,
    # Four bits for each two numbers, beside the vectors.
    IndexKind.SCANN: lambda size: size.vectors * (1 + 1 / 16) + size.lists,
    IndexKind.DISKANN: lambda size: (
        size.vectors * (CODES_OF_DISKANN + CACHE_OF_DISKANN)
    ),
    IndexKind.GPU_CAGRA: lambda size: size.vectors * OVERHEAD_OF_CAGRA,
}


class _Says(TypedDict):
    recall: str
    build: str
    search: str
    sources: tuple[str, ...]


_CLUSTERS = "learns clusters: minutes a million"
_LISTS = "an eighth of all vectors; all that a narrow filter keeps"
_SAYS: Mapping[IndexKind, _Says] = {
    IndexKind.FLAT: {
        "recall": "1.000",
        "build": "nothing",
        "search": "all vectors that the filter keeps",
        "sources": ("faiss", "measured"),
    },
    IndexKind.HNSW: {
        "recall": "0.998 or more",
        "build": "the slowest in memory: minutes a million and core",
        "search": "some thousand vectors; all that a narrow filter keeps",
        "sources": ("faiss", "measured"),
    },
    IndexKind.IVF_FLAT: {
        "recall": "0.999 or more",
        "build": _CLUSTERS,
        "search": _LISTS,
        "sources": ("faiss", "measured"),
    },
    IndexKind.IVF_SQ8: {
        "recall": "0.999 or more",
        "build": _CLUSTERS,
        "search": f"{_LISTS}; the best again by full vectors from disk",
        "sources": ("faiss", "measured"),
    },
    IndexKind.IVF_PQ: {
        "recall": "0.99 or more",
        "build": "learns clusters and code books: the slowest with lists",
        "search": f"{_LISTS}; the best again by full vectors from disk",
        "sources": ("faiss", "measured"),
    },
    IndexKind.SCANN: {
        "recall": "0.999 or more",
        "build": _CLUSTERS,
        "search": f"{_LISTS}, by codes; the best again in full",
        "sources": ("faiss", "measured"),
    },
    IndexKind.DISKANN: {
        "recall": "not measured",
        "build": "the slowest of all",
        "search": "some hundred vectors from disk; all that a narrow filter keeps",
        "sources": ("knowhere",),
    },
    IndexKind.GPU_CAGRA: {
        "recall": "not measured",
        "build": "quick, on a GPU",
        "search": "some thousand vectors on a GPU, many searches at once",
        "sources": ("gpu",),
    },
}
