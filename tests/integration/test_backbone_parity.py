"""Exported networks against PyTorch itself, which only CI installs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from checkpoints import NARROW, Weights, resnet
from lookalike.backbones.checkpoint import read_checkpoint
from lookalike.backbones.published import ARCHITECTURES, PUBLISHED, exported
from reference_networks import Tensor, features

torch: Any = pytest.importorskip("torch", reason="PyTorch is not installed")

SIDES = {"inception_v3": 107}
COUNT = 4


class TorchLayers:
    """The layers on PyTorch, in float32."""

    def __init__(self, weights: Weights) -> None:
        self._weights = {k: torch.from_numpy(v.copy()) for k, v in weights.items()}

    def has(self, name: str) -> bool:
        return name in self._weights

    def conv(
        self, x: Tensor, name: str, stride: int, padding: tuple[int, int], groups: int
    ) -> Tensor:
        weight = self._weights[f"{name}.weight"]
        bias = self._weights.get(f"{name}.bias")
        conv2d = torch.nn.functional.conv2d
        return conv2d(x, weight, bias, stride, padding, groups=groups)

    def norm(self, x: Tensor, name: str, epsilon: float) -> Tensor:
        mean, variance, scale, shift = (
            self._weights[f"{name}.{part}"]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        batch_norm = torch.nn.functional.batch_norm
        return batch_norm(x, mean, variance, scale, shift, eps=epsilon)

    def relu(self, x: Tensor) -> Tensor:
        return torch.relu(x)

    def max_pool(self, x: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
        return torch.nn.functional.max_pool2d(x, kernel, stride, padding)

    def average_pool(self, x: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(x, 3, 1, 1)

    def concatenate(self, parts: list[Tensor]) -> Tensor:
        return torch.cat(parts, 1)


def embedded_by_torch(
    weights: Weights, architecture: str, images: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float32]:
    normalisation = PUBLISHED[architecture].normalisation
    mean, std = (
        torch.tensor(values)[:, None, None]
        for values in (normalisation.mean, normalisation.std)
    )
    planes = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        found = features(architecture, TorchLayers(weights), (planes - mean) / std)
        pooled = torch.nn.functional.normalize(found.mean(dim=(2, 3)))
    embedding: npt.NDArray[np.float32] = pooled.numpy()
    return embedding


def embedded_by_us(
    weights: Weights, architecture: str, images: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float32]:
    model = exported(weights, architecture, side=images.shape[1])
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (embedding,) = session.run(["embedding"], {"images": images})
    return np.asarray(embedding)


def pictures(side: int) -> npt.NDArray[np.uint8]:
    generator = np.random.default_rng(2)
    return generator.integers(0, 256, (COUNT, side, side, 3)).astype(np.uint8)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_exported_network_agrees_with_pytorch(architecture: str) -> None:
    weights = NARROW[architecture]()
    images = pictures(SIDES.get(architecture, 64))

    ours = embedded_by_us(weights, architecture, images)

    theirs = embedded_by_torch(weights, architecture, images)
    assert (ours * theirs).sum(axis=1) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_resnet50_of_the_usual_width_and_side_agrees_with_pytorch() -> None:
    weights = resnet((3, 4, 6, 3), bottleneck=True, base=64)
    images = pictures(224)

    ours = embedded_by_us(weights, "resnet50", images)

    theirs = embedded_by_torch(weights, "resnet50", images)
    assert ours.shape == (COUNT, 2048)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("is_zip", [True, False])
def test_what_pytorch_has_saved_is_read_as_it_was(tmp_path: Path, is_zip: bool) -> None:
    path = tmp_path / "weights.pth"
    wide = torch.arange(24.0).reshape(4, 6)
    saved = {
        "plain": wide,
        "turned": wide.T,
        "part": wide[1:3, ::2],
        "half": wide.half(),
        "count": torch.tensor(7),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    torch.save(saved, path, _use_new_zipfile_serialization=is_zip)

    found = read_checkpoint(path)

    assert set(found) == set(saved)
    for name, value in saved.items():
        assert np.array_equal(found[name], value.detach().numpy())
        assert found[name].dtype == value.detach().numpy().dtype
