from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lookalike.backbones import Backbone, find
from lookalike.backends.onnxruntime import OnnxEmbedder
from lookalike.backends.vectors import checked
from lookalike.errors import BadEmbedding, EmbedderUnavailable, Misconfigured

SIDE, DIMENSION = 4, 3
UNIT = np.array([[0, 1, 0]], np.float32)

Network = Callable[..., OnnxEmbedder]


def graph(answer: npt.NDArray[np.float32], side: int, dimension: int) -> bytes:
    """A network that answers every picture with one row (plus 0 times the picture)."""
    nodes = [
        helper.make_node("Cast", ["images"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["wide"], ["flat"]),
        helper.make_node("MatMul", ["flat", "nothing"], ["zeros"]),
        helper.make_node("Add", ["zeros", "row"], ["embedding"]),
    ]
    constants = {
        "nothing": np.zeros((side * side * 3, dimension), np.float32),
        "row": answer,
    }
    made = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info(
                "images", TensorProto.UINT8, ["N", side, side, 3]
            )
        ],
        [
            helper.make_tensor_value_info(
                "embedding", TensorProto.FLOAT, ["N", dimension]
            )
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return bytes(model.SerializeToString())


def backbone(folder: Path, weights: bytes) -> Backbone:
    manifest = {
        "name": "tiny",
        "version": "1",
        "side": SIDE,
        "resize": SIDE,
        "filter": "bilinear",
        "dimension": DIMENSION,
        "weights": {
            "file": "model.onnx",
            "sha256": hashlib.sha256(weights).hexdigest(),
        },
    }
    (folder / "model.onnx").write_bytes(weights)
    (folder / "backbone.json").write_text(json.dumps(manifest))
    return find(str(folder))


@pytest.fixture
def network(tmp_path: Path) -> Network:
    def make(
        answer: npt.NDArray[np.float32] = UNIT,
        side: int = SIDE,
        dimension: int = DIMENSION,
    ) -> OnnxEmbedder:
        weights = graph(answer, side, dimension)
        return OnnxEmbedder(backbone(tmp_path, weights), threads=1)

    return make


def pixels(count: int = 2) -> npt.NDArray[np.uint8]:
    return np.zeros((count, SIDE, SIDE, 3), np.uint8)


def test_any_network_that_keeps_the_contract_embeds(network: Network) -> None:
    assert network().embed(pixels(40)).tolist() == UNIT.tolist() * 40


@pytest.mark.parametrize(
    "row", [[np.nan, 0, 1], [np.inf, 0, 0], [0, 0, 0], [1, 1, 0], [0, 0.9, 0]]
)
def test_an_answer_that_is_no_unit_vector_is_refused(
    network: Network, row: list[float]
) -> None:
    embedder = network(np.array([row], np.float32))

    with pytest.raises(BadEmbedding):
        embedder.embed(pixels())


@pytest.mark.parametrize(
    "answer",
    [None, UNIT, np.repeat(UNIT, 3, 0), np.ones((2, 4), np.float32), np.ones((2, 3))],
)
def test_an_answer_of_another_shape_is_refused(answer: object) -> None:
    with pytest.raises(BadEmbedding):
        checked(answer, count=2, dimension=3)


@pytest.mark.parametrize("wrong", [{"side": 5}, {"dimension": 4}])
def test_a_network_unlike_its_manifest_is_refused(
    network: Network, wrong: dict[str, int]
) -> None:
    answer = np.zeros((1, wrong.get("dimension", DIMENSION)), np.float32)
    embedder = network(answer, **wrong)

    with pytest.raises(Misconfigured, match=r"model\.onnx must have"):
        embedder.embed(pixels())


def test_weights_that_are_no_network_are_refused(tmp_path: Path) -> None:
    embedder = OnnxEmbedder(backbone(tmp_path, b"nonsense"), threads=1)

    with pytest.raises(Misconfigured, match="cannot load"):
        embedder.embed(pixels())


def test_nothing_is_loaded_before_the_first_image(tmp_path: Path) -> None:
    found = backbone(tmp_path, b"nonsense")
    found.model_path.unlink()

    embedder = OnnxEmbedder(found, threads=1)

    assert embedder.fingerprint == found.fingerprint
    assert embedder.dimension == DIMENSION


def test_a_network_that_fails_while_running_is_unavailable(tmp_path: Path) -> None:
    model = onnx.load_from_string(graph(UNIT, SIDE, DIMENSION))
    # Reads row 99 of a table of one: the graph is valid, running it is not.
    row = numpy_helper.from_array(np.array([99], np.int64), "index")
    model.graph.initializer.append(row)
    model.graph.node.insert(
        0, helper.make_node("Identity", ["wide_index"], ["late_index"])
    )
    model.graph.node.insert(
        0, helper.make_node("Add", ["index", "count"], ["wide_index"])
    )
    model.graph.node.insert(
        0, helper.make_node("Shape", ["images"], ["count"], start=0, end=1)
    )
    model.graph.node.insert(
        3, helper.make_node("Gather", ["row", "late_index"], ["picked"], axis=0)
    )
    model.graph.node[-1].input[1] = "picked"
    embedder = OnnxEmbedder(backbone(tmp_path, model.SerializeToString()), threads=1)

    with pytest.raises(EmbedderUnavailable, match="ONNX Runtime failed"):
        embedder.embed(pixels())


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((1, SIDE, SIDE, 3), np.float32),
        np.zeros((SIDE, SIDE, 3), np.uint8),
        np.zeros((1, 3, SIDE, SIDE), np.uint8),
    ],
)
def test_pixels_of_another_shape_or_type_are_our_own_mistake(
    network: Network, wrong: npt.NDArray[np.uint8]
) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        network().embed(wrong)
