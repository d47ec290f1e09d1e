"""Which node makes a tensor, which take it: the edges of an ONNX graph."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import numpy.typing as npt
import onnx
from onnx import numpy_helper

Array = npt.NDArray[Any]


class Wiring:
    """A graph's edges as they were when this was made; changing it makes it stale."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._producers: dict[str, onnx.NodeProto] = {}
        self._consumers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        self._outputs = {value.name for value in graph.output}
        for node in graph.node:
            self._producers.update(dict.fromkeys(node.output, node))
            for name in set(node.input):
                self._consumers[name].append(node)

    def constant(self, name: str) -> Array | None:
        """The value of a tensor that never changes; None for any other."""
        tensor = self._constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def producer(self, name: str) -> onnx.NodeProto | None:
        """The node that puts out this tensor; None for inputs and constants."""
        return self._producers.get(name)

    def consumers(self, name: str) -> list[onnx.NodeProto]:
        """The nodes that take this tensor, in order of the graph."""
        return self._consumers.get(name, [])

    def is_output(self, name: str) -> bool:
        """Whether the whole graph puts out this tensor."""
        return name in self._outputs

    def before(self, nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
        """These nodes and every node whose results reach them."""
        pending, seen = list(nodes), set[str]()
        while pending:
            node = pending.pop()
            if node.output[0] in seen:
                continue
            seen.add(node.output[0])
            yield node
            makers = (self.producer(name) for name in node.input)
            pending += (maker for maker in makers if maker is not None)


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """The value of a node's attribute."""
    for candidate in node.attribute:
        if candidate.name == name:
            return onnx.helper.get_attribute_value(candidate)
    return default


def set_constant(graph: onnx.GraphProto, name: str, value: Array) -> None:
    """Put a constant into the graph, in place of its namesake if there is one."""
    tensor = numpy_helper.from_array(value, name)
    for present in graph.initializer:
        if present.name == name:
            present.CopyFrom(tensor)
            return
    graph.initializer.append(tensor)


def replace_nodes(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Make these the nodes of the graph; drop the constants that none of them takes."""
    kept = list(nodes)
    del graph.node[:]
    graph.node.extend(kept)
    used = {name for node in kept for name in node.input}
    constants = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(constants)
