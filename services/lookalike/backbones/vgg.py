"""VGG-16 (Simonyan and Zisserman, arXiv 1409.1556), from torchvision's weights.

Only the 13 convolutions are taken. The embedding is the mean of what they see, 512
numbers; the three layers behind them, which most of the file is, name ImageNet's
classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lookalike.backbones.graph import Graph, Normalisation, first_weight
from lookalike.backbones.layers import Layers

if TYPE_CHECKING:
    import onnx

_CONVOLUTIONS = (2, 2, 3, 3, 3)  # before each pooling


class Vgg16:
    """VGG-16 without batch normalisation."""

    def model(
        self, name: str, layers: Layers, normalisation: Normalisation, side: int
    ) -> onnx.ModelProto:
        """The network as ONNX.

        Raises:
            Misconfigured: the weights are not of this network.
        """
        graph = Graph()
        x = graph.centred(normalisation)
        position = 0  # in torchvision's list of convolutions, ReLUs and poolings
        for stage, convolutions in enumerate(_CONVOLUTIONS, start=1):
            for _ in range(convolutions):
                layer = f"features.{position}"
                weight = layers.weight(layer, 4)
                if position == 0:
                    weight = first_weight(weight, normalisation)
                bias = layers.bias(layer)
                x = graph.convolution(layer, x, weight, bias, padding=(1, 1))
                x = graph.relu(f"{layer}.relu", x)
                position += 2
            x = graph.max_pool(f"pool{stage}", x, kernel=2, stride=2)
            position += 1
        layers.expect_no_more(("features",))
        return graph.finished(name, x, side=side)
