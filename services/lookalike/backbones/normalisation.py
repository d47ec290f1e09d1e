"""What a network does to the pixels before its first convolution sees them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from lookalike.backbones.wiring import Array, Wiring, attribute

CHANNELS = 3


@dataclass(frozen=True)
class Normalisation:
    """The first convolutions take ``tensor``, ``factor * pixel + offset`` by channel.

    ``nodes`` are those that compute it from the pixels.
    """

    tensor: str  # float [N, 3, S, S]
    factor: npt.NDArray[np.float64]  # [3], none of them 0
    offset: npt.NDArray[np.float64]  # [3]
    nodes: list[onnx.NodeProto]
    convolutions: list[onnx.NodeProto]


def find_normalisation(graph: onnx.GraphProto) -> Normalisation | None:
    """The normalisation of a graph's pixels; None where none is recognised.

    Recognised are a cast to float, a transposition to NCHW and any additions,
    subtractions, multiplications and divisions by constants, in any order, between
    the input and convolutions with constant weights.
    """
    wiring = Wiring(graph)
    walk = _Walk(wiring, graph.input[0].name)
    while walk.step():
        pass
    convolutions = wiring.consumers(walk.tensor)
    if not walk.is_float or not walk.is_nchw or not (walk.factor != 0).all():
        return None
    if not all(_takes_channels(node, walk.tensor, wiring) for node in convolutions):
        return None
    return Normalisation(
        walk.tensor, walk.factor, walk.offset, walk.nodes, convolutions
    )


def _takes_channels(node: onnx.NodeProto, tensor: str, wiring: Wiring) -> bool:
    if node.op_type != "Conv" or node.input[0] != tensor:
        return False
    weight = wiring.constant(node.input[1])
    has_bias = len(node.input) > 2 and node.input[2] != ""
    known_bias = not has_bias or wiring.constant(node.input[2]) is not None
    return weight is not None and weight.shape[1] == CHANNELS and known_bias


class _Walk:
    """Follows the pixels from the input on, for as long as they are only rescaled."""

    def __init__(self, wiring: Wiring, tensor: str) -> None:
        self.tensor = tensor
        self.factor = np.ones(CHANNELS)
        self.offset = np.zeros(CHANNELS)
        self.nodes: list[onnx.NodeProto] = []
        self.is_float = False
        self.is_nchw = False
        self._wiring = wiring

    def step(self) -> bool:
        """Go over one more node; False where the way ends."""
        consumers = self._wiring.consumers(self.tensor)
        if len(consumers) != 1 or self._wiring.is_output(self.tensor):
            return False
        (node,) = consumers
        if not self._passes(node):
            return False
        self.nodes.append(node)
        self.tensor = node.output[0]
        return True

    def _passes(self, node: onnx.NodeProto) -> bool:
        if node.op_type == "Cast":
            self.is_float = attribute(node, "to") == TensorProto.FLOAT
            return self.is_float
        if node.op_type == "Transpose" and not self.is_nchw:
            self.is_nchw = list(attribute(node, "perm")) == [0, 3, 1, 2]
            return self.is_nchw
        if node.op_type in ("Add", "Mul", "Sub", "Div"):
            return self._rescales(node)
        return node.op_type == "Identity"

    def _rescales(self, node: onnx.NodeProto) -> bool:
        first, second = node.input
        if first != self.tensor and node.op_type in ("Add", "Mul"):
            first, second = second, first
        value = self._wiring.constant(second)
        channels = None if value is None else self._by_channel(value)
        if channels is None or first != self.tensor or not self.is_float:
            return False
        if node.op_type in ("Add", "Sub"):
            self.offset += channels if node.op_type == "Add" else -channels
        else:
            by = channels if node.op_type == "Mul" else 1 / channels
            self.factor *= by
            self.offset *= by
        return True

    def _by_channel(self, value: Array) -> npt.NDArray[np.float64] | None:
        """A constant as one number a channel; None if it differs by place."""
        shape = (1, CHANNELS, 1, 1) if self.is_nchw else (1, 1, 1, CHANNELS)
        try:
            return np.broadcast_to(value, shape).astype(np.float64).reshape(CHANNELS)
        except ValueError:
            return None
