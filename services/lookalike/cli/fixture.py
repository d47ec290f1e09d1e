"""Pictures to calibrate a network on and to compare networks by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from lookalike.backbones import Backbone
from lookalike.backbones.leaves import dead_leaves
from lookalike.backbones.parity import FEWEST
from lookalike.cli.backbone_projection import sampled
from lookalike.errors import BadImage, Misconfigured
from lookalike.images import Limits, decode_square
from lookalike.interfaces import Pixels

CALIBRATED = 256  # more widen the measured ranges no further
COMPARED = 500
SHOTS = 8  # of each generated scene


@dataclass(frozen=True)
class Fixture:
    """Pictures to calibrate on and others to compare by; and where they come from."""

    calibration: Pixels
    comparison: Pixels
    source: str

    def batches(self, size: int = 16) -> list[Pixels]:
        """The calibration in pieces of at most ``size`` pictures."""
        starts = range(0, len(self.calibration), size)
        return [self.calibration[start : start + size] for start in starts]


def fixture(
    backbone: Backbone, folder: Path | None, *, calibrated: int = CALIBRATED
) -> Fixture:
    """The user's pictures, or generated ones where there is no folder.

    At most ``COMPARED`` are for comparing. Of few pictures, one in three is for
    calibrating.

    Raises:
        Misconfigured: the folder holds too few pictures.
    """
    if folder is None:
        return _generated(backbone.geometry.side, calibrated)
    paths = sampled(folder, calibrated + COMPARED)
    pixels = _decoded(backbone, paths)
    calibrated = min(calibrated, len(pixels) // 3)
    comparison = pixels[calibrated:]
    if len(comparison) < FEWEST:
        raise Misconfigured(
            f"{folder} holds {len(pixels):,} pictures that can be read; at least "
            f"{FEWEST * 3 // 2 if calibrated else FEWEST} are needed.",
            code="too_few_pictures",
        )
    source = f"{len(pixels):,} pictures of {folder}"
    return Fixture(pixels[:calibrated], comparison, source)


def _generated(side: int, calibrated: int) -> Fixture:
    empty = np.empty((0, side, side, 3), np.uint8)
    calibration = np.concatenate([empty, *dead_leaves(calibrated, side)])
    comparison = np.concatenate(list(dead_leaves(COMPARED, side, shots=SHOTS, seed=1)))
    source = (
        "generated pictures, which is weak evidence: give yours with --images FOLDER"
    )
    return Fixture(calibration, comparison, source)


def _decoded(backbone: Backbone, paths: Sequence[Path]) -> Pixels:
    """Squares of those files that are pictures."""
    squares = []
    console = Console(stderr=True)
    hidden = not console.is_terminal
    for path in track(paths, "pictures", console=console, disable=hidden):
        try:
            data = path.read_bytes()
            squares.append(decode_square(data, backbone.geometry, Limits()))
        except (BadImage, OSError):
            continue
    side = backbone.geometry.side
    return np.stack(squares) if squares else np.empty((0, side, side, 3), np.uint8)
