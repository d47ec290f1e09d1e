"""Write a trained student as a backbone: ``python export.py last.pt OUT --side 112``.

The graph is Lookalike's own (no exporter of PyTorch takes part); quantise it with
``lookalike backbone quantise``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
import torch
from network import MEAN, STD, Student, convolutions

from lookalike.backbones.graph import Normalisation
from lookalike.backbones.layers import Layers
from lookalike.backbones.resnet import Resnet


def weights_of(student: Student) -> dict[str, np.ndarray]:
    """The weights under the names of the public ResNets."""
    depths = (2, 2, 2, 2)
    stages = [
        f"layer{stage}.{place}"
        for stage, depth in enumerate(depths, start=1)
        for place in range(depth)
    ]
    parts = {"a": ("conv1", "bn1"), "b": ("conv2", "bn2")}
    parts["d"] = ("downsample.0", "downsample.1")
    weights: dict[str, np.ndarray] = {}
    for name, convolution, norm in convolutions(student):
        if name == "stem":
            kernel, normal = "conv1", "bn1"
        else:
            block = stages[int(name[1:-1])]
            kernel, normal = (f"{block}.{part}" for part in parts[name[-1]])
        weights[f"{kernel}.weight"] = convolution.weight.detach().numpy()
        for part in ("weight", "bias", "running_mean", "running_var"):
            weights[f"{normal}.{part}"] = getattr(norm, part).detach().numpy()
    weights["head.weight"] = student.head.weight.detach().numpy()
    weights["head.bias"] = student.head.bias.detach().numpy()
    return {name: np.ascontiguousarray(array) for name, array in weights.items()}


def exported(student: Student, side: int) -> onnx.ModelProto:
    """The student as a network of the embedding contract."""
    levels = Normalisation(mean=(MEAN / 255,) * 3, std=(STD / 255,) * 3)
    layers = Layers(weights_of(student), "student")
    return Resnet((2, 2, 2, 2), bottleneck=False).model(
        "resnet18", layers, levels, side
    )


def main() -> None:
    """Export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path, help="the .onnx file to write")
    parser.add_argument("--side", type=int, default=112)
    options = parser.parse_args()
    student = Student()
    student.load_state_dict(torch.load(options.checkpoint)["student"])
    onnx.save(exported(student.eval(), options.side), options.out)


if __name__ == "__main__":
    main()
