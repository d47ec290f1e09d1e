"""ResNet, Wide ResNet and ResNeXt, from the weights of torchvision's layout.

Deep Residual Learning (He et al., arXiv 1512.03385) in the variant "v1.5", whose
bottlenecks step in their 3x3 convolution; Wide Residual Networks (arXiv 1605.07146)
and ResNeXt (arXiv 1611.05431) are the same with other widths and groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lookalike.backbones.graph import BatchNorm, Graph, Normalisation, first_weight
from lookalike.backbones.layers import Layers

if TYPE_CHECKING:
    import onnx

_EPSILON = 1e-5  # PyTorch's default, which these were trained with


@dataclass(frozen=True)
class Resnet:
    """Which ResNet: blocks in each of four stages, and groups of the 3x3 layers.

    Widths need not be said: they are in the weights.
    """

    blocks: tuple[int, int, int, int]
    bottleneck: bool = True
    groups: int = 1

    def model(
        self, name: str, layers: Layers, normalisation: Normalisation, side: int
    ) -> onnx.ModelProto:
        """The network as ONNX.

        Raises:
            Misconfigured: the weights are not of this network.
        """
        writer = _Writer(Graph(), layers, self)
        return writer.write(name, normalisation, side)


class _Writer:
    """Writes one ResNet into one graph."""

    def __init__(self, graph: Graph, layers: Layers, resnet: Resnet) -> None:
        self._graph = graph
        self._layers = layers
        self._resnet = resnet

    def write(
        self, name: str, normalisation: Normalisation, side: int
    ) -> onnx.ModelProto:
        graph = self._graph
        weight, bias = self._norm("bn1").folded(self._layers.weight("conv1", 4))
        x = graph.convolution(
            "conv1",
            graph.centred(normalisation),
            first_weight(weight, normalisation),
            bias,
            stride=2,
            padding=(3, 3),
        )
        x = graph.relu("conv1.relu", x)
        x = graph.max_pool("maxpool", x, kernel=3, stride=2, padding=1)
        for stage, blocks in enumerate(self._resnet.blocks, start=1):
            for number in range(blocks):
                stride = 2 if stage > 1 and number == 0 else 1
                x = self._block(f"layer{stage}.{number}", x, stride)
        if self._layers.has("head.weight"):
            x = self._head(x)
        self._layers.expect_no_more(("layer", "conv1", "bn1"))
        return graph.finished(name, x, side=side)

    def _head(self, x: str) -> str:
        """A last 1x1 convolution, in place of a classifier (infra/backbone)."""
        weight = self._layers.weight("head", 4)
        return self._graph.convolution("head", x, weight, self._layers.bias("head"))

    def _block(self, name: str, x: str, stride: int) -> str:
        graph = self._graph
        if self._resnet.bottleneck:
            y = graph.relu(f"{name}.relu1", self._folded(name, 1, x))
            y = self._folded(name, 2, y, stride=stride, groups=self._resnet.groups)
            y = graph.relu(f"{name}.relu2", y)
            y = self._folded(name, 3, y)
        else:
            y = self._folded(name, 1, x, stride=stride)
            y = self._folded(name, 2, graph.relu(f"{name}.relu1", y))
        if self._layers.has(f"{name}.downsample.0.weight"):
            x = self._shortcut(f"{name}.downsample", x, stride)
        return graph.relu(name, graph.node("Add", [y, x], f"{name}.sum"))

    def _folded(
        self, block: str, number: int, x: str, *, stride: int = 1, groups: int = 1
    ) -> str:
        """The block's convolution of that number, its normalisation folded in."""
        weight = self._layers.weight(f"{block}.conv{number}", 4)
        weight, bias = self._norm(f"{block}.bn{number}").folded(weight)
        height, width = weight.shape[2:]
        return self._graph.convolution(
            f"{block}.conv{number}",
            x,
            weight,
            bias,
            stride=stride,
            padding=(height // 2, width // 2),
            groups=groups,
        )

    def _shortcut(self, name: str, x: str, stride: int) -> str:
        weight = self._layers.weight(f"{name}.0", 4)
        weight, bias = self._norm(f"{name}.1").folded(weight)
        return self._graph.convolution(name, x, weight, bias, stride=stride)

    def _norm(self, name: str) -> BatchNorm:
        return self._layers.batch_norm(name, _EPSILON)
