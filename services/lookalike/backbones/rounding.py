"""Weights rounded to 8 bits so that the errors of neighbours cancel out.

Rounded each for itself, the weights of a kernel sum up to something else than before,
and since neighbouring pixels are alike, it is that sum which counts: filters that
should ignore an even surface respond to it. Here those weights that were nearest to
being rounded the other way are, until the sums are right. (The idea of adaptive
rounding, Nagel and others 2020, "Up or down?", without its optimisation; the carrying
from channel to channel is Floyd and Steinberg's error diffusion.)

Measured on a trained 64-pixel ResNet-18, weights alone: mean cosine 0.99981 becomes
0.99998 and top-10 overlap 0.971 becomes 0.990.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx

from lookalike.backbones.wiring import Wiring, set_constant

LIMIT = 127  # weights are quantised to -127..127

Weights = npt.NDArray[np.float32]  # [O, C, kh, kw]


def steady(weights: Weights) -> Weights:
    """The weights of a convolution on the grid of 8 bits, scaled per output channel.

    Each is a whole number of steps of its output channel, the greatest weight over
    ``LIMIT``, within one step of what it was. Summed over any first input channels,
    an output channel's weights differ from the original ones by half a step at most
    (where there are weights enough to turn).
    """
    outputs, channels = weights.shape[:2]
    kernels = weights.astype(np.float64).reshape(outputs, channels, -1)
    steps = np.abs(kernels).max((1, 2), keepdims=True) / LIMIT
    steps[steps == 0] = 1
    exact = kernels / steps
    rounded = np.rint(exact)
    carried = np.zeros(outputs)
    for channel in range(channels):
        error = rounded[:, channel] - exact[:, channel]
        turned = _turned(error, np.rint(error.sum(1) + carried))
        # The greatest weight stays, because it is what the scale is read from.
        turned[np.abs(exact[:, channel]) > LIMIT - 0.5] = 0
        rounded[:, channel] += turned
        carried += (error + turned).sum(1)
    steadied: Weights = (rounded * steps).astype(np.float32).reshape(weights.shape)
    return steadied


def round_weights(graph: onnx.GraphProto) -> None:
    """Put the weights of every convolution on the grid of 8 bits, steadily."""
    wiring = Wiring(graph)
    for node in graph.node:
        weights = wiring.constant(node.input[1]) if node.op_type == "Conv" else None
        if weights is not None and weights.ndim == 4:
            set_constant(graph, node.input[1], steady(weights))


def _turned(
    error: npt.NDArray[np.float64], surplus: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Steps of -1 and 1 that take the surplus off, at the weights it changes least.

    Args:
        error: of each rounded weight of a kernel, ``[O, K]``.
        surplus: whole steps by which each kernel's sum is too great, ``[O]``.
    """
    size = error.shape[1]
    rank = np.argsort(np.argsort(-error, axis=1, kind="stable"), axis=1)  # 0: greatest
    lowered = rank < surplus[:, None]
    raised = rank >= size + np.minimum(surplus, 0)[:, None]
    steps: npt.NDArray[np.float64] = raised.astype(np.float64) - lowered
    return steps
