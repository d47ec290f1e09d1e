"""Static quantisation to int8, as processors with int8 dot products like it best.

Activations unsigned, weights signed and scaled per output channel, in QDQ form: with
signed activations ONNX Runtime 1.31 is 2.8 times slower on x86. The range of each
activation comes from pictures, the *calibration*: its least and its greatest value.
Ranges that cut off the rarest hundred thousandth, or minimise the squared error, were
measured to be worse on a trained ResNet-18 (top-10 overlap of activations alone 0.968
and 0.966 instead of 0.970; cutting off a thousandth, 0.80): the rare values are those
of pictures with hard black and white, and such pictures are searched, too.

What stays float: everything behind the last large layer, so that the embedding and the
feature map are computed from numbers that were rounded once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import version_converter

from lookalike.backbones.folding import (
    FRAME_OPSET,
    Folded,
    Pixels,
    fold,
    take_pixels,
)
from lookalike.backbones.rounding import round_weights
from lookalike.backbones.wiring import Wiring
from lookalike.errors import Misconfigured

NOTE_FOLDED = "lookalike.normalisation"  # a metadata property of the file

# Layers worth int8, and what lies between them and needs no way back to float.
LARGE = ("Conv", "Gemm", "MatMul")
OPERATORS = [
    *LARGE,
    *("Add", "Mul", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool"),
    *("Relu", "Clip", "LeakyRelu", "Sigmoid", "Flatten", "Reshape", "Transpose"),
]
# A matrix below this many weights does not count as large: a projection of 2,048
# numbers to 512, once a picture, costs nothing in float.
SMALL_MATRIX = 2**21


def quantise(
    source: Path | onnx.ModelProto,
    batches: Iterable[Pixels],
) -> onnx.ModelProto:
    """The int8 network of a float one, of the same contract.

    Where it is found (``lookalike.backbones.folding``), the normalisation of the
    pixels is folded into the first convolution, which then takes them as they are. The
    metadata property ``NOTE_FOLDED`` of the result says how truly (``exact``,
    ``exact, framed``, ``exact but at the border``), or ``none``.

    Args:
        source: a float network, images uint8 ``[N, S, S, 3]`` in; or its file.
        batches: pictures to calibrate on, uint8 ``[n, S, S, 3]`` each; a hundred or
            two are enough.

    Raises:
        Misconfigured: the network is quantised already or cannot be quantised, or
            there are no pictures.
    """
    model = onnx.load(source) if isinstance(source, Path) else source
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise Misconfigured("this network is quantised already")
    plain = _simplified(_upgraded(model))
    folded = fold(plain)
    network = plain if folded is None else folded.model
    _name_nodes(network.graph)
    round_weights(network.graph)
    feed = _Feed(batches, folded)
    quantised = _quantised(network, folded, feed)
    if folded is not None:
        take_pixels(quantised, folded, model.graph.input[0])
    exactness = "none" if folded is None else folded.note
    del quantised.metadata_props[:]  # ONNX Runtime's notes to itself
    quantised.metadata_props.add(key=NOTE_FOLDED, value=exactness)
    onnx.checker.check_model(quantised)
    return quantised


def folding_of(model: onnx.ModelProto) -> str:
    """What ``NOTE_FOLDED`` says of a network that ``quantise`` made."""
    notes = [str(p.value) for p in model.metadata_props if p.key == NOTE_FOLDED]
    return notes[0] if notes else "unknown"


def _upgraded(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network in the operators that laying a frame takes, where that can be."""
    versions = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
    if max(versions) >= FRAME_OPSET:
        return model
    try:
        return version_converter.convert_version(model, FRAME_OPSET)
    except (version_converter.ConvertError, RuntimeError):
        return model  # an operator that changed in a way the converter does not know


def _simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network after ONNX Runtime's basic rewriting, still of standard operators.

    Constants are computed and batch normalisations folded.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = (
        onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    )
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory(prefix="lookalike-quantise-") as folder:
        options.optimized_model_filepath = f"{folder}/simple.onnx"
        try:
            onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's errors share no class of their own
            raise Misconfigured(f"ONNX Runtime cannot load it: {error}") from error
        return onnx.load(options.optimized_model_filepath)


class _Feed:
    """Calibration pictures as inputs of a network, again and again.

    ONNX Runtime takes them one at a time by ``get_next``.

    Raises:
        Misconfigured: there are none.
    """

    def __init__(self, batches: Iterable[Pixels], folded: Folded | None) -> None:
        self._batches = [batch for batch in batches if len(batch)]
        if not self._batches:
            raise Misconfigured("there are no pictures to calibrate on")
        self._folded = folded
        self._left = iter(self)

    def __iter__(self) -> Iterator[dict[str, npt.NDArray[Any]]]:
        for batch in self._batches:
            if self._folded is None:
                yield {"images": batch}
            else:
                yield {self._folded.tensor: self._folded.input_of(batch)}

    def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
        return next(self._left, None)


def _quantised(
    model: onnx.ModelProto, folded: Folded | None, feed: _Feed
) -> onnx.ModelProto:
    from onnxruntime.quantization import (
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quant_utils,
        quantize_static,
    )

    quant_utils.add_pre_process_metadata(model)  # _simplified did it
    options: dict[str, Any] = {}
    if folded is not None:
        pixels = {
            "quant_type": QuantType.QUInt8,
            "scale": np.array(folded.scale),
            "zero_point": np.array(folded.zero_point),
        }
        options["TensorQuantOverrides"] = {folded.tensor: [pixels]}
    with tempfile.TemporaryDirectory(prefix="lookalike-quantise-") as folder:
        source = Path(folder, "float.onnx")  # a model in memory it would change
        onnx.save(model, source)
        try:
            quantize_static(
                source,
                f"{folder}/int8.onnx",
                feed,
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=OPERATORS,
                nodes_to_exclude=_kept_float(model.graph),
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
                calibrate_method=CalibrationMethod.MinMax,
                extra_options=options,
            )
        except Exception as error:  # it raises whatever goes wrong inside
            raise Misconfigured(f"it cannot be quantised: {error}") from error
        return onnx.load(f"{folder}/int8.onnx")


def _name_nodes(graph: onnx.GraphProto) -> None:
    """Give each node a name of its own: layers are told apart by it."""
    for number, node in enumerate(graph.node):
        node.name = f"{number}/{node.op_type}"


def _kept_float(graph: onnx.GraphProto) -> list[str]:
    """The nodes behind the last large layer, and those before the first."""
    wiring = Wiring(graph)
    large = [node for node in graph.node if _is_large(node, wiring)]
    leading = {node.name for node in wiring.before(large)}
    following = _reached(graph, {node.name for node in large})
    quantised = leading & following
    return [node.name for node in graph.node if node.name not in quantised]


def _is_large(node: onnx.NodeProto, wiring: Wiring) -> bool:
    if node.op_type == "Conv":
        return True
    weights = wiring.constant(node.input[1]) if node.op_type in LARGE else None
    return weights is not None and weights.size >= SMALL_MATRIX


def _reached(graph: onnx.GraphProto, names: set[str]) -> set[str]:
    """Those nodes and every node that their results reach."""
    reached, tensors = set[str](), set[str]()
    for node in graph.node:  # in an order in which each comes after what it takes
        if node.name in names or not tensors.isdisjoint(node.input):
            reached.add(node.name)
            tensors.update(node.output)
    return reached
