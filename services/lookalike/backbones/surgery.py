"""Cutting ONNX graphs open and sewing nodes to them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lookalike.errors import Misconfigured

if TYPE_CHECKING:
    import onnx

CODE = "backbone_refused"
_NAMED = 12  # tensors listed where one is not found


def opset(model: onnx.ModelProto) -> int:
    """The version of ONNX's operators that a model uses; 0 if it does not say."""
    versions = [
        one.version for one in model.opset_import if one.domain in ("", "ai.onnx")
    ]
    return int(versions[0]) if versions else 0


def places(shape: Sequence[int]) -> tuple[int, int]:
    """The two axes of a map ``[N, ...]`` of 4 axes that are places, not channels.

    Pictures are squares, so the two are equally long; the usual order wins a draw.
    """
    return (1, 2) if shape[1] == shape[2] and shape[2] != shape[3] else (2, 3)


def require_tensor(model: onnx.ModelProto, name: str) -> None:
    """Return if some node or the model itself puts out a tensor of this name.

    Raises:
        Misconfigured: none does; the message names the last ones there are.
    """
    names = [out for node in model.graph.node for out in node.output if out]
    if name in names:
        return
    last = ", ".join(reversed(names[-_NAMED:]))
    raise Misconfigured(
        f"the network has no tensor {name!r}. The last ones, from its end: {last}.",
        code=CODE,
    )


