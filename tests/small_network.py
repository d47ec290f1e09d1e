"""A small float network of chance that keeps the contract of a backbone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from lookalike.backbones import Backbone, read

SIDE, DIMENSION = 24, 16
IMAGENET = (
    np.array([123.675, 116.28, 103.53], np.float32),
    np.array([58.395, 57.12, 57.375], np.float32),
)
EVEN = (np.float32(115), np.float32(58))  # one for all channels, a whole number

Layout = Literal["transpose-first", "normalise-first", "by-255"]


def network(
    mean: npt.ArrayLike = EVEN[0],
    std: npt.ArrayLike = EVEN[1],
    *,
    layout: Layout = "transpose-first",
    padding: int = 1,
    seed: int = 0,
) -> onnx.ModelProto:
    """Stem, pool and one residual block, a linear layer, and the mean of its map."""
    writer = _Writer(seed)
    x = writer.normalised(np.asarray(mean), np.asarray(std), layout)
    x = writer.relu(writer.convolution(x, "stem", 3, 12, 3, padding))
    x = writer.node(
        "MaxPool", [x], "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4
    )
    y = writer.relu(writer.convolution(x, "first", 12, 12, 3))
    y = writer.convolution(y, "second", 12, 12, 3)
    x = writer.relu(writer.node("Add", [y, x], "sum"))
    x = writer.convolution(x, "head", 12, DIMENSION, 1, 0)
    pooled = writer.node("GlobalAveragePool", [x], "pooled")
    flat = writer.node("Flatten", [pooled], "flat")
    writer.node("LpNormalization", [flat], "embedding", axis=1, p=2)
    half = writer.node("Cast", [x], "half", to=TensorProto.FLOAT16)
    writer.node("Transpose", [half], "feature_map", perm=[0, 2, 3, 1])
    return writer.model()


def stored(
    folder: Path, model: onnx.ModelProto, *, precision: str = "fp32"
) -> Backbone:
    """The network as a backbone in a folder of its own."""
    (folder / "1").mkdir(parents=True, exist_ok=True)
    weights = model.SerializeToString()
    (folder / "1" / "model.onnx").write_bytes(weights)
    manifest = {
        "name": "small",
        "version": "1",
        "side": SIDE,
        "resize": SIDE,
        "filter": "bilinear",
        "dimension": DIMENSION,
        "weights": {
            "file": "1/model.onnx",
            "sha256": hashlib.sha256(weights).hexdigest(),
            "precision": precision,
        },
    }
    (folder / "backbone.json").write_text(json.dumps(manifest))
    return read(folder)


def run(
    model: onnx.ModelProto, pixels: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float16]]:
    """What ONNX Runtime makes of it: embedding and feature map."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    embedding, feature_map = session.run(
        ["embedding", "feature_map"], {"images": pixels}
    )
    return embedding, feature_map


class _Writer:
    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, name: str, value: npt.NDArray[np.float32]) -> str:
        self._constants.append(numpy_helper.from_array(value, name))
        return name

    def normalised(
        self,
        mean: npt.NDArray[np.float32],
        std: npt.NDArray[np.float32],
        layout: Layout,
    ) -> str:
        x = self.node("Cast", ["images"], "float", to=TensorProto.FLOAT)
        nchw = layout != "normalise-first"
        if nchw:
            x = self.node("Transpose", [x], "nchw", perm=[0, 3, 1, 2])
        if mean.ndim and nchw:
            mean, std = mean.reshape(1, 3, 1, 1), std.reshape(1, 3, 1, 1)
        if layout == "by-255":
            share = self.constant("share", np.array(1 / 255, np.float32))
            x = self.node("Mul", [x, share], "one")
            mean, std = mean / np.float32(255), std / np.float32(255)
        x = self.node("Sub", [x, self.constant("mean", mean)], "centred")
        x = self.node("Div", [x, self.constant("std", std)], "scaled")
        if not nchw:
            x = self.node("Transpose", [x], "nchw", perm=[0, 3, 1, 2])
        return x

    def convolution(
        self, x: str, name: str, taken: int, given: int, size: int, padding: int = 1
    ) -> str:
        spread = np.sqrt(2 / (taken * size * size))
        shape = (given, taken, size, size)
        weight = self._rng.normal(0, spread, shape).astype(np.float32)
        bias = self._rng.normal(0, 0.1, given).astype(np.float32)
        inputs = [
            x,
            self.constant(f"{name}_weight", weight),
            self.constant(f"{name}_bias", bias),
        ]
        return self.node("Conv", inputs, name, pads=[padding] * 4)

    def relu(self, x: str) -> str:
        return self.node("Relu", [x], f"{x}_relu")

    def model(self) -> onnx.ModelProto:
        images = helper.make_tensor_value_info(
            "images", TensorProto.UINT8, ["N", SIDE, SIDE, 3]
        )
        outputs = [
            helper.make_tensor_value_info(
                "embedding", TensorProto.FLOAT, ["N", DIMENSION]
            ),
            helper.make_tensor_value_info(
                "feature_map", TensorProto.FLOAT16, ["N", "h", "w", DIMENSION]
            ),
        ]
        graph = helper.make_graph(
            self._nodes, "small", [images], outputs, self._constants
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 9
        return model
