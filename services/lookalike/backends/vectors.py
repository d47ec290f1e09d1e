"""What goes into a network and what must come out, whatever runs it."""

from __future__ import annotations

import numpy as np

from lookalike.errors import BadEmbedding, BadQuery
from lookalike.interfaces import Maps, Pixels, Vectors


def check_pixels(pixels: Pixels, side: int) -> None:
    """Return if these are squares of pixels: uint8 ``[N, side, side, 3]``.

    Raises:
        ValueError: they are not; the caller's mistake.
    """
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (side, side, 3):
        raise ValueError(
            f"expected uint8 [N, {side}, {side}, 3], "
            f"got {pixels.dtype} {list(pixels.shape)}"
        )


def checked(answer: object, count: int, dimension: int) -> Vectors:
    """What a network answered, if it is ``count`` unit vectors.

    Raises:
        BadEmbedding: wrong type or shape, not finite, or not of unit length.
    """
    if not isinstance(answer, np.ndarray) or answer.dtype != np.float32:
        raise BadEmbedding("the network did not answer with float32 vectors")
    if answer.shape != (count, dimension):
        raise BadEmbedding(
            f"the network answered with shape {list(answer.shape)} "
            f"instead of [{count}, {dimension}]"
        )
    lengths = np.linalg.norm(answer, axis=1)
    # A NaN anywhere makes the length NaN, and NaN is not below anything.
    if not (np.abs(lengths - 1) < 1e-3).all():
        raise BadEmbedding("the network answered with vectors that are not unit length")
    return answer


def checked_maps(answer: object, count: int) -> Maps:
    """What a network answered, if it is ``count`` feature maps; as float32.

    Raises:
        BadEmbedding: wrong type or shape, or not finite.
    """
    if not isinstance(answer, np.ndarray) or answer.dtype.kind != "f":
        raise BadEmbedding("the network did not answer with feature maps of floats")
    if answer.ndim != 4 or len(answer) != count or 0 in answer.shape:
        raise BadEmbedding(
            f"the network answered with shape {list(answer.shape)} instead of feature "
            f"maps [{count}, h, w, C]"
        )
    maps = answer.astype(np.float32)
    if not np.isfinite(maps).all():
        raise BadEmbedding("the network answered with feature maps that are not finite")
    return maps


def no_feature_maps(backbone: str) -> BadQuery:
    """The error for a backbone whose network puts out no feature map."""
    return BadQuery(
        f"The backbone {backbone!r} has no output 'feature_map', so it cannot be told "
        "which regions of two pictures agree. `lookalike backbone add --feature-map` "
        "names the tensor that holds it.",
        code="explain_unsupported",
    )