def ending_with(model: onnx.ModelProto, outputs: Sequence[str]) -> onnx.ModelProto:
    """A copy that puts out these tensors, without the nodes they do not need."""
    from onnx import ValueInfoProto

    cut = type(model)()
    cut.CopyFrom(model)
    needed, kept = set(outputs), []
    for node in reversed(cut.graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(_read_by(node))
    kept.reverse()
    weights = [one for one in cut.graph.initializer if one.name in needed]
    sparse = [one for one in cut.graph.sparse_initializer if one.values.name in needed]
    for field, values in (
        (cut.graph.node, kept),
        (cut.graph.initializer, weights),
        (cut.graph.sparse_initializer, sparse),
        (cut.graph.output, [ValueInfoProto(name=name) for name in outputs]),
    ):
        copies = [type(value).FromString(value.SerializeToString()) for value in values]
        del field[:]
        field.extend(copies)
    names = {weight.name for weight in weights} | {one.values.name for one in sparse}
    for number in reversed(range(len(cut.graph.input))):
        name = cut.graph.input[number].name
        if name in {weight.name for weight in model.graph.initializer} - names:
            del cut.graph.input[number]  # old files list weights as inputs, too
    return cut


def _read_by(node: onnx.NodeProto) -> Iterable[str]:
    """What a node reads, the bodies of its loops and branches included."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (*attribute.graphs, attribute.g):
            for inner in graph.node:
                yield from _read_by(inner)
            yield from (output.name for output in graph.output)


def pooled(model: onnx.ModelProto, output: str, pools: Sequence[str]) -> list[str]:
    """What goes into the poolings before a tensor, the last one first.

    A tensor that something else reads, too, is left out: it is the inside of a block
    that weighs its channels, not the end of the network.
    """
    ancestors = ending_with(model, [output]).graph.node
    readers: dict[str, int] = {}
    for node in ancestors:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    return [
        str(node.input[0])
        for node in reversed(ancestors)
        if node.op_type in pools and readers[node.input[0]] == 1
    ]


def with_free_batch(model: onnx.ModelProto, source: str) -> onnx.ModelProto:
    """A copy whose input ``source`` takes any number of pictures.

    A fixed number is freed in the input, in the outputs, and in the shapes that
    Reshape nodes carry; whether that was enough shows when it is run.
    """
    freed = type(model)()
    freed.CopyFrom(model)
    (entry,) = [value for value in freed.graph.input if value.name == source]
    batch = entry.type.tensor_type.shape.dim[0]
    fixed = int(batch.dim_value)
    batch.dim_param = "N"
    if not fixed:
        return freed
    del freed.graph.value_info[:]
    for value in freed.graph.output:
        value.type.tensor_type.ClearField("shape")
    shapes = {
        node.input[1]
        for node in freed.graph.node
        if node.op_type == "Reshape" and len(node.input) > 1
    }
    for holder in _constants(freed, shapes):
        _free_first(holder, fixed)
    return freed


def _constants(model: onnx.ModelProto, names: set[str]) -> Iterable[onnx.TensorProto]:
    yield from (one for one in model.graph.initializer if one.name in names)
    for node in model.graph.node:
        if node.op_type == "Constant" and names.intersection(node.output):
            yield from (a.t for a in node.attribute if a.name == "value")


def _free_first(holder: onnx.TensorProto, fixed: int) -> None:
    from onnx import numpy_helper

    shape = numpy_helper.to_array(holder)
    if shape.ndim != 1 or shape.size < 2 or shape[0] != fixed:
        return
    free = shape.copy()
    free[0] = 0  # "as long as the input's first axis"
    holder.CopyFrom(numpy_helper.from_array(free, holder.name))


class Seam:
    """Sews nodes before and behind the body of a model."""

    def __init__(self, body: onnx.ModelProto, version: int) -> None:
        self.model = body
        self._version = version
        self._before: list[onnx.NodeProto] = []
        self._count = 0

    def first(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        """A node before the body; gives back the name of its output."""
        from onnx import helper

        output = self._name(operator)
        made = helper.make_node(operator, inputs, [output], output, **attributes)
        self._before.append(made)
        return output

    def last(
        self,
        operator: str,
        inputs: list[str],
        output: str | None = None,
        **attributes: Any,
    ) -> str:
        """A node behind the body; gives back the name of its output."""
        from onnx import helper

        output = output or self._name(operator)
        made = helper.make_node(operator, inputs, [output], output, **attributes)
        self.model.graph.node.append(made)
        return output

    def mean(self, tensor: str, axes: tuple[int, int]) -> str:
        """The mean over two axes, which stay as axes of length 1."""
        if self._version < 18:
            return self.last("ReduceMean", [tensor], axes=list(axes), keepdims=1)
        listed = self.constant(np.array(axes, np.int64))
        return self.last("ReduceMean", [tensor, listed], keepdims=1)

    def constant(self, value: npt.NDArray[Any]) -> str:
        """A tensor that never changes."""
        from onnx import numpy_helper

        name = self._name("constant")
        self.model.graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def replace_input(self, name: str, by: str, side: int) -> None:
        """Let ``images`` of this side be the only input; ``by`` takes the old one's.

        Nodes that were made by ``first`` go in front of all others.
        """
        from onnx import TensorProto, helper

        graph = self.model.graph
        for node in graph.node:
            _rename_inputs(node, name, by)
        body = [type(n).FromString(n.SerializeToString()) for n in graph.node]
        del graph.node[:]
        graph.node.extend([*self._before, *body])
        del graph.input[:]
        graph.input.append(
            helper.make_tensor_value_info(
                "images", TensorProto.UINT8, ["N", side, side, 3]
            )
        )

    def output(self, name: str, number: int) -> None:
        """Put out a tensor of ONNX's type ``number``."""
        from onnx import helper

        self.model.graph.output.append(
            helper.make_tensor_value_info(name, number, None)
        )

    def _name(self, what: str) -> str:
        self._count += 1
        return f"lookalike/{what}{self._count}"


def _rename_inputs(node: onnx.NodeProto, old: str, new: str) -> None:
    """Let a node, and what runs inside it, read another tensor."""
    for number, name in enumerate(node.input):
        if name == old:
            node.input[number] = new
    for attribute in node.attribute:
        for graph in (*attribute.graphs, attribute.g):
            for inner in graph.node:
                _rename_inputs(inner, old, new)
