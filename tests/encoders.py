"""Small image encoders in ONNX, as other people's tools would export them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 16
CHANNELS = 6
CLASSES = 4

_GENERATOR = np.random.default_rng(5)
KERNEL = _GENERATOR.normal(size=(CHANNELS, 3, 3, 3)).astype(np.float32)
HEAD = _GENERATOR.normal(size=(CHANNELS, CLASSES)).astype(np.float32)
Shape = list[int | str]


def encoder(
    *,
    shape: Shape | None = None,
    head: str = "classes",
    kind: int = TensorProto.FLOAT,
    opset: int = 17,
) -> onnx.ModelProto:
    """A convolution and what follows it.

    ``head`` is ``map`` (the map itself), ``pooled`` (its mean, 4 axes), ``vector``
    (its mean, 2 axes), ``flat`` (all of it in a row), ``reshaped`` (its mean, by a
    reshape that fixes the batch to 1), ``classes`` (the vector and a classifier),
    ``tokens`` (3 axes), ``two`` (two outputs).
    """
    shape = shape or ["batch", 3, SIDE, SIDE]
    nodes = [helper.make_node("Conv", ["x", "kernel"], ["conv"], pads=[1, 1, 1, 1])]
    nodes.append(helper.make_node("Relu", ["conv"], ["features"]))
    outputs = {"map": ["features"], "pooled": ["pool"], "two": ["vector", "classes"]}
    pool = helper.make_node("GlobalAveragePool", ["features"], ["pool"])
    flat = helper.make_node("Flatten", ["pool"], ["vector"])
    classes = helper.make_node("MatMul", ["vector", "head"], ["classes"])
    row = helper.make_node("Flatten", ["features"], ["flat"])
    reshaped = helper.make_node("Reshape", ["pool", "one_row"], ["reshaped"])
    tokens = helper.make_node("Reshape", ["features", "three"], ["tokens"])
    nodes += {
        "map": [],
        "pooled": [pool],
        "vector": [pool, flat],
        "flat": [row],
        "reshaped": [pool, reshaped],
        "classes": [pool, flat, classes],
        "tokens": [tokens],
        "two": [pool, flat, classes],
    }[head]
    weight = np.float16 if kind == TensorProto.FLOAT16 else np.float32
    constants = {
        "kernel": KERNEL.astype(weight),
        "head": HEAD.astype(weight),
        "one_row": np.array([1, CHANNELS], np.int64),
        "three": np.array([0, CHANNELS, -1], np.int64),
    }
    read = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info("x", kind, shape)],
        [
            helper.make_tensor_value_info(name, kind, None)
            for name in outputs.get(head, [head])
        ],
        [numpy_helper.from_array(v, n) for n, v in constants.items() if n in read],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9
    )


def saved(path: Path, model: onnx.ModelProto) -> Path:
    """The model as a file."""
    onnx.save(model, path)
    return path
