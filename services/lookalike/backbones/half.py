"""The same network computing in half precision, for TensorRT.

TensorRT 11 takes the precision of each layer from the graph alone (its ``--fp16`` is
gone), and TensorRT 10 can be told to, so the halves are written into the graph.
"""

from __future__ import annotations

import onnx

# What stays in float: the arithmetic on pixels of up to 255, and on lengths.
FLOAT = ("Sub", "Div", "LpNormalization", "ReduceL2", "ReduceSum", "ReduceSumSquare")
FLOAT_TOO = ("Sqrt", "Pow", "Clip", "Max")


def as_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """A float network with weights and activations in float16, of the same contract.

    Inputs and outputs keep their types; normalisation stays in float32.
    """
    # Imported here: no server needs it.
    from onnxruntime.transformers import float16

    source = onnx.ModelProto()
    source.CopyFrom(model)
    for number, node in enumerate(source.graph.node):
        node.name = node.name or f"node{number}"  # the casts are named after nodes
    made: onnx.ModelProto = float16.convert_float_to_float16(
        source,
        keep_io_types=True,
        op_block_list=[*float16.DEFAULT_OP_BLOCK_LIST, *FLOAT, *FLOAT_TOO],
    )
    _sort(made.graph)
    onnx.checker.check_model(made)
    return made


def _sort(graph: onnx.GraphProto) -> None:
    """Put each node after those whose results it takes; the converter does not."""
    known = {"", *(value.name for value in (*graph.input, *graph.initializer))}
    waiting = [onnx.NodeProto.FromString(n.SerializeToString()) for n in graph.node]
    del graph.node[:]
    while waiting:
        later = []
        for node in waiting:
            if known.issuperset(node.input):
                graph.node.append(node)
                known.update(node.output)
            else:
                later.append(node)
        assert len(later) < len(waiting), "the graph has a cycle"
        waiting = later
