"""Inception-v3 (Szegedy et al., arXiv 1512.00567), from torchvision's weights.

Every convolution has a batch normalisation and a ReLU behind it. Kernels are in the
weights, and a kernel is padded to keep the size unless the table says that the layer
makes the picture smaller, so little more than the names is written here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lookalike.backbones.graph import Graph, Normalisation, first_weight
from lookalike.backbones.layers import Layers

if TYPE_CHECKING:
    import onnx

_EPSILON = 1e-3

# Branches of the blocks: layers one after the other. `!` steps by 2 without padding;
# a last entry of two names is two layers side by side; `mean` and `max` are poolings.
Branch = tuple[str | tuple[str, str], ...]

_A: tuple[Branch, ...] = (
    ("branch1x1",),
    ("branch5x5_1", "branch5x5_2"),
    ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"),
    ("mean", "branch_pool"),
)
_B: tuple[Branch, ...] = (
    ("branch3x3!",),
    ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3!"),
    ("max",),
)
_C: tuple[Branch, ...] = (
    ("branch1x1",),
    ("branch7x7_1", "branch7x7_2", "branch7x7_3"),
    (*(f"branch7x7dbl_{number}" for number in range(1, 6)),),
    ("mean", "branch_pool"),
)
_D: tuple[Branch, ...] = (
    ("branch3x3_1", "branch3x3_2!"),
    ("branch7x7x3_1", "branch7x7x3_2", "branch7x7x3_3", "branch7x7x3_4!"),
    ("max",),
)
_E: tuple[Branch, ...] = (
    ("branch1x1",),
    ("branch3x3_1", ("branch3x3_2a", "branch3x3_2b")),
    ("branch3x3dbl_1", "branch3x3dbl_2", ("branch3x3dbl_3a", "branch3x3dbl_3b")),
    ("mean", "branch_pool"),
)
_BLOCKS = {
    **dict.fromkeys(("Mixed_5b", "Mixed_5c", "Mixed_5d"), _A),
    "Mixed_6a": _B,
    **dict.fromkeys(("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"), _C),
    "Mixed_7a": _D,
    **dict.fromkeys(("Mixed_7b", "Mixed_7c"), _E),
}


class InceptionV3:
    """Inception-v3 without its auxiliary classifier."""

    def model(
        self, name: str, layers: Layers, normalisation: Normalisation, side: int
    ) -> onnx.ModelProto:
        """The network as ONNX.

        Raises:
            Misconfigured: the weights are not of this network.
        """
        writer = _Writer(Graph(), layers, normalisation)
        return writer.write(name, side)


class _Writer:
    def __init__(
        self, graph: Graph, layers: Layers, normalisation: Normalisation
    ) -> None:
        self._graph = graph
        self._layers = layers
        self._normalisation = normalisation

    def write(self, name: str, side: int) -> onnx.ModelProto:
        graph = self._graph
        x = graph.centred(self._normalisation)
        x = self._layer("Conv2d_1a_3x3", x, stride=2, padded=False)
        x = self._layer("Conv2d_2a_3x3", x, padded=False)
        x = self._layer("Conv2d_2b_3x3", x)
        x = graph.max_pool("maxpool1", x, kernel=3, stride=2)
        x = self._layer("Conv2d_3b_1x1", x)
        x = self._layer("Conv2d_4a_3x3", x, padded=False)
        x = graph.max_pool("maxpool2", x, kernel=3, stride=2)
        for block, branches in _BLOCKS.items():
            ends = [
                end for branch in branches for end in self._branch(block, branch, x)
            ]
            x = graph.concatenation(block, ends)
        self._layers.expect_no_more(("Conv2d", "Mixed"))
        return graph.finished(name, x, side=side)

    def _branch(self, block: str, branch: Branch, x: str) -> list[str]:
        for step in branch:
            if isinstance(step, tuple):
                return [self._layer(f"{block}.{one}", x) for one in step]
            if step == "mean":
                x = self._graph.average_pool(f"{block}.mean", x, kernel=3, padding=1)
            elif step == "max":
                x = self._graph.max_pool(f"{block}.max", x, kernel=3, stride=2)
            elif step.endswith("!"):
                layer = f"{block}.{step.removesuffix('!')}"
                x = self._layer(layer, x, stride=2, padded=False)
            else:
                x = self._layer(f"{block}.{step}", x)
        return [x]

    def _layer(self, name: str, x: str, *, stride: int = 1, padded: bool = True) -> str:
        weight = self._layers.weight(f"{name}.conv", 4)
        norm = self._layers.batch_norm(f"{name}.bn", _EPSILON)
        weight, bias = norm.folded(weight)
        if x == "images_centred":
            weight = first_weight(weight, self._normalisation)
        height, width = weight.shape[2:]
        padding = (height // 2, width // 2) if padded else (0, 0)
        x = self._graph.convolution(
            name, x, weight, bias, stride=stride, padding=padding
        )
        return self._graph.relu(f"{name}.relu", x)
