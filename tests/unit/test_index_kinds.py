from __future__ import annotations

import pytest

from lookalike.collections import AUTOMATIC, IndexKind, IndexSpec
from lookalike.errors import BadRequest
from lookalike.index_kinds import PARAMS, check_index, params_of, unsupported

DIMENSION = 512


@pytest.mark.parametrize("raw", [None, {}, {"type": "automatic"}, {"images": 100_000}])
def test_an_index_that_is_not_named_is_left_to_the_engine(raw: object) -> None:
    assert check_index(raw, DIMENSION) == AUTOMATIC


def test_a_kind_is_taken_with_its_parameters() -> None:
    spec = check_index({"type": "HNSW", "params": {"M": 32}}, DIMENSION)

    assert spec == IndexSpec(IndexKind.HNSW, {"M": 32})


def test_very_many_images_get_an_index_that_takes_less_memory() -> None:
    assert check_index({"images": 50_000_000}, DIMENSION).kind is IndexKind.IVF_SQ8


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ("HNSW", "An index is an object"),
        ({"type": "HNSW", "metric": "ip"}, "An index is an object"),
        ({"type": "hnsw"}, "did you mean 'HNSW'"),
        ({"type": 7}, "Unknown index type 7"),
        ({"type": "HNSW", "params": [1]}, "'params' are an object"),
        ({"type": "HNSW", "params": {"nlist": 8}}, "accepted: M, efConstruction"),
        ({"type": "FLAT", "params": {"M": 8}}, "accepted: none"),
        ({"params": {"M": 8}}, "type automatic has no parameter"),
        ({"type": "HNSW", "params": {"M": 1}}, "from 2 to 2048"),
        ({"type": "HNSW", "params": {"M": True}}, "from 2 to 2048"),
        ({"type": "HNSW", "params": {"M": 16.5}}, "from 2 to 2048"),
        ({"type": "IVF_PQ", "params": {"m": 7}}, "divides the 512 numbers"),
        ({"type": "HNSW", "images": 5}, "given instead of"),
        ({"images": "many"}, "is a whole number"),
    ],
)
def test_an_index_that_cannot_be_is_refused(raw: object, says: str) -> None:
    with pytest.raises(BadRequest) as caught:
        check_index(raw, DIMENSION)

    assert caught.value.code == "index_invalid"
    assert says in caught.value.detail


@pytest.mark.parametrize("kind", IndexKind)
def test_every_kind_is_built_with_parameters_in_their_range(kind: IndexKind) -> None:
    params = params_of(kind, {}, DIMENSION)

    assert params.keys() == PARAMS[kind].keys()
    for name, value in params.items():
        allowed = PARAMS[kind][name]
        assert allowed.least <= value <= allowed.most


@pytest.mark.parametrize("dimension", [1, 7, 96, 512, 2_048])
def test_a_vector_of_any_length_is_cut_into_equal_parts(dimension: int) -> None:
    parts = params_of(IndexKind.IVF_PQ, {}, dimension)["m"]

    assert dimension % parts == 0


def test_a_missing_kind_is_answered_with_those_there_are() -> None:
    error = unsupported(IndexKind.GPU_CAGRA, [IndexKind.HNSW, IndexKind.FLAT])

    assert error.code == "index_unsupported"
    assert error.extra["supported"] == ["FLAT", "HNSW"]
    assert "it has FLAT, HNSW" in error.detail
