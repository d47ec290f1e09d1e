"""The networks of torchvision, forward, as plainly as they can be written.

Written against a handful of layers, so that the same lines run on NumPy (here) and on
PyTorch (in the test that compares with it).
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from checkpoints import Weights

Tensor = Any  # of NumPy or of PyTorch, [N, C, h, w]


class Layers(Protocol):
    """What the networks are made of."""

    def conv(
        self, x: Tensor, name: str, stride: int, padding: tuple[int, int], groups: int
    ) -> Tensor: ...

    def norm(self, x: Tensor, name: str, epsilon: float) -> Tensor: ...

    def relu(self, x: Tensor) -> Tensor: ...

    def max_pool(self, x: Tensor, kernel: int, stride: int, padding: int) -> Tensor: ...

    def average_pool(self, x: Tensor) -> Tensor: ...

    def concatenate(self, parts: list[Tensor]) -> Tensor: ...

    def has(self, name: str) -> bool: ...


class NumpyLayers:
    """The layers on NumPy, in float64."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights

    def has(self, name: str) -> bool:
        return name in self._weights

    def conv(
        self, x: Tensor, name: str, stride: int, padding: tuple[int, int], groups: int
    ) -> Tensor:
        weight = self._weights[f"{name}.weight"].astype(np.float64)
        bias = self._weights.get(f"{name}.bias", np.zeros(1, np.float32))
        windows = self._windows(x, weight.shape[2:], stride, padding, 0)
        parts = zip(
            np.split(windows, groups, axis=1), np.split(weight, groups), strict=True
        )
        out = [np.einsum("nchwij,ocij->nohw", w, k, optimize=True) for w, k in parts]
        return np.concatenate(out, axis=1) + bias[:, None, None]

    def norm(self, x: Tensor, name: str, epsilon: float) -> Tensor:
        scale, shift, mean, variance = (
            self._weights[f"{name}.{part}"].astype(np.float64)[:, None, None]
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(variance + epsilon) * scale + shift

    def relu(self, x: Tensor) -> Tensor:
        return np.maximum(x, 0)

    def max_pool(self, x: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
        sides = (kernel, kernel)
        windows = self._windows(x, sides, stride, (padding, padding), -np.inf)
        return windows.max(axis=(4, 5))

    def average_pool(self, x: Tensor) -> Tensor:
        return self._windows(x, (3, 3), 1, (1, 1), 0).mean(axis=(4, 5))

    def concatenate(self, parts: list[Tensor]) -> Tensor:
        return np.concatenate(parts, axis=1)

    def _windows(
        self,
        x: Tensor,
        kernel: tuple[int, ...],
        stride: int,
        padding: tuple[int, int],
        filling: float,
    ) -> Tensor:
        around = ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2)
        padded = np.pad(x, around, constant_values=filling)
        windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(2, 3))
        return windows[:, :, ::stride, ::stride]


def resnet(layers: Layers, x: Tensor, groups: int = 1) -> Tensor:
    """Any ResNet, up to its last feature map."""
    x = layers.conv(x, "conv1", 2, (3, 3), 1)
    x = layers.relu(layers.norm(x, "bn1", 1e-5))
    x = layers.max_pool(x, 3, 2, 1)
    for stage in (1, 2, 3, 4):
        number = 0
        while layers.has(f"layer{stage}.{number}.conv1.weight"):
            stride = 2 if stage > 1 and number == 0 else 1
            x = _resnet_block(layers, x, f"layer{stage}.{number}", stride, groups)
            number += 1
    return x


def _resnet_block(
    layers: Layers, x: Tensor, name: str, stride: int, groups: int
) -> Tensor:
    def one(y: Tensor, part: int, step: int, pad: int, shared: int = 1) -> Tensor:
        y = layers.conv(y, f"{name}.conv{part}", step, (pad, pad), shared)
        return layers.norm(y, f"{name}.bn{part}", 1e-5)

    if layers.has(f"{name}.conv3.weight"):
        y = layers.relu(one(x, 1, 1, 0))
        y = layers.relu(one(y, 2, stride, 1, groups))
        y = one(y, 3, 1, 0)
    else:
        y = layers.relu(one(x, 1, stride, 1))
        y = one(y, 2, 1, 1)
    if layers.has(f"{name}.downsample.0.weight"):
        x = layers.conv(x, f"{name}.downsample.0", stride, (0, 0), 1)
        x = layers.norm(x, f"{name}.downsample.1", 1e-5)
    return layers.relu(y + x)


def vgg16(layers: Layers, x: Tensor) -> Tensor:
    """VGG-16, up to its last pooling."""
    position = 0
    for count in (2, 2, 3, 3, 3):
        for _ in range(count):
            x = layers.relu(layers.conv(x, f"features.{position}", 1, (1, 1), 1))
            position += 2
        x = layers.max_pool(x, 2, 2, 0)
        position += 1
    return x


