"""Searching finds the right rows, and all of them: on the fake, Milvus Lite, a server.

Scores mean one thing on each, whatever the metric; and no filter, however narrow or
however unlike the query, costs more than one in a hundred of the nearest.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pytest

from fakes import MemoryIndex
from lookalike.backends.milvus import MilvusIndex
from lookalike.collections import (
    DEFAULT_TEAM,
    Collection,
    CollectionUid,
    FieldType,
    IndexKind,
    IndexSpec,
    Metadata,
    Metric,
)
from lookalike.errors import BadEmbedding, BadRequest
from lookalike.filters import Filter, parse
from lookalike.interfaces import ImageKey, IndexRow, VectorIndex
from lookalike.metrics import prepare, score

DIMENSION = 32
FIELDS = {"place": FieldType.INT, "look": FieldType.INT}
LOOKS = 60

Matrix = npt.NDArray[np.float32]
Keep = npt.NDArray[np.bool_]


@pytest.fixture(
    scope="module",
    params=[
        "memory",
        "lite",
        pytest.param("server", marks=pytest.mark.milvus_server),
    ],
)
def index(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[VectorIndex]:
    made: VectorIndex
    match request.param:
        case "memory":
            made = MemoryIndex()
        case "lite":
            made = MilvusIndex(str(tmp_path_factory.mktemp("lite") / "milvus.db"))
        case _:
            made = MilvusIndex(request.getfixturevalue("server"))
    yield made
    made.close()


@contextmanager
def collection_in(
    index: VectorIndex,
    metric: Metric = Metric.COSINE,
    kind: IndexKind | None = None,
    dimension: int = DIMENSION,
) -> Iterator[Collection]:
    """An empty collection for the time of the block."""
    made = Collection(
        uid=CollectionUid(secrets.token_hex(16)),
        team=DEFAULT_TEAM,
        name="things",
        fields=FIELDS,
        backbone="fake",
        fingerprint="fake",
        dimension=dimension,
        metric=metric,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        index=IndexSpec(kind),
    )
    index.create(made)
    try:
        yield made
    finally:
        index.drop(made)


def key(number: int) -> ImageKey:
    return ImageKey(f"{number:032x}")


def number(key: ImageKey) -> int:
    return int(key, 16)


def clustered(count: int, seed: int = 0, dimension: int = DIMENSION) -> Matrix:
    """Vectors of many lengths that lie in clusters, as embeddings do."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(LOOKS, dimension)) + 0.5
    made = centres[rng.integers(0, LOOKS, count)]
    made = made + 0.7 * rng.normal(size=(count, dimension))
    return (made * rng.uniform(0.5, 2.0, (count, 1))).astype(np.float32)


def put(
    index: VectorIndex,
    collection: Collection,
    vectors: Matrix,
    metadata: list[Metadata] | None = None,
) -> None:
    """Store the vectors, and wait until all of them are seen."""
    held = metadata or [{} for _ in vectors]
    index.upsert(
        collection,
        [IndexRow(key(n), 1, vector, held[n]) for n, vector in enumerate(vectors)],
    )
    index.settle(collection)
    assert len(index.rows(collection, None, len(vectors) + 1)) == len(vectors)


def condition(raw: object) -> Filter:
    parsed = parse(raw, FIELDS)
    assert parsed is not None
    return parsed


def nearest(
    vectors: Matrix, query: Matrix, metric: Metric, keep: Keep, limit: int
) -> set[int]:
    """The numbers of those rows that really are the nearest of those kept."""
    scores = score(prepare([query], metric)[0], prepare(vectors, metric), metric)
    best = np.argsort(-np.where(keep, scores, -np.inf))[:limit]
    return {int(row) for row in best if keep[row]}


# --- metrics -------------------------------------------------------------------------


@pytest.mark.parametrize("metric", Metric)
def test_scores_are_those_of_the_metric(index: VectorIndex, metric: Metric) -> None:
    vectors, query = clustered(300), clustered(1, seed=1)[0]
    with collection_in(index, metric) as collection:
        put(index, collection, vectors)

        hits = index.search(collection, query, 40)
        own = index.search(collection, vectors[7], 300)

    expected = np.sort(by_definition(query, vectors, metric))[::-1][:40]
    got = [hit.score for hit in hits]
    assert got == sorted(got, reverse=True)
    assert got == pytest.approx(expected.tolist(), rel=1e-4, abs=1e-4)
    itself = {Metric.IP: float(vectors[7] @ vectors[7]), Metric.EUCLIDEAN: 0.0}
    (closest,) = [hit.score for hit in own if hit.key == key(7)]
    assert closest == pytest.approx(itself.get(metric, 1.0), abs=1e-3)


