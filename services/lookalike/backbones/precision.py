"""The same network in another precision: an int8 graph turned back into float.

For processors without int8 dot products, and for TensorRT, which knows no unsigned
activations. Making the int8 graph is ``lookalike.backbones.quantise``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from lookalike.backbones.processor import has_vnni
from lookalike.backbones.wiring import (
    Array,
    Wiring,
    attribute,
    replace_nodes,
    set_constant,
)

__all__ = ["as_float", "has_vnni"]

QUANTISE, DEQUANTISE = "QuantizeLinear", "DequantizeLinear"
# What puts out nothing below zero as long as nothing below zero goes in.
KEEPS_SIGN = ("MaxPool", "AveragePool", "GlobalAveragePool", "Concat")


def as_float(model: onnx.ModelProto) -> onnx.ModelProto:
    """The float network that a quantised one (QDQ) approximates, of the same contract.

    Weights are dequantised to float32; quantise/dequantise pairs of activations are
    dropped. Where such a pair begins at zero, quantisers leave out the ReLU before it,
    because the pair cuts off what is negative: it is put back. Pixels that served as
    quantised numbers directly are cast to float first thing, which is the one thing
    that TensorRT lets happen to uint8, and rescaled.

    A graph without quantisation comes back as it is, copied.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    _dequantise_constants(graph)
    _drop_pairs(graph)
    _cast_pixels(graph)
    del graph.value_info[:]  # describes tensors that are no more
    return made


def _dequantise_constants(graph: onnx.GraphProto) -> None:
    wiring = Wiring(graph)
    kept = []
    for node in graph.node:
        values = dequantised(node, wiring)
        if values is None:
            kept.append(node)
        else:
            set_constant(graph, node.output[0], values)
    replace_nodes(graph, kept)


def dequantised(node: onnx.NodeProto, wiring: Wiring) -> npt.NDArray[np.float32] | None:
    """What a node makes of a quantised constant, ``(values - zero_point) * scale``.

    None if it is another kind of node, or what it dequantises is no constant.
    """
    values = wiring.constant(node.input[0]) if node.op_type == DEQUANTISE else None
    if values is None:
        return None
    scale, zero_point = _parameters(node, wiring)
    if scale.ndim == 1:
        shape = [1] * values.ndim
        shape[attribute(node, "axis", 1)] = -1
        scale, zero_point = scale.reshape(shape), np.reshape(zero_point, shape)
    wide = values.astype(np.int64) - zero_point.astype(np.int64)
    return (wide * scale.astype(np.float64)).astype(np.float32)


def _parameters(node: onnx.NodeProto, wiring: Wiring) -> tuple[Array, Array]:
    """Scale and zero point of a quantising or dequantising node."""
    scale = wiring.constant(node.input[1])
    assert scale is not None, f"{node.name} has no constant scale"
    zero_point = wiring.constant(node.input[2]) if len(node.input) > 2 else None
    return scale, np.zeros(scale.shape, np.uint8) if zero_point is None else zero_point


def _drop_pairs(graph: onnx.GraphProto) -> None:
    """Connect what a pair stood between; a ReLU takes its place if it cut at zero."""
    wiring = Wiring(graph)
    stands_for: dict[str, str] = {}  # float tensors, by the tensors that are gone
    quantised: set[str] = set()  # what was whole numbers and is float now
    positive: set[str] = set()
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        was_quantised = not quantised.isdisjoint(node.input)
        names = [stands_for.get(name, name) for name in node.input]
        del node.input[:]
        node.input.extend(names)
        if node.op_type == QUANTISE:
            source = node.input[0]
            if _cuts_at_zero(node, wiring) and source not in positive:
                source = f"{node.output[0]}/relu"
                kept.append(helper.make_node("Relu", node.input[:1], [source], source))
                positive.add(source)
            stands_for[node.output[0]] = source
            quantised.add(node.output[0])
        elif node.op_type == DEQUANTISE and was_quantised:
            stands_for[node.output[0]] = node.input[0]
        else:
            kept.append(node)
            if was_quantised:
                quantised.update(node.output)
            if _is_positive(node, positive):
                positive.update(node.output)
    replace_nodes(graph, kept)


def _cuts_at_zero(node: onnx.NodeProto, wiring: Wiring) -> bool:
    _, zero_point = _parameters(node, wiring)
    return bool(zero_point == np.iinfo(zero_point.dtype).min)


def _is_positive(node: onnx.NodeProto, positive: set[str]) -> bool:
    if node.op_type == "Relu":
        return True
    return node.op_type in KEEPS_SIGN and all(name in positive for name in node.input)


def _cast_pixels(graph: onnx.GraphProto) -> None:
    """Rescale in float what is still dequantised: the pixels."""
    left = [node for node in graph.node if node.op_type == DEQUANTISE]
    if not left:
        return
    pixels = graph.input[0].name
    cast = f"{pixels}/float"
    nodes = [helper.make_node("Cast", [pixels], [cast], cast, to=TensorProto.FLOAT)]
    wiring = Wiring(graph)
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == pixels:
                node.input[place] = cast
        if node.op_type == "BitwiseOr":
            _lay_in_float(graph, node, wiring)
        nodes += _rescaled(graph, node, wiring) if node in left else [node]
    replace_nodes(graph, nodes)


def _lay_in_float(graph: onnx.GraphProto, node: onnx.NodeProto, wiring: Wiring) -> None:
    """Lay the frame of ``lookalike.backbones.folding`` by adding it to zeros."""
    node.op_type = "Add"
    mask = wiring.constant(node.input[1])
    assert mask is not None
    name = f"{node.input[1]}/float"
    set_constant(graph, name, mask.astype(np.float32))
    node.input[1] = name


def _rescaled(
    graph: onnx.GraphProto, node: onnx.NodeProto, wiring: Wiring
) -> list[onnx.NodeProto]:
    scale, zero_point = _parameters(node, wiring)
    (output,) = node.output
    set_constant(graph, f"{output}/zero", zero_point.astype(np.float32))
    set_constant(graph, f"{output}/scale", scale.astype(np.float32))
    shifted = f"{output}/shifted"
    return [
        helper.make_node("Sub", [node.input[0], f"{output}/zero"], [shifted], shifted),
        helper.make_node("Mul", [shifted, f"{output}/scale"], [output], output),
    ]
