"""Crops: a part of a picture, given in fractions of the picture as a person sees it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from PIL import Image

from lookalike.errors import BadQuery

LEAST = 0.01  # of a side; less shows nothing a network was trained on

# Where a point of the upright picture lies in the picture as it is stored: whether its
# coordinates change places, and whether each of the stored ones then runs backwards.
_BACK = {
    Image.Transpose.FLIP_LEFT_RIGHT: (False, True, False),
    Image.Transpose.ROTATE_180: (False, True, True),
    Image.Transpose.FLIP_TOP_BOTTOM: (False, False, True),
    Image.Transpose.TRANSPOSE: (True, False, False),
    Image.Transpose.ROTATE_270: (True, False, True),
    Image.Transpose.TRANSVERSE: (True, True, True),
    Image.Transpose.ROTATE_90: (True, True, False),
}


@dataclass(frozen=True)
class Crop:
    """A rectangle: fractions of width and height, 0 to 1, of the upright picture."""

    left: float
    top: float
    right: float
    bottom: float

    def stored(self, turn: Image.Transpose | None) -> Crop:
        """The same part in the picture as stored, before ``turn`` makes it upright."""
        if turn is None:
            return self
        swaps, is_x_back, is_y_back = _BACK[turn]
        across, down = (self.left, self.right), (self.top, self.bottom)
        if swaps:
            across, down = down, across
        left, right = _backwards(across) if is_x_back else across
        top, bottom = _backwards(down) if is_y_back else down
        return Crop(left, top, right, bottom)


WHOLE = Crop(0.0, 0.0, 1.0, 1.0)


def parse_crop(raw: object) -> Crop | None:
    """The crop of ``[x0, y0, x1, y1]``; None for null and for the whole picture.

    Raises:
        BadQuery: code ``crop_invalid``.
    """
    if raw is None:
        return None
    numbers = raw if isinstance(raw, list) else []
    if len(numbers) == 4 and all(_is_fraction(number) for number in numbers):
        crop = Crop(*map(float, numbers))
        if min(crop.right - crop.left, crop.bottom - crop.top) >= LEAST:
            return None if crop == WHOLE else crop
    raise BadQuery(
        "A crop is [x0, y0, x1, y1]: left, top, right and bottom as fractions, 0 to "
        f"1, of the upright picture, at least {LEAST:.0%} of it wide and high.",
        code="crop_invalid",
    )


def _is_fraction(number: object) -> bool:
    if isinstance(number, bool) or not isinstance(number, int | float):
        return False
    return math.isfinite(number) and 0 <= number <= 1


def _backwards(span: tuple[float, float]) -> tuple[float, float]:
    return 1 - span[1], 1 - span[0]