def by_definition(
    query: Matrix, vectors: Matrix, metric: Metric
) -> npt.NDArray[np.float64]:
    """Scores as textbooks define them, in double precision."""
    one, many = query.astype(np.float64), vectors.astype(np.float64)
    products: npt.NDArray[np.float64] = many @ one
    match metric:
        case Metric.IP:
            return products
        case Metric.EUCLIDEAN:
            squares: npt.NDArray[np.float64] = ((many - one) ** 2).sum(axis=1)
            return -np.sqrt(squares)
        case Metric.PEARSON:
            correlations: npt.NDArray[np.float64] = np.corrcoef(one, many)
            return correlations[0, 1:]
    lengths: npt.NDArray[np.float64] = np.linalg.norm(many, axis=1)
    return products / lengths / np.linalg.norm(one)


def test_points_are_stored_as_they_are(index: VectorIndex) -> None:
    vectors = clustered(20)
    with collection_in(index, Metric.EUCLIDEAN) as collection:
        put(index, collection, vectors)

        stored = index.vectors(collection, [key(3)])[key(3)]

    assert np.array_equal(stored.vector, vectors[3])


def test_a_vector_of_equal_numbers_has_no_correlation(index: VectorIndex) -> None:
    flat = np.full(DIMENSION, 3.0, dtype=np.float32)

    with (
        collection_in(index, Metric.PEARSON) as collection,
        pytest.raises(BadEmbedding),
    ):
        index.search(collection, flat, 1)


# --- many at once, and counting ------------------------------------------------------


def test_many_queries_find_what_each_of_them_finds(index: VectorIndex) -> None:
    vectors, queries = clustered(400), clustered(9, seed=2)
    metadata: list[Metadata] = [{"place": n} for n in range(400)]
    with collection_in(index) as collection:
        put(index, collection, vectors, metadata)

        for raw in (None, {"place": {"$lt": 60}}, {"place": {"$gte": 500}}):
            wanted = None if raw is None else condition(raw)
            together = index.search_many(collection, queries, 12, wanted)
            alone = [index.search(collection, query, 12, wanted) for query in queries]

            assert [[hit.key for hit in hits] for hits in together] == [
                [hit.key for hit in hits] for hits in alone
            ]


def test_no_queries_have_no_answers(index: VectorIndex) -> None:
    with collection_in(index) as collection:
        none = np.empty((0, DIMENSION), dtype=np.float32)

        assert index.search_many(collection, none, 3) == []


def test_rows_are_counted_by_filter(index: VectorIndex) -> None:
    metadata: list[Metadata] = [{"place": n} for n in range(120)]
    with collection_in(index) as collection:
        put(index, collection, clustered(120), metadata)

        assert index.count_matching(collection, None) == 120
        assert index.count_matching(collection, condition({"place": {"$lt": 7}})) == 7
        assert index.count_matching(collection, condition({"place": 500})) == 0


def test_a_filter_is_not_answered_from_an_old_count(index: VectorIndex) -> None:
    vectors = clustered(200)
    with collection_in(index) as collection:
        put(index, collection, vectors[:1], [{"place": 1}])
        few = index.search(collection, vectors[0], 150, condition({"place": 1}))

        put(index, collection, vectors, [{"place": 1} for _ in vectors])
        many = index.search(collection, vectors[0], 150, condition({"place": 1}))
        index.delete(collection, [key(n) for n in range(100)])
        index.rows(collection, None, 1)  # a server's strong read: the deletion is seen
        left = index.search(collection, vectors[0], 150, condition({"place": 1}))

    assert [len(few), len(many), len(left)] == [1, 150, 100]


# --- every share a filter keeps ------------------------------------------------------


