"""How alike two pictures are, by their signatures, as one may show a part of the other.

They are laid over each other: a coarse search over scales and places, then a few steps
of Gauss and Newton on the grey differences (Lucas and Kanade 1981). What agrees then is
measured where both have something to show.

That tells copies (encoded again, resized, cropped by up to 15 % of a side, brighter or
darker) from other pictures of the same thing. It does not recognise mirrored, turned or
recoloured copies, nor pictures without any structure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from lookalike.cells import Floats, blocks, placed, smoothed, window
from lookalike.signatures import CHROMA, COARSE, GREY, Look

PLAUSIBLE = 0.85  # correlation of the best coarse fit below which nothing is refined
SCALES = (0.95, 0.9, 0.85)
REACH = 1.4  # cells that a part may lie beyond the square: it is cut from a longer one
STRIDE = 1.6  # cells between two places of the coarse search
ROUGH = 0.15  # mean squared difference after a step; of copies at most 0.08
STEPS = 3
AT_ONCE = 512  # pairs that are refined together: 30 MB
LEAST, MOST, FARTHEST = 0.835, 1.02, 1.8  # where a fit may end: scales, and cells

# What a copy never shows, and pictures of the same scene do: see benchmarks.duplicates.
LOCAL = 0.25  # mean squared difference in the worst of 6 x 6 blocks; the picture has 1
COLOUR = 10.0  # mean distance of chroma, in levels of 255


def similarities(pairs: Sequence[tuple[Look, Look]]) -> Floats:
    """How alike the two of each pair are: float32 ``[P]``, -1 to 1, copies near 1.

    The correlation of the edges of both where one lies over the other, less what the
    worst of their blocks and their colours differ by beyond what copies do. 0 at most
    when already a coarse look shows no fit.
    """
    found = np.zeros(len(pairs), np.float32)
    chosen: list[int] = []
    begun: list[tuple[Look, Look, Floats]] = []
    for first, places in _by_first(pairs).items():
        others = np.stack([pairs[place][1].coarse.ravel() for place in places])
        for place, (score, start) in zip(
            places, _coarse_fits(first, others), strict=True
        ):
            other = pairs[place][1]
            if score >= PLAUSIBLE and not (first.is_flat or other.is_flat):
                chosen.append(place)
                begun.append(_turned(first, other, start))
    for at in range(0, len(begun), AT_ONCE):
        part = begun[at : at + AT_ONCE]
        starts = np.stack([start for _, _, start in part])
        found[chosen[at : at + AT_ONCE]] = _refined(
            [(a, b) for a, b, _ in part], starts
        )
    return found


def _by_first(pairs: Sequence[tuple[Look, Look]]) -> dict[Look, list[int]]:
    """The places of the pairs that begin with each."""
    found: dict[Look, list[int]] = {}
    for place, (first, _) in enumerate(pairs):
        found.setdefault(first, []).append(place)
    return found


# --- coarse --------------------------------------------------------------------------


def _coarse_fits(first: Look, others: Floats) -> Iterator[tuple[float, Floats]]:
    """The best correlation over all places with each of ``[N, 144]``, and where."""
    down, across, seen = _PLACES
    parts = _centred(placed(first.coarse, down, across).reshape(len(seen), -1), seen)
    total = seen @ others.T
    spread = seen @ (others * others).T - total * total / seen.sum(1, keepdims=True)
    scores = parts @ others.T / np.sqrt(np.maximum(spread, 1e-3))
    for column, best in enumerate(scores.argmax(0)):
        yield float(scores[best, column]), _STARTS[best]


def _centred(planes: Floats, seen: Floats) -> Floats:
    """Planes ``[P, cells]`` with mean 0 and length 1 over the cells that count."""
    mean = (seen * planes).sum(1, keepdims=True) / seen.sum(1, keepdims=True)
    centred = seen * (planes - mean)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    found: Floats = centred / np.maximum(length, 1e-3)
    return found


def _turned(first: Look, second: Look, start: Floats) -> tuple[Look, Look, Floats]:
    """The same fit with the picture that shows less as the second one."""
    scale, down, across = start
    if scale <= 1:
        return first, second, start
    turned = np.array([1 / scale, -down / scale, -across / scale], np.float32)
    return second, first, turned


def _starts() -> Floats:
    """Scale and place (down, across, in grey cells) of each try: float32 ``[W, 3]``."""
    found = [(1.0, 0.0, 0.0)]
    for scale in SCALES:
        low, high = -REACH, GREY * (1 - scale) + REACH
        places = np.linspace(low, high, 1 + round((high - low) / STRIDE))
        for down in places:
            for across in places:
                found.append((scale, down, across))
                # The same fit seen from the other picture.
                found.append((1 / scale, -down / scale, -across / scale))
    return np.array(found, np.float32)


def _places() -> tuple[Floats, Floats, Floats]:
    """What each try does to the coarse cells, and which of them it covers."""
    halves = np.array([1, 0.5, 0.5], np.float32)
    down, across, seen = window(_STARTS * halves, COARSE)
    return down, across, seen.reshape(len(seen), -1)


# --- fine ----------------------------------------------------------------------------


def _refined(pairs: Sequence[tuple[Look, Look]], starts: Floats) -> Floats:
    """The similarities of pairs that lie over each other about so."""
    fit = _Fit(pairs)
    at, error = fit.improved(starts, steps=1)
    # What is not nearly the same by now is not going to be: most pairs end here.
    (left,) = np.nonzero(error <= ROUGH)
    found = np.zeros(len(pairs), np.float32)
    if left.size:
        some = [pairs[place] for place in left.tolist()]
        fit = _Fit(some)
        at, _ = fit.improved(at[left], STEPS)
        found[left] = fit.agreement(at) - np.maximum(
            0, _colour_distance(some, at) - COLOUR
        ) / np.float32(100)
    return found.clip(-1, 1)


class _Fit:
    """Lays pictures ``[P, 24, 24]`` over others."""

    def __init__(self, pairs: Sequence[tuple[Look, Look]]) -> None:
        self._grey = np.stack([first.grey for first, _ in pairs])
        self._soft = np.stack([second.soft for _, second in pairs])

    def improved(self, start: Floats, steps: int) -> tuple[Floats, Floats]:
        """Scales and places at which the pictures differ less, and how much still.

        That is the mean squared difference, where both have the mean 0 and variance 1.
        """
        best, error = start, self._error(start)
        for _ in range(steps):
            step = self._step(best)
            for part in (1.0, 0.4):  # a whole step may lead too far
                found = best + np.float32(part) * step
                new = self._error(found)
                is_better = (new < error) & _is_allowed(found)
                best = np.where(is_better[:, np.newaxis], found, best)
                error = np.where(is_better, new, error)
                step = np.where(is_better[:, np.newaxis], 0, step)
        return best, error

    def agreement(self, at: Floats) -> Floats:
        """How well the edges agree, less what their worst block differs by."""
        first, seen = self._placed(at)
        local = _worst_block(_normal(first, seen), _normal(self._soft, seen), seen)
        edges = _edge_agreement(first, self._soft, seen)
        agreement: Floats = edges - np.maximum(0, local - LOCAL)
        return agreement

    def _placed(self, at: Floats) -> tuple[Floats, Floats]:
        """The first pictures as seen from the second ones, and the cells that count."""
        by_row, by_column, seen = window(at, GREY)
        return smoothed(placed(self._grey, by_row, by_column)), seen

    def _difference(self, at: Floats) -> tuple[Floats, Floats]:
        """By how much the pictures differ in each cell, and how many cells count."""
        first, seen = self._placed(at)
        difference = _normal(first, seen) - _normal(self._soft, seen)
        return difference.reshape(len(at), -1), seen.sum((1, 2))

    def _error(self, at: Floats) -> Floats:
        difference, count = self._difference(at)
        error: Floats = (difference**2).sum(1) / np.maximum(count, 1)
        return error

    def _step(self, at: Floats) -> Floats:
        """One step of Gauss and Newton; scaling is about the middle."""
        now, _ = self._difference(at)
        slopes = [
            (self._difference(at + move)[0] - now) / size for move, size in _MOVES
        ]
        slope = np.stack(slopes, 1)  # [P, 3, cells]
        normal = slope @ slope.transpose(0, 2, 1) + 1e-3 * np.eye(3, dtype=np.float32)
        towards = -np.linalg.solve(normal, slope @ now[:, :, np.newaxis])[..., 0]
        units = np.stack([move / size for move, size in _MOVES])
        step: Floats = towards.clip(-0.1 * GREY, 0.1 * GREY) @ units
        return step


def _is_allowed(at: Floats) -> npt.NDArray[np.bool_]:
    """Whether the second picture can be a part of the first."""
    scale, down, across = at.T
    low, high = -FARTHEST, GREY * (1 - scale) + FARTHEST
    is_inside = (down > low) & (down < high) & (across > low) & (across < high)
    allowed: npt.NDArray[np.bool_] = is_inside & (scale > LEAST) & (scale < MOST)
    return allowed


_MOVES = (
    (np.array([0.02, -0.01 * GREY, -0.01 * GREY], np.float32), 0.24),
    (np.array([0, 0.2, 0], np.float32), 0.2),
    (np.array([0, 0, 0.2], np.float32), 0.2),
)


def _edge_agreement(one: Floats, other: Floats, seen: Floats) -> Floats:
    """The correlation of what changes from cell to cell, ``[P]``."""
    across = seen[:, :, 1:] * seen[:, :, :-1]
    down = seen[:, 1:] * seen[:, :-1]
    products = np.zeros((3, len(one)), np.float32)
    for axis, both in ((2, across), (1, down)):
        a, b = np.diff(one, axis=axis), np.diff(other, axis=axis)
        for place, product in enumerate((a * b, a * a, b * b)):
            products[place] += (both * product).sum((1, 2))
    agreement: Floats = products[0] / (np.sqrt(products[1] * products[2]) + 1e-3)
    return agreement


def _worst_block(one: Floats, other: Floats, seen: Floats) -> Floats:
    """The largest mean squared difference of a block of 4 x 4 cells, ``[P]``."""
    squares = seen * (one - other) ** 2
    blocks = squares.reshape(len(one), CHROMA, 4, CHROMA, 4).mean((2, 4))
    worst: Floats = blocks.max((1, 2))
    return worst


def _colour_distance(pairs: Sequence[tuple[Look, Look]], at: Floats) -> Floats:
    """The mean distance of chroma once both are equally bright, ``[P]``."""
    smaller = np.array([1, CHROMA / GREY, CHROMA / GREY], np.float32)
    by_row, by_column, seen = window(at * smaller, CHROMA)
    first = placed(_colours([look for look, _ in pairs]), by_row, by_column)
    second = _colours([look for _, look in pairs])
    bright = (seen * first[2] * second[2]).sum((1, 2))
    gain = bright / ((seen * first[2] ** 2).sum((1, 2)) + 1)
    difference = first[:2] * gain[:, np.newaxis, np.newaxis] - second[:2]
    distance = np.sqrt((difference**2).sum(0))
    colour: Floats = (seen * distance).sum((1, 2)) / np.maximum(seen.sum((1, 2)), 1)
    return colour


def _colours(looks: Sequence[Look]) -> Floats:
    """Two planes of chroma and one of grey, ``[3, P, 6, 6]``."""
    grey = np.stack([blocks(look.grey, CHROMA) for look in looks])
    chroma = np.stack([look.chroma for look in looks]).transpose(3, 0, 1, 2)
    return np.concatenate([chroma, grey[np.newaxis]])


def _normal(planes: Floats, seen: Floats) -> Floats:
    """With mean 0 and variance 1 over the cells that count, 0 elsewhere."""
    count = np.maximum(seen.sum((1, 2)), 1)
    mean = (seen * planes).sum((1, 2)) / count
    centred = seen * (planes - mean[:, None, None])
    spread = np.sqrt((centred**2).sum((1, 2)) / count)
    normal: Floats = centred / np.maximum(spread, 1e-2)[:, None, None]
    return normal


_STARTS = _starts()
_PLACES = _places()