def inception_v3(layers: Layers, x: Tensor) -> Tensor:
    """Inception-v3, up to its last feature map."""

    def layer(
        y: Tensor, name: str, stride: int = 1, pad: tuple[int, int] = (0, 0)
    ) -> Tensor:
        y = layers.conv(y, f"{name}.conv", stride, pad, 1)
        return layers.relu(layers.norm(y, f"{name}.bn", 1e-3))

    def block_a(y: Tensor, name: str) -> Tensor:
        one = layer(y, f"{name}.branch1x1")
        five = layer(y, f"{name}.branch5x5_1")
        five = layer(five, f"{name}.branch5x5_2", pad=(2, 2))
        double = layer(y, f"{name}.branch3x3dbl_1")
        double = layer(double, f"{name}.branch3x3dbl_2", pad=(1, 1))
        double = layer(double, f"{name}.branch3x3dbl_3", pad=(1, 1))
        pool = layer(layers.average_pool(y), f"{name}.branch_pool")
        return layers.concatenate([one, five, double, pool])

    def block_c(y: Tensor, name: str) -> Tensor:
        one = layer(y, f"{name}.branch1x1")
        seven = layer(y, f"{name}.branch7x7_1")
        seven = layer(seven, f"{name}.branch7x7_2", pad=(0, 3))
        seven = layer(seven, f"{name}.branch7x7_3", pad=(3, 0))
        double = layer(y, f"{name}.branch7x7dbl_1")
        double = layer(double, f"{name}.branch7x7dbl_2", pad=(3, 0))
        double = layer(double, f"{name}.branch7x7dbl_3", pad=(0, 3))
        double = layer(double, f"{name}.branch7x7dbl_4", pad=(3, 0))
        double = layer(double, f"{name}.branch7x7dbl_5", pad=(0, 3))
        pool = layer(layers.average_pool(y), f"{name}.branch_pool")
        return layers.concatenate([one, seven, double, pool])

    def block_e(y: Tensor, name: str) -> Tensor:
        one = layer(y, f"{name}.branch1x1")
        three = layer(y, f"{name}.branch3x3_1")
        three_a = layer(three, f"{name}.branch3x3_2a", pad=(0, 1))
        three_b = layer(three, f"{name}.branch3x3_2b", pad=(1, 0))
        double = layer(y, f"{name}.branch3x3dbl_1")
        double = layer(double, f"{name}.branch3x3dbl_2", pad=(1, 1))
        double_a = layer(double, f"{name}.branch3x3dbl_3a", pad=(0, 1))
        double_b = layer(double, f"{name}.branch3x3dbl_3b", pad=(1, 0))
        pool = layer(layers.average_pool(y), f"{name}.branch_pool")
        return layers.concatenate([one, three_a, three_b, double_a, double_b, pool])

    x = layer(x, "Conv2d_1a_3x3", stride=2)
    x = layer(x, "Conv2d_2a_3x3")
    x = layer(x, "Conv2d_2b_3x3", pad=(1, 1))
    x = layers.max_pool(x, 3, 2, 0)
    x = layer(x, "Conv2d_3b_1x1")
    x = layer(x, "Conv2d_4a_3x3")
    x = layers.max_pool(x, 3, 2, 0)
    for name in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        x = block_a(x, name)
    three = layer(x, "Mixed_6a.branch3x3", stride=2)
    double = layer(x, "Mixed_6a.branch3x3dbl_1")
    double = layer(double, "Mixed_6a.branch3x3dbl_2", pad=(1, 1))
    double = layer(double, "Mixed_6a.branch3x3dbl_3", stride=2)
    x = layers.concatenate([three, double, layers.max_pool(x, 3, 2, 0)])
    for name in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
        x = block_c(x, name)
    three = layer(x, "Mixed_7a.branch3x3_1")
    three = layer(three, "Mixed_7a.branch3x3_2", stride=2)
    seven = layer(x, "Mixed_7a.branch7x7x3_1")
    seven = layer(seven, "Mixed_7a.branch7x7x3_2", pad=(0, 3))
    seven = layer(seven, "Mixed_7a.branch7x7x3_3", pad=(3, 0))
    seven = layer(seven, "Mixed_7a.branch7x7x3_4", stride=2)
    x = layers.concatenate([three, seven, layers.max_pool(x, 3, 2, 0)])
    for name in ("Mixed_7b", "Mixed_7c"):
        x = block_e(x, name)
    return x


def features(architecture: str, layers: Layers, x: Tensor) -> Tensor:
    """The last feature map of an architecture, ``[N, C, h, w]``."""
    if architecture == "vgg16":
        return vgg16(layers, x)
    if architecture == "inception_v3":
        return inception_v3(layers, x)
    return resnet(layers, x, groups=32 if architecture.startswith("resnext") else 1)
