"""The layers of a checkpoint, asked for by name and checked."""

from __future__ import annotations

import numpy as np

from lookalike.backbones.checkpoint import Weights
from lookalike.backbones.graph import Array, BatchNorm
from lookalike.errors import Misconfigured


class Layers:
    """Weights of an architecture; what is missing or of another rank is named."""

    def __init__(self, weights: Weights, architecture: str) -> None:
        self._weights = weights
        self._architecture = architecture
        self._taken: set[str] = set()

    def has(self, name: str) -> bool:
        """Whether there is a tensor of this name."""
        return name in self._weights

    def weight(self, layer: str, rank: int) -> Array:
        """The weight of a layer, float32.

        Raises:
            Misconfigured: there is none, or it has another number of axes.
        """
        return self._tensor(f"{layer}.weight", rank)

    def bias(self, layer: str) -> Array:
        """The bias of a layer, float32 ``[out]``.

        Raises:
            Misconfigured: there is none.
        """
        return self._tensor(f"{layer}.bias", 1)

    def batch_norm(self, layer: str, epsilon: float) -> BatchNorm:
        """The batch normalisation of this name.

        Raises:
            Misconfigured: a part of it is missing.
        """
        scale, shift, mean, variance = (
            self._tensor(f"{layer}.{part}", 1)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return BatchNorm(scale, shift, mean, variance, epsilon)

    def expect_no_more(self, beginnings: tuple[str, ...]) -> None:
        """Return if every weight whose name begins like this was asked for.

        A deeper network than expected would otherwise lose its further layers.

        Raises:
            Misconfigured: there are others, so this is another architecture.
        """
        left = [
            name
            for name in self._weights
            if name.startswith(beginnings)
            and name not in self._taken
            and not name.endswith(".num_batches_tracked")
        ]
        if left:
            raise self._other(f"it also has {left[0]}")

    def _tensor(self, name: str, rank: int) -> Array:
        if name not in self._weights:
            raise self._other(f"it has no {name}")
        found = self._weights[name]
        if found.ndim != rank or found.dtype.kind != "f":
            raise self._other(f"its {name} is {found.dtype} {list(found.shape)}")
        if not np.isfinite(found).all():
            raise Misconfigured(
                f"the checkpoint's {name} holds numbers that are not finite",
                code="checkpoint_refused",
            )
        self._taken.add(name)
        return found.astype(np.float32)

    def _other(self, reason: str) -> Misconfigured:
        return Misconfigured(
            f"the checkpoint is not of a {self._architecture}: {reason}. "
            "Name its architecture with --architecture.",
            code="checkpoint_refused",
        )
