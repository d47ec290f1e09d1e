"""Pictures of a few cells: sampled anew, smoothed, halved."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

COVERED = 0.7  # of a cell that must be known for it to count


def _sampling(scale: Floats, offset: Floats, cells: int) -> tuple[Floats, Floats]:
    """What makes cells of a line out of another line's, for each scale and offset.

    Cell k is the mean of the line from ``offset + k * scale`` on, ``scale`` long.

    Returns:
        Weights ``[P, cells, cells]``, and how much of each cell the line covers,
        ``[P, cells]``, 0 to 1.
    """
    low = offset[:, np.newaxis] + scale[:, np.newaxis] * np.arange(cells)
    high = low + scale[:, np.newaxis]
    source = np.arange(cells)
    overlap = np.minimum(high[..., np.newaxis], source + 1) - np.maximum(
        low[..., np.newaxis], source
    )
    overlap = overlap.clip(0, None)
    total = overlap.sum(2)
    weights = overlap / np.maximum(total, 1e-6)[..., np.newaxis]
    covered = total / scale[:, np.newaxis]
    return weights.astype(np.float32), covered.astype(np.float32)


def window(at: Floats, cells: int) -> tuple[Floats, Floats, Floats]:
    """What shows a part of a picture, for each scale and place ``[P, 3]`` in cells.

    Returns:
        Weights for its rows and for its columns, ``[P, cells, cells]``, and which cells
        of the part the picture covers, 0 or 1, of the same shape.
    """
    by_row, rows = _sampling(at[:, 0], at[:, 1], cells)
    by_column, columns = _sampling(at[:, 0], at[:, 2], cells)
    seen = (rows[:, :, np.newaxis] > COVERED) & (columns[:, np.newaxis] > COVERED)
    return by_row, by_column, seen.astype(np.float32)


def placed(planes: Floats, by_row: Floats, by_column: Floats) -> Floats:
    """Planes ``[..., cells, cells]`` as they are sampled down and across."""
    placed: Floats = np.matmul(np.matmul(by_row, planes), by_column.transpose(0, 2, 1))
    return placed


def smoothed(planes: Floats) -> Floats:
    """Each cell averaged with its neighbours, the weights 1, 2, 1 along both axes."""
    for axis in (-1, -2):
        planes = np.moveaxis(planes, axis, -1)
        left = np.concatenate([planes[..., :1], planes[..., :-1]], -1)
        right = np.concatenate([planes[..., 1:], planes[..., -1:]], -1)
        planes = np.moveaxis((left + 2 * planes + right) / 4, -1, axis)
    return planes


def blocks(plane: Floats, count: int) -> Floats:
    """The means of so many blocks a side of a plane ``[N, N]``."""
    size = len(plane) // count
    means: Floats = plane.reshape(count, size, count, size).mean((1, 3))
    return means