@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.EUCLIDEAN])
def test_filters_of_every_width_find_the_nearest_and_all_of_them(
    index: VectorIndex, metric: Metric
) -> None:
    # Of more than five thousand a server makes an index of its own in memory.
    is_cosine = metric is Metric.COSINE and isinstance(index, MilvusIndex)
    count, limit = 9_000 if is_cosine else 1_500, 10
    vectors, queries = clustered(count), clustered(8, seed=3)
    place = np.random.default_rng(5).permutation(count)
    look = np.argmax(prepare(vectors, Metric.COSINE) @ clustered(LOOKS, 6).T, axis=1)
    metadata: list[Metadata] = [
        {"place": int(place[n]), "look": int(look[n])} for n in range(count)
    ]
    cases: list[tuple[object, Keep]] = [
        ({"place": {"$lt": width}}, place < width)
        for width in (1, 4, count // 200, count // 50, count // 10, count // 3, count)
    ]
    cases += [({"look": list(range(some))}, look < some) for some in (1, 5, LOOKS // 2)]
    found = wanted = 0
    with collection_in(index, metric) as collection:
        put(index, collection, vectors, metadata)

        for raw, keep in cases:
            answers = index.search_many(collection, queries, limit, condition(raw))
            for query, hits in zip(queries, answers, strict=True):
                best = nearest(vectors, query, metric, keep, limit)
                got = {number(hit.key) for hit in hits}
                assert len(got) == len(hits) == len(best), raw
                assert all(keep[row] for row in got), raw
                found, wanted = found + len(got & best), wanted + len(best)

    assert found / wanted >= 0.99


# --- kinds of index ------------------------------------------------------------------

LITE_KINDS = {IndexKind.FLAT, IndexKind.HNSW, IndexKind.IVF_FLAT, IndexKind.IVF_SQ8}
SERVER_KINDS = LITE_KINDS | {IndexKind.IVF_PQ, IndexKind.SCANN}


@pytest.mark.parametrize("kind", [IndexKind.HNSW, IndexKind.IVF_SQ8])
def test_each_kind_of_index_finds_the_nearest_with_true_scores(
    index: VectorIndex, kind: IndexKind
) -> None:
    vectors, queries = clustered(1_500), clustered(10, seed=4)
    metadata: list[Metadata] = [{"place": n} for n in range(len(vectors))]
    found = wanted = 0
    with collection_in(index, kind=kind) as collection:
        put(index, collection, vectors, metadata)

        for width in (1_500, 700, 100, 5):
            keep = np.arange(len(vectors)) < width
            where = condition({"place": {"$lt": width}})
            for query in queries:
                hits = index.search(collection, query, 10, where)
                best = nearest(vectors, query, Metric.COSINE, keep, 10)
                assert len(hits) == len(best)
                true = by_definition(query, vectors, Metric.COSINE)
                assert [hit.score for hit in hits] == pytest.approx(
                    [true[number(hit.key)] for hit in hits], abs=1e-5
                )
                found += len(best & {number(hit.key) for hit in hits})
                wanted += len(best)

    assert found / wanted >= 0.99


def test_a_kind_that_the_engine_lacks_is_refused_by_name(index: VectorIndex) -> None:
    with (
        pytest.raises(BadRequest) as caught,
        collection_in(index, kind=IndexKind.GPU_CAGRA),
    ):
        pass

    assert caught.value.code == "index_unsupported"
    assert "GPU_CAGRA" in caught.value.detail
    known = caught.value.extra["supported"]
    assert isinstance(known, list)
    assert {kind.value for kind in LITE_KINDS} <= set(known)


@pytest.mark.milvus_server
@pytest.mark.parametrize("kind", sorted(SERVER_KINDS - LITE_KINDS))
def test_a_server_builds_the_kinds_that_compress_more(
    server: str, kind: IndexKind
) -> None:
    vectors, queries = clustered(2_000), clustered(10, seed=4)
    index = MilvusIndex(server)
    with collection_in(index, kind=kind) as collection:
        put(index, collection, vectors)

        answers = index.search_many(collection, queries, 10)

    everything = np.ones(len(vectors), dtype=np.bool_)
    found = sum(
        len(
            nearest(vectors, query, Metric.COSINE, everything, 10)
            & {number(hit.key) for hit in hits}
        )
        for query, hits in zip(queries, answers, strict=True)
    )
    index.close()
    assert found >= 99
