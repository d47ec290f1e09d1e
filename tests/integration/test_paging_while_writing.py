"""Pages of a search on a real index, while others add, change and delete images.

``LOOKALIKE_TEST_PAGED_IMAGES`` says how many images stay as they are.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from lookalike.backends.milvus import MilvusIndex
from lookalike.collections import Metadata
from lookalike.filters import parse
from lookalike.results import Found, Want
from servers.milvus import ServerMissing, milvus_server
from vector_shelf import FIELDS, VectorShelf, ids

DIMENSION = 32
STAYING = int(os.environ.get("LOOKALIKE_TEST_PAGED_IMAGES", "300"))
PRODUCTS = 50
COPIES = 40  # of one vector: ties
VISIBLE_SECONDS = 30.0


@pytest.fixture(
    scope="module",
    params=["lite", pytest.param("server", marks=pytest.mark.milvus_server)],
)
def index(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MilvusIndex]:
    if request.param == "lite":
        made = MilvusIndex(str(tmp_path_factory.mktemp("lite") / "milvus.db"))
        yield made
        made.close()
        return
    try:
        with milvus_server() as uri:
            made = MilvusIndex(uri)
            yield made
            made.close()
    except ServerMissing as reason:
        pytest.skip(f"no Milvus server: {reason}")


@pytest.fixture(scope="module")
def shelf(
    index: MilvusIndex, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[VectorShelf]:
    """Images that stay, many of them alike, in many products."""
    folder = tmp_path_factory.mktemp("shelf")
    shelf = VectorShelf(folder, index, dimension=DIMENSION)
    vectors = drawn(STAYING, seed=1)
    vectors[:COPIES] = vectors[0]
    names = [f"stays{n:05}" for n in range(STAYING)]
    shelf.put(
        dict(zip(names, vectors, strict=True)),
        {name: product_of(n) for n, name in enumerate(names)},
    )
    index.settle(shelf.collection)
    deadline = time.monotonic() + VISIBLE_SECONDS
    while len(shelf.find(query(), Want(limit=STAYING)).matches) < STAYING:
        assert time.monotonic() < deadline, "the images are not visible"
    yield shelf
    index.drop(shelf.collection)
    shelf.ledger.close()


def drawn(count: int, seed: int) -> np.ndarray:
    """Unit vectors in clusters, as embeddings are."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(12, DIMENSION))
    made = centres[rng.integers(0, 12, count)] + rng.normal(size=(count, DIMENSION))
    unit: np.ndarray = made / np.linalg.norm(made, axis=1, keepdims=True)
    return unit.astype(np.float32)


def query() -> np.ndarray:
    only: np.ndarray = drawn(1, seed=99)[0]
    return only


def product_of(number: int) -> Metadata:
    return {"product": f"p{number % PRODUCTS}", "size": number % 4}


class Writer(threading.Thread):
    """Adds, changes and deletes images of its own until it is stopped."""

    def __init__(self, shelf: VectorShelf) -> None:
        super().__init__()
        self._shelf = shelf
        self._over = threading.Event()
        self.rounds = 0
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            while not self._over.is_set():
                self._write()
                self.rounds += 1
        except Exception as error:  # seen by the test, which would hang on a thread
            self.error = error

    def _write(self) -> None:
        names = [f"comes{n:03}" for n in range(40)]
        seed = 1000 + self.rounds
        vectors = dict(zip(names, drawn(len(names), seed), strict=True))
        rng = np.random.default_rng(seed)
        metadata = {name: product_of(int(rng.integers(0, 1000))) for name in names}
        self._shelf.put(vectors, metadata, content=str(self.rounds))
        self._shelf.delete(*rng.choice(names, 15, replace=False))

    def __enter__(self) -> Writer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()


def pages(shelf: VectorShelf, want: Want, writer: Writer) -> list[Found]:
    """Every page, the writer having written between any two of them."""
    found = shelf.find(query(), want)
    made = [found]
    while found.next_cursor is not None:
        before, deadline = writer.rounds, time.monotonic() + 30
        while writer.rounds == before and writer.error is None:
            assert time.monotonic() < deadline, "the writer stands still"
            writer.join(0.005)
        found = shelf.go_on(found, want)
        made.append(found)
        assert len(made) < STAYING, "the pages have no end"
    return made


WANTS = {
    "plain": Want(limit=37),
    "filtered": Want(
        limit=17, condition=parse({"size": {"$lt": 2}}, FIELDS), min_score=0.0
    ),
    "diverse": Want(limit=15, condition=parse({"size": 0}, FIELDS), diversity=0.3),
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", WANTS)
def test_no_image_that_stays_is_repeated_or_left_out(
    shelf: VectorShelf, kind: str
) -> None:
    want = WANTS[kind]
    everything = shelf.find(query(), replace(want, limit=STAYING, diversity=0.0))
    expected = {name for name in ids(everything) if name.startswith("stays")}

    with Writer(shelf) as writer:
        found = pages(shelf, want, writer)

    assert writer.error is None
    shown = Counter(name for page in found for name in ids(page))
    assert expected - set(shown) == set()
    assert [name for name, times in shown.items() if times > 1] == []
    assert len(found) > 3
    assert all(len(page.matches) == want.limit for page in found[:-1])


@pytest.mark.timeout(300)
def test_no_group_is_repeated_or_left_out(shelf: VectorShelf) -> None:
    want = Want(limit=8, group_by="product")

    with Writer(shelf) as writer:
        found = pages(shelf, want, writer)

    assert writer.error is None
    shown = Counter(
        match.image.metadata["product"] for page in found for match in page.matches
    )
    assert len(shown) >= PRODUCTS
    assert set(shown.values()) == {1}
    assert all(len(page.matches) == want.limit for page in found[:-1])
