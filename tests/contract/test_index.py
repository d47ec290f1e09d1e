"""The vector index: the fake, Milvus Lite and a Milvus server keep one promise."""

from __future__ import annotations

import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from lookalike.backends.milvus import MilvusIndex
from lookalike.backends.milvus_guard import Timeouts
from lookalike.collections import (
    DEFAULT_TEAM,
    Collection,
    CollectionUid,
    Metadata,
    Metric,
)
from lookalike.errors import BadEmbedding, IndexUnavailable, Misconfigured
from lookalike.filters import Filter, parse
from lookalike.interfaces import ImageKey, IndexRow, VectorIndex
from random_filters import FIELDS

DIMENSION = 32
Matrix = npt.NDArray[np.float32]


@pytest.fixture
def collection(index: VectorIndex) -> Iterator[Collection]:
    made = new_collection()
    index.create(made)
    yield made
    index.drop(made)


def new_collection() -> Collection:
    return Collection(
        uid=CollectionUid(secrets.token_hex(16)),
        team=DEFAULT_TEAM,
        name="things",
        fields=FIELDS,
        backbone="fake",
        fingerprint="fake",
        dimension=DIMENSION,
        metric=Metric.COSINE,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def key(number: int) -> ImageKey:
    return ImageKey(f"{number:032x}")


def random_vectors(count: int, seed: int = 0) -> Matrix:
    """Clustered unit vectors, as embeddings are."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(20, DIMENSION))
    made = centres[rng.integers(0, 20, count)] + rng.normal(size=(count, DIMENSION))
    unit: Matrix = (made / np.linalg.norm(made, axis=1, keepdims=True)).astype("f4")
    return unit


def rows_of(vectors: Matrix, metadata: list[Metadata] | None = None) -> list[IndexRow]:
    held = metadata or [{} for _ in vectors]
    return [
        IndexRow(key(number), 1, vector, held[number])
        for number, vector in enumerate(vectors)
    ]


def condition(raw: object) -> Filter:
    parsed = parse(raw, FIELDS)
    assert parsed is not None
    return parsed


def test_an_own_vector_is_found_first_with_score_one(
    index: VectorIndex, collection: Collection
) -> None:
    vectors = random_vectors(50)
    index.upsert(collection, rows_of(vectors))

    hits = index.search(collection, vectors[7] * 3, 5)

    assert hits[0].key == key(7)
    assert hits[0].gen == 1
    assert hits[0].score == pytest.approx(1.0, abs=1e-5)


def test_hits_come_best_first_with_the_cosine_as_score(
    index: VectorIndex, collection: Collection
) -> None:
    vectors, query = random_vectors(200), random_vectors(1, seed=9)[0]
    index.upsert(collection, rows_of(vectors))

    hits = index.search(collection, query, 20)

    cosines = np.sort(vectors @ query)[::-1][:20]
    assert [hit.score for hit in hits] == pytest.approx(cosines.tolist(), abs=1e-5)
    assert len({hit.key for hit in hits}) == 20


def test_creating_and_dropping_twice_does_nothing_more(index: VectorIndex) -> None:
    made = new_collection()
    index.create(made)
    index.upsert(made, rows_of(random_vectors(3)))

    index.create(made)
    kept = index.count(made)
    index.drop(made)
    index.drop(made)

    assert kept == 3


def test_an_unknown_collection_is_reported_as_unavailable(index: VectorIndex) -> None:
    missing = new_collection()

    with pytest.raises(IndexUnavailable):
        index.search(missing, random_vectors(1)[0], 1)


def test_an_upsert_replaces_vector_generation_and_metadata(
    index: VectorIndex, collection: Collection
) -> None:
    old, new = random_vectors(2)
    index.upsert(collection, [IndexRow(key(1), 1, old, {"text": "old"})])

    index.upsert(collection, [IndexRow(key(1), 2, new, {"text": "new"})])

    (hit,) = index.search(collection, new, 10)
    assert (hit.key, hit.gen) == (key(1), 2)
    assert hit.score == pytest.approx(1.0, abs=1e-5)
    assert index.search(collection, new, 10, condition({"text": "old"})) == []
    assert len(index.search(collection, new, 10, condition({"text": "new"}))) == 1
    assert index.count(collection) == 1


def test_deleted_rows_are_not_found_and_leave_no_gaps(
    index: VectorIndex, collection: Collection
) -> None:
    vectors = random_vectors(120)
    index.upsert(collection, rows_of(vectors))
    index.settle(collection)

    index.delete(collection, [*(key(number) for number in range(60)), key(9_999)])

    hits = index.search(collection, vectors[0], 60)
    assert {hit.key for hit in hits} == {key(number) for number in range(60, 120)}
    assert index.count(collection) == 60


def test_vectors_are_given_back_for_the_keys_that_are_there(
    index: VectorIndex, collection: Collection
) -> None:
    vectors = random_vectors(3)
    index.upsert(collection, rows_of(vectors))

    found = index.vectors(collection, [key(2), key(0), key(77)])

    assert set(found) == {key(0), key(2)}
    assert np.allclose(found[key(2)].vector, vectors[2], atol=1e-6)
    assert found[key(2)].vector.dtype == np.float32
    assert found[key(2)].gen == rows_of(vectors)[2].gen


def test_no_more_than_the_limit_and_no_more_than_there_is(
    index: VectorIndex, collection: Collection
) -> None:
    vectors = random_vectors(5)
    index.upsert(collection, rows_of(vectors))

    assert len(index.search(collection, vectors[0], 3)) == 3
    assert len(index.search(collection, vectors[0], 100)) == 5
    assert index.search(collection, vectors[0], 0) == []


def test_an_empty_collection_has_no_hits(
    index: VectorIndex, collection: Collection
) -> None:
    index.upsert(collection, [])
    index.settle(collection)

    assert index.search(collection, random_vectors(1)[0], 10) == []
    assert index.vectors(collection, []) == {}
    assert index.count(collection) == 0


@pytest.mark.parametrize("spoil", ["nan", "zero", "short"])
def test_what_is_no_vector_is_refused_and_nothing_stored(
    index: VectorIndex, collection: Collection, spoil: str
) -> None:
    good = random_vectors(2)
    bad = {
        "nan": np.full(DIMENSION, np.nan, dtype=np.float32),
        "zero": np.zeros(DIMENSION, dtype=np.float32),
        "short": np.ones(DIMENSION - 1, dtype=np.float32),
    }[spoil]
    rows = rows_of(good)

    with pytest.raises(BadEmbedding):
        index.upsert(collection, [rows[0], replace(rows[1], vector=bad)])
    with pytest.raises(BadEmbedding):
        index.search(collection, bad, 1)

    assert index.count(collection) == 0


def test_equal_vectors_are_all_found(
    index: VectorIndex, collection: Collection
) -> None:
    one = random_vectors(1)[0]
    index.upsert(collection, rows_of(np.tile(one, (150, 1))))
    index.settle(collection)

    hits = index.search(collection, one, 150)

    assert len({hit.key for hit in hits}) == 150


def test_filtered_searches_are_complete_and_find_the_nearest(
    index: VectorIndex, collection: Collection
) -> None:
    count = 3_000
    vectors, queries = random_vectors(count), random_vectors(15, seed=5)
    # Filters keep 50 %, 10 % and 1 % at random, and 10 % far from the first query.
    ranks = np.random.default_rng(3).permutation(count)
    far = np.argsort(np.argsort(vectors @ queries[0])) < count // 10
    metadata: list[Metadata] = [
        {"number": int(rank), "flag": bool(is_far)}
        for rank, is_far in zip(ranks, far, strict=True)
    ]
    index.upsert(collection, rows_of(vectors, metadata))
    index.settle(collection)
    assert index.count(collection) == count  # a strong read: from now on all see it
    reader = index
    if isinstance(index, MilvusIndex):  # strong reads take a server 200 ms each
        reader = index.with_consistency("Eventually")

    for raw, kept in (
        ({"number": {"$lt": 1_500}}, ranks < 1_500),
        ({"number": {"$lt": 300}}, ranks < 300),
        ({"number": {"$lt": 30}}, ranks < 30),
        ({"flag": True}, far),
    ):
        found = recall = 0
        for query in queries:
            hits = reader.search(collection, query, 40, condition(raw))
            cosines = np.where(kept, vectors @ query, -np.inf)
            nearest = {key(int(n)) for n in np.argsort(-cosines)[:40] if kept[n]}
            assert len(hits) == len(nearest) == min(40, int(kept.sum()))
            assert all(kept[int(hit.key, 16)] for hit in hits)
            found += len(nearest)
            recall += len(nearest & {hit.key for hit in hits})
        assert recall / found >= 0.99, raw


def test_rows_come_in_order_of_key_with_their_gens(
    index: VectorIndex, collection: Collection
) -> None:
    order = [ImageKey(secrets.token_hex(16)) for _ in range(1_300)]
    vectors = random_vectors(len(order))
    index.upsert(
        collection,
        [IndexRow(order[n], n + 1, vector, {}) for n, vector in enumerate(vectors)],
    )

    pages = walked(index, collection, limit=500)

    held = sorted((key, n + 1) for n, key in enumerate(order))
    assert [row for page in pages for row in page] == held
    assert [len(page) for page in pages] == [500, 500, 300]


def test_rows_end_where_they_are_told_to(
    index: VectorIndex, collection: Collection
) -> None:
    index.upsert(collection, rows_of(random_vectors(30)))

    some = index.rows(collection, key(4), 100, key(9))
    few = index.rows(collection, key(4), 2, key(9))
    none = index.rows(collection, key(29), 100)

    assert [found for found, _ in some] == [key(n) for n in range(5, 10)]
    assert [found for found, _ in few] == [key(5), key(6)]
    assert none == []


def test_rows_show_every_write_at_once_and_each_key_once(
    index: VectorIndex, collection: Collection
) -> None:
    first = random_vectors(6)
    for gen in (1, 2, 3):
        index.upsert(collection, [IndexRow(key(0), gen, first[gen], {})])
        assert index.rows(collection, None, 10) == [(key(0), gen)]
    index.upsert(collection, [IndexRow(key(1), 4, first[4], {})])

    index.delete(collection, [key(0)])

    assert index.rows(collection, None, 10) == [(key(1), 4)]


def test_rows_are_complete_over_flushed_and_fresh_writes(
    index: VectorIndex, collection: Collection
) -> None:
    vectors = random_vectors(900)
    index.upsert(collection, rows_of(vectors[:600]))
    index.settle(collection)
    newer = [replace(row, gen=2) for row in rows_of(vectors)[500:]]
    index.upsert(collection, newer)
    index.delete(collection, [key(number) for number in range(0, 900, 3)])

    rows = [row for page in walked(index, collection, limit=128) for row in page]

    kept = [number for number in range(900) if number % 3]
    assert rows == [(key(n), 2 if n >= 500 else 1) for n in kept]


def test_an_empty_collection_has_no_rows(
    index: VectorIndex, collection: Collection
) -> None:
    assert index.rows(collection, None, 10) == []


def walked(
    index: VectorIndex, collection: Collection, limit: int
) -> list[list[tuple[ImageKey, int]]]:
    """All pages of a collection's rows."""
    pages = []
    after: ImageKey | None = None
    while page := index.rows(collection, after, limit):
        pages.append(page)
        after = page[-1][0]
    return pages


# --- Milvus Lite alone ---------------------------------------------------------------


def test_a_collection_survives_a_reopening(tmp_path: Path) -> None:
    path, made, vectors = str(tmp_path / "m.db"), new_collection(), random_vectors(100)
    first = MilvusIndex(path)
    first.create(made)
    first.upsert(made, rows_of(vectors[:70]))
    first.settle(made)
    first.upsert(made, rows_of(vectors)[70:])
    first.close()

    second = MilvusIndex(path)
    hits = second.search(made, vectors[99], 100)
    count = second.count(made)
    second.close()

    assert len(hits) == count == 100
    assert hits[0].key == key(99)


def test_a_second_process_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    first = MilvusIndex(str(path))
    first.create(new_collection())
    script = (
        "import sys\n"
        "from lookalike.backends.milvus import MilvusIndex\n"
        "from lookalike.errors import Misconfigured\n"
        "try:\n"
        "    MilvusIndex(sys.argv[1]).connect()\n"
        "except Misconfigured as error:\n"
        "    print(error.detail)\n"
    )

    second = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    first.close()

    assert "another process has it open" in second.stdout
    assert "LOOKALIKE_MILVUS_URI" in second.stdout
    assert second.stderr == ""


def test_a_path_that_is_no_database_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"\.db"):
        MilvusIndex(str(tmp_path / "milvus")).connect()


def test_searches_miss_nothing_while_others_write_and_flush(tmp_path: Path) -> None:
    index, made = MilvusIndex(str(tmp_path / "m.db")), new_collection()
    vectors = random_vectors(1_200)
    index.create(made)
    index.upsert(made, rows_of(vectors[:200]))
    stop = threading.Event()

    def write() -> None:
        for start in range(200, 1_200, 100):
            index.upsert(made, rows_of(vectors)[start : start + 100])
            index.settle(made)
        stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    firsts = []
    while not stop.is_set():
        firsts.append(index.search(made, vectors[5], 200))
    writer.join()
    index.close()

    assert firsts
    assert all(hits[0].key == key(5) and len(hits) == 200 for hits in firsts)


# --- a server that is not there ------------------------------------------------------


def test_a_server_that_is_down_is_reported_soon_and_once() -> None:
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{taken.getsockname()[1]}"
        index = MilvusIndex(
            uri, timeouts=Timeouts(connect=1, search=1, write=1, admin=1)
        )
        started = time.monotonic()

        with pytest.raises(IndexUnavailable):
            index.search(new_collection(), random_vectors(1)[0], 1)
        with pytest.raises(IndexUnavailable):
            index.count(new_collection())

        assert time.monotonic() - started < 5
