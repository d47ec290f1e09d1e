"""The student: a ResNet whose pooled last map is the embedding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

# One mean and one deviation for all channels (grey of ImageNet's average, in 0..255):
# a scalar folds exactly into the zero point and scale of an 8-bit input.
MEAN, STD = 115.0, 58.0


class Block(nn.Module):
    """Two 3 x 3 convolutions around a shortcut (He et al. 2015, figure 2)."""

    def __init__(self, entering: int, leaving: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(entering, leaving, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(leaving)
        self.second = nn.Conv2d(leaving, leaving, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(leaving)
        self.shortcut: nn.Module | None = None
        if stride != 1 or entering != leaving:
            self.shortcut = nn.Conv2d(entering, leaving, 1, stride, bias=False)
            self.shortcut_norm = nn.BatchNorm2d(leaving)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output, float ``[N, leaving, h, w]``."""
        y = torch.relu(self.first_norm(self.first(x)))
        y = self.second_norm(self.second(y))
        if self.shortcut is not None:
            x = self.shortcut_norm(self.shortcut(x))
        return torch.relu(y + x)


class Student(nn.Module):
    """ResNet-18 with a linear 1 x 1 convolution in place of a classifier.

    Takes float ``[N, 3, S, S]`` in 0..255 and gives the map ``[N, 512, S/32, S/32]``
    whose mean over the plane, at unit length, is the embedding.
    """

    def __init__(self, blocks: tuple[int, ...] = (2, 2, 2, 2), out: int = 512) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.stem_norm = nn.BatchNorm2d(64)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.ends = [sum(blocks[: stage + 1]) - 1 for stage in range(len(blocks))]
        layers: list[nn.Module] = []
        channels = 64
        for stage, depth in enumerate(blocks):
            for place in range(depth):
                width = 64 << stage
                stride = 2 if stage and not place else 1
                layers.append(Block(channels, width, stride))
                channels = width
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The last map, before pooling."""
        return self.levels(x)[-1]

    def levels(self, x: Tensor) -> list[Tensor]:
        """What the first three stages give, and the last map."""
        x = (x - MEAN) / STD
        x = self.pool(torch.relu(self.stem_norm(self.stem(x))))
        found = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in self.ends[:-1]:
                found.append(x)
        return [*found, self.head(x)]


def convolutions(student: Student) -> list[tuple[str, nn.Conv2d, nn.BatchNorm2d]]:
    """Each convolution and the normalisation after it, by the seed's names."""
    found = [("stem", student.stem, student.stem_norm)]
    for number, block in enumerate(student.blocks):
        assert isinstance(block, Block)
        found.append((f"b{number}a", block.first, block.first_norm))
        found.append((f"b{number}b", block.second, block.second_norm))
        if block.shortcut is not None:
            assert isinstance(block.shortcut, nn.Conv2d)
            found.append((f"b{number}d", block.shortcut, block.shortcut_norm))
    return found


def start_from(student: Student, seed: Path, pixels: Tensor) -> None:
    """Give a student the weights of an earlier backbone with folded normalisation.

    The statistics of each normalisation are taken from ``pixels`` (float
    ``[N, 3, S, S]``, 0..255), layer by layer, so that the student computes what the
    seed computed.
    """
    weights = {
        tensor.name: numpy_helper.to_array(tensor).astype(np.float32)
        for tensor in onnx.load(str(seed)).graph.initializer
    }
    mean, std = weights["mean"].reshape(3), weights["std"].reshape(3)
    for name, convolution, norm in convolutions(student):
        kernel, bias = weights[f"{name}_w_h"], weights[f"{name}_b"]
        if name == "stem":
            # As the seed took pixels with a mean and deviation for each channel.
            scale = (STD / std).reshape(1, 3, 1, 1)
            shift = ((MEAN - mean) / std).reshape(1, 3, 1, 1)
            bias = bias + (kernel * shift).sum((1, 2, 3))
            kernel = kernel * scale
        convolution.weight.data = torch.from_numpy(kernel)
        norm.bias.data = torch.from_numpy(bias)
        _match(student, convolution, norm, pixels)


@torch.no_grad()
def _match(
    student: Student, convolution: nn.Conv2d, norm: nn.BatchNorm2d, pixels: Tensor
) -> None:
    """Set a normalisation to the identity plus its bias, on what reaches it."""
    seen: list[Tensor] = []
    hook = convolution.register_forward_hook(lambda _m, _i, out: seen.append(out))
    student.eval()
    student(pixels)
    hook.remove()
    mean = seen[0].mean((0, 2, 3))
    variance = seen[0].var((0, 2, 3), unbiased=False)
    norm.running_mean = mean.clone()
    norm.running_var = variance.clone()
    norm.weight.data = (variance + norm.eps).sqrt()
    norm.bias.data = norm.bias.data + mean
