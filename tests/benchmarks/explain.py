"""Does the heat map of an explanation lie where two pictures agree?

Of pairs of photographs, a part of one is pasted into the other, at another size and
anywhere. Explained is then why the composite matches the first photograph: printed is
how much of the heat lies in the pasted region, over that region's share of the area (1:
as much as by chance), and the same of the part in the photograph it was taken from.

    PYTHONPATH=tests python -m benchmarks.explain [--pairs 50] [--backbone resnet18]
        [--show FOLDER]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

import photographs
from lookalike.backbones import find
from lookalike.backends.onnxruntime import OnnxEmbedder
from lookalike.config import Settings
from lookalike.explain import agreement, region, views
from lookalike.images import Limits
from pasting import concentration, pasted

LEAST = 2.0  # times the share of the area


def main() -> int:
    """Print the figures; exit status 1 if the mean misses its mark."""
    options = _options()
    embedder = OnnxEmbedder(find(options.backbone, [Settings().backbones]), threads=2)
    rng = np.random.default_rng(options.seed)
    photos = photographs.load()
    matched, queried, seconds = [], [], []
    for number in range(options.pairs):
        first, second = rng.choice(len(photos), 2, replace=False)
        made = pasted(photos[first], photos[second], rng)
        files = (made.original, made.composite)
        started = time.perf_counter()
        squares = [views(data, embedder.geometry, Limits()) for data in files]
        maps = embedder.feature_maps(np.concatenate(squares))
        grids = agreement(*np.split(maps, 2))
        seconds.append(time.perf_counter() - started)
        queried.append(concentration(grids[0], made.part))
        matched.append(concentration(grids[1], made.place))
        for name, data, grid in zip("ab", files, grids, strict=True):
            if options.show is not None:
                shown = region(grid, data, None, embedder.geometry, Limits()).overlay
                (options.show / f"{number:03}{name}.png").write_bytes(shown)
    print(f"{embedder.fingerprint}, {options.pairs} pairs, seed {options.seed}")
    _tell("pasted region", np.array(matched))
    _tell("part it is from", np.array(queried))
    print(f"a pair takes {np.median(seconds) * 1000:.0f} ms (median)")
    return 0 if np.mean(matched) >= LEAST else 1


def _tell(name: str, times: npt.NDArray[np.float64]) -> None:
    low, median, high = np.quantile(times, [0.1, 0.5, 0.9])
    print(
        f"{name:16} mean {times.mean():.2f} x its share of the area; median "
        f"{median:.2f}, tenths {low:.2f} to {high:.2f}, least {times.min():.2f}; "
        f"at least {LEAST:g} x in {np.mean(times >= LEAST):.0%} of the pairs"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=50)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=Path, help="Write the overlays there.")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
