"""Views with what the teacher sees in them, made while training goes on.

Views are drawn from shards (views.py), altered at random, and then shown to the
teacher: so both networks always see the same, and no view comes twice.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Wish:
    """What to draw from: folder, kinds of views with their chances, and the side."""

    folder: Path
    teacher: Path
    kinds: dict[str, float]
    side: int
    batch: int


class Shards:
    """One kind of view on disk, drawn without repeats in a round."""

    def __init__(self, folder: Path, name: str, rng: np.random.Generator) -> None:
        files = sorted(folder.glob(f"{name}[0-9]*_x.npy"))
        self._views = [np.load(file, mmap_mode="r") for file in files]
        filled = [int(np.load(str(file).replace("_x.npy", "_n.npy"))) for file in files]
        self._all = np.array(
            [(s, i) for s, count in enumerate(filled) for i in range(count)], np.int32
        )
        self._rng = rng
        self._order = np.empty((0, 2), np.int32)

    def take(self) -> Pixels:
        """The next view."""
        if not len(self._order):
            self._order = self._rng.permutation(self._all)
        (shard, place), self._order = self._order[0], self._order[1:]
        return np.asarray(self._views[shard][place])


KINDS = ("tiny", "crop", "nette", "groc")


def sample(folder: Path, side: int, count: int) -> Pixels:
    """Views as they are, of every kind alike: uint8 ``[count, side, side, 3]``."""
    rng = np.random.default_rng(0)
    shards = [Shards(folder, name, rng) for name in KINDS]
    views = [shards[number % len(shards)].take() for number in range(count)]
    whole = (side, side)
    return np.stack([np.asarray(Image.fromarray(v).resize(whole)) for v in views])


def zoomed(view: Pixels, side: int, rng: np.random.Generator) -> Image.Image:
    """The view at that side; often a part of it only, sometimes mirrored or turned."""
    picture = Image.fromarray(view)
    length = view.shape[0]
    box = (0.0, 0.0, float(length), float(length))
    if rng.random() < 0.4:
        width, height = length * rng.uniform(0.6, 1, 2)
        left, upper = rng.uniform(0, length - width), rng.uniform(0, length - height)
        box = (left, upper, left + width, upper + height)
    picture = picture.resize((side, side), Image.Resampling.BILINEAR, box=box)
    if rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < 0.05:
        picture = picture.transpose(Image.Transpose.ROTATE_90)
    return picture


def mixed(
    picture: Image.Image, other: Image.Image, rng: np.random.Generator
) -> Image.Image:
    """Another view laid over it, or pasted in smaller."""
    if rng.random() < 0.4:
        return Image.blend(picture, other, rng.uniform(0.15, 0.5))
    side = picture.width
    width, height = (int(side * share) for share in rng.uniform(0.3, 0.85, 2))
    left = int(rng.integers(0, side - width + 1))
    upper = int(rng.integers(0, side - height + 1))
    result = picture.copy()
    result.paste(other.resize((width, height)), (left, upper))
    return result


def recoloured(view: Pixels, rng: np.random.Generator) -> Pixels:
    """Another light: contrast, brightness, and a cast of colour."""
    gain = rng.uniform(0.6, 1.4) * (1 + rng.uniform(-0.12, 0.12, 3))
    bias = rng.uniform(-30, 30) + rng.uniform(-10, 10, 3)
    levels = (view.astype(np.float32) - 115) * gain + 115 + bias
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def views(wish: Wish, rng: np.random.Generator) -> Iterator[Pixels]:
    """Endless altered views, uint8 ``[side, side, 3]``."""
    names = list(wish.kinds)
    chances = np.array([wish.kinds[name] for name in names])
    shards = [Shards(wish.folder, name, rng) for name in names]
    recent: list[Image.Image] = []
    while True:
        shard = shards[rng.choice(len(names), p=chances / chances.sum())]
        picture = zoomed(shard.take(), wish.side, rng)
        recent = [*recent[-200:], picture]
        if rng.random() < 0.3:
            picture = mixed(picture, recent[rng.integers(len(recent))], rng)
        view = np.asarray(picture)
        yield recoloured(view, rng) if rng.random() < 0.5 else view


def _produce(wish: Wish, seed: int, out: multiprocessing.Queue) -> None:
    from teacher import SIDE, Teacher

    teacher = Teacher(wish.teacher)
    source = views(wish, np.random.default_rng(seed))
    while True:
        pixels = [next(source) for _ in range(wish.batch)]
        maps = [
            teacher.maps(
                np.asarray(
                    Image.fromarray(view).resize(
                        (SIDE, SIDE), Image.Resampling.BILINEAR
                    )
                )
            )
            for view in pixels
        ]
        stacked = [np.stack(level) for level in zip(*maps, strict=True)]
        out.put((np.stack(pixels), stacked))


def start(
    wish: Wish, processes: int, seed: int
) -> Iterator[tuple[Pixels, list[npt.NDArray[np.int8]]]]:
    """Batches from that many processes: the views, and the teacher's maps."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue(4)
    for number in range(processes):
        context.Process(
            target=_produce, args=(wish, seed + 1000 * number, queue), daemon=True
        ).start()
    while True:
        yield queue.get()
