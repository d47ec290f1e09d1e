"""ONNX graphs written node by node, without any training framework.

A ``Graph`` collects nodes and weights; what its methods take and give back are the
names of tensors, ``[N, C, h, w]`` unless said otherwise. It begins and ends by the
contract of a backbone: ``images`` in, ``embedding`` and ``feature_map`` out.

The arithmetic is ONNX's (github.com/onnx/onnx, docs/Operators.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import onnx

OPSET = 17
IR_VERSION = 9

Array = npt.NDArray[np.float32]
Sides = tuple[int, int]  # height, width

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Normalisation:
    """What is taken from each channel of pixels of 0 to 1, and what divides it."""

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


IMAGENET = Normalisation()


@dataclass(frozen=True)
class BatchNorm:
    """A batch normalisation at its end: ``(x - mean) * scale / sqrt(var + eps)``."""

    scale: Array
    shift: Array
    mean: Array
    variance: Array
    epsilon: float

    def folded(self, weight: Array) -> tuple[Array, Array]:
        """Weight and bias of the convolution that does both.

        In float64, because a folded weight is rounded once instead of thrice.
        """
        deviation = np.sqrt(self.variance.astype(np.float64) + self.epsilon)
        factor = self.scale.astype(np.float64) / deviation
        bias = self.shift.astype(np.float64) - self.mean * factor
        folded = weight.astype(np.float64) * factor[:, None, None, None]
        return folded.astype(np.float32), bias.astype(np.float32)


class Graph:
    """A network being written down."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def constant(self, name: str, value: npt.NDArray[Any]) -> str:
        """A tensor that never changes."""
        from onnx import numpy_helper

        self._weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(
        self, operator: str, inputs: Sequence[str], output: str, **attributes: Any
    ) -> str:
        """One node; gives back the name of what it puts out."""
        from onnx import helper

        made = helper.make_node(operator, list(inputs), [output], output, **attributes)
        self._nodes.append(made)
        return output

    # --- the beginning ---------------------------------------------------------------

    def centred(self, normalisation: Normalisation) -> str:
        """``images`` as float32 ``[N, 3, S, S]`` of 0 to 255, less the mean.

        Division by the deviation is left to the weights (``first_weight``). The mean
        cannot be: the zeros around a picture are added after it is taken away.
        Cast comes first because TensorRT does nothing else with bytes.
        """
        from onnx import TensorProto

        mean = np.array(normalisation.mean, np.float64) * 255
        wide = self.node("Cast", ["images"], "images_float", to=TensorProto.FLOAT)
        planes = self.node("Transpose", [wide], "images_nchw", perm=[0, 3, 1, 2])
        name = self.constant(
            "images_mean", mean.astype(np.float32)[None, :, None, None]
        )
        return self.node("Sub", [planes, name], "images_centred")

    # --- layers ----------------------------------------------------------------------

    def convolution(
        self,
        name: str,
        x: str,
        weight: Array,
        bias: Array,
        *,
        stride: int = 1,
        padding: Sides = (0, 0),
        groups: int = 1,
    ) -> str:
        """A convolution; ``weight`` is ``[out, in / groups, height, width]``."""
        kernel = list(weight.shape[2:])
        inputs = [
            x,
            self.constant(f"{name}.weight", weight),
            self.constant(f"{name}.bias", bias),
        ]
        return self.node(
            "Conv",
            inputs,
            name,
            kernel_shape=kernel,
            strides=[stride, stride],
            pads=[*padding, *padding],
            group=groups,
        )

    def relu(self, name: str, x: str) -> str:
        """What is below zero becomes zero."""
        return self.node("Relu", [x], name)

    def max_pool(
        self, name: str, x: str, *, kernel: int, stride: int, padding: int = 0
    ) -> str:
        """The greatest of every ``kernel`` by ``kernel``; padding never wins."""
        return self.node(
            "MaxPool",
            [x],
            name,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[padding] * 4,
        )

    def average_pool(self, name: str, x: str, *, kernel: int, padding: int) -> str:
        """The mean of every ``kernel`` by ``kernel``, step 1, padding counted as 0."""
        return self.node(
            "AveragePool",
            [x],
            name,
            kernel_shape=[kernel, kernel],
            strides=[1, 1],
            pads=[padding] * 4,
            count_include_pad=1,
        )

    def concatenation(self, name: str, parts: Sequence[str]) -> str:
        """Tensors one after the other along the channels."""
        return self.node("Concat", parts, name, axis=1)

    # --- the end ---------------------------------------------------------------------

    def finished(self, name: str, features: str, *, side: int) -> onnx.ModelProto:
        """The network whose last feature map this is, as a model that is checked.

        ``embedding`` is the mean of the map over the picture, at unit length.
        """
        from onnx import TensorProto

        mean = self.node("GlobalAveragePool", [features], "pooled")
        flat = self.node("Flatten", [mean], "pooled_flat")
        self.node("LpNormalization", [flat], "embedding", axis=1, p=2)
        # Cast first: the transpose then moves half the bytes.
        half = self.node("Cast", [features], "features_half", to=TensorProto.FLOAT16)
        self.node("Transpose", [half], "feature_map", perm=[0, 2, 3, 1])
        return checked(self._model(name, side))

    def _model(self, name: str, side: int) -> onnx.ModelProto:
        from onnx import TensorProto, helper

        kinds = {"embedding": TensorProto.FLOAT, "feature_map": TensorProto.FLOAT16}
        pixels = helper.make_tensor_value_info(
            "images", TensorProto.UINT8, ["N", side, side, 3]
        )
        graph = helper.make_graph(
            self._nodes,
            name,
            [pixels],
            [helper.make_tensor_value_info(out, kinds[out], None) for out in kinds],
            self._weights,
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="lookalike",
        )
        return with_output_shapes(model)


def first_weight(weight: Array, normalisation: Normalisation) -> Array:
    """A first convolution's weight for pixels of 0 to 255, centred but not divided."""
    factor = 255 * np.array(normalisation.std, np.float64)
    return (weight / factor[None, :, None, None]).astype(np.float32)


def with_output_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the shapes of its outputs filled in, their first side ``N``."""
    from onnx import helper, shape_inference

    inferred = shape_inference.infer_shapes(model, strict_mode=True)
    outputs = []
    for value in inferred.graph.output:
        kind = value.type.tensor_type
        sides = [side.dim_value for side in kind.shape.dim]
        outputs.append(
            helper.make_tensor_value_info(value.name, kind.elem_type, ["N", *sides[1:]])
        )
    finished = type(model)()
    finished.CopyFrom(model)
    del finished.graph.output[:]
    finished.graph.output.extend(outputs)
    return finished


def checked(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, if ONNX's own checker accepts it."""
    from onnx import checker

    checker.check_model(model, full_check=True)
    return model
