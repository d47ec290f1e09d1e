"""What the student is to say: the teacher's features in 512 directions."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Targets:
    """Turns the teacher's last linear map into targets.

    The teacher (MobileNetV2) takes its map of 7 x 7 x 320 through one 1 x 1
    convolution with ReLU6 to 1,280 features, whose mean over the plane it classifies.
    """

    scales: Tensor  # of the quantised maps, level by level
    zeros: Tensor
    weight: Tensor  # [1280, 320]
    bias: Tensor  # [1280]
    classes: Tensor  # [1001, 1280]
    classes_bias: Tensor  # [1001]
    mean: Tensor  # [512] of the targets over the views
    variance: float  # mean squared distance from it
    basis: Tensor  # [1280, 512], principal directions, the strong ones damped
    back: Tensor  # [512, 1280], the way back

    @classmethod
    def load(cls, path: Path) -> Targets:
        """From the file that views.py writes."""
        with np.load(path) as file:
            values = {name: torch.from_numpy(file[name]) for name in file.files}
        return cls(variance=float(values.pop("variance")), **values)

    def to(self, device: torch.device) -> Targets:
        """The same, there."""
        moved = {
            field.name: getattr(self, field.name).to(device)
            for field in fields(self)
            if field.name != "variance"
        }
        return replace(self, **moved)

    def level(self, teacher: Tensor, level: int) -> Tensor:
        """A map of the teacher, int8 ``[N, h, w, C]``, as float ``[N, C, h, w]``."""
        real = (teacher.float() - self.zeros[level]) * self.scales[level]
        return real.permute(0, 3, 1, 2)

    def features(self, teacher: Tensor) -> Tensor:
        """int8 ``[N, 7, 7, 320]`` to float ``[N, 1280, 7, 7]``."""
        linear = (teacher.float() - self.zeros[-1]) * self.scales[-1]
        return (
            functional.linear(linear, self.weight, self.bias)
            .clamp(0, 6)
            .permute(0, 3, 1, 2)
        )

    def cells(self, features: Tensor, size: tuple[int, ...]) -> Tensor:
        """Targets of the cells of the student's map, float ``[N, 512, h, w]``."""
        pooled = functional.adaptive_avg_pool2d(features, tuple(size)).movedim(1, -1)
        return (pooled @ self.basis).movedim(-1, 1)

    def whole(self, features: Tensor) -> Tensor:
        """Targets of whole views, float ``[N, 512]``."""
        return features.mean((2, 3)) @ self.basis

    def logits(self, said: Tensor) -> Tensor:
        """What the teacher's classifier makes of float ``[N, 512]``: ``[N, 1001]``."""
        return functional.linear(said @ self.back, self.classes, self.classes_bias)


# How far strong directions are damped: 0 not at all, 1 to equal strength. Chosen on
# Tiny ImageNet's validation pictures, where the teacher's 20 nearest neighbours are
# right for 0.483 undamped and 0.502 at 0.35 (0.517 at 0.5, with less on photographs).
DAMPING = 0.35
SAMPLE = {"tiny": 9000, "crop": 9000, "mix": 3000}


def fit(
    folder: Path,
    scales: tuple[float, ...],
    zeros: tuple[float, ...],
    top: dict[str, npt.NDArray[np.float32]],
) -> None:
    """Find the directions from a sample of the views; writes ``targets.npz``."""
    rng = np.random.default_rng(0)
    sample = []
    for name, count in SAMPLE.items():
        files = sorted(folder.glob(f"{name}[0-9]*_t.npy"))
        for file in files:
            maps = np.load(file, mmap_mode="r")
            filled = int(np.load(str(file).replace("_t.npy", "_n.npy")))
            for place in np.sort(rng.choice(filled, count // len(files), False)):
                linear = (maps[place].astype(np.float32) - zeros[-1]) * scales[-1]
                features = np.clip(linear @ top["weight"].T + top["bias"], 0, 6)
                sample.append(features.mean((0, 1)))
    features = np.stack(sample)
    # Not centred: the direction that all share is the strongest, and is damped most.
    axes, strength, _ = np.linalg.svd(features.T @ features / len(features))
    axes, strength = axes[:, :512], strength[:512]
    gain = (strength / strength.mean()) ** (-DAMPING / 2)
    mean = (features @ axes * gain).mean(0)
    spread = ((features @ axes * gain - mean) ** 2).sum(1).mean()
    arrays = {
        **top,
        "mean": mean,
        "basis": axes * gain,
        "back": (axes / gain).T,
        "scales": scales,
        "zeros": zeros,
        "variance": spread,
    }
    single = {name: np.asarray(a, np.float32) for name, a in arrays.items()}
    np.savez(folder / "targets.npz", **single)
