"""Make the views to train on, with what the teacher sees in each.

Run once for each part (``--part 0 --parts 2`` and ``--part 1 --parts 2`` side by side
use two cores), then once more with ``--finish``. Kinds of views:

tiny   every picture of Tiny ImageNet, whole (64 px)
tcrop  a crop of every second one of them
crop   100 crops of each large photograph (--photographs)
mix    60 of these crops with another laid over or pasted in
NAME   6 crops of each photograph of a further folder (--more NAME=FOLDER)
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np
from PIL import Image
from targets import fit
from teacher import MAP, SIDE, Teacher, top

LARGE, SMALL = 112, 64  # sides at which views are kept
CROPS, MIXES, MORE = 100, 60, 6
BILINEAR = Image.Resampling.BILINEAR


class Shard:
    """A file of views and a file of the teacher's maps, filled one by one."""

    def __init__(self, folder: Path, name: str, count: int, side: int) -> None:
        make = np.lib.format.open_memmap
        shape = (count, side, side, 3)
        self._views = make(folder / f"{name}_x.npy", "w+", np.uint8, shape)
        self._maps = make(folder / f"{name}_t.npy", "w+", np.int8, (count, *MAP))
        self._number = folder / f"{name}_n.npy"
        self._side = side
        self.count = 0

    def add(
        self, teacher: Teacher, view: Image.Image, small: Image.Image | None = None
    ) -> None:
        """Keep a view of 224 pixels, or ``small`` in its place."""
        filters = Image.Resampling.BOX if self._side == LARGE else BILINEAR
        kept = small or view.resize((self._side, self._side), filters)
        self._views[self.count] = np.asarray(kept)
        self._maps[self.count] = teacher.map(np.asarray(view))
        self.count += 1

    def close(self) -> None:
        """Write down how many there are."""
        self._views.flush()
        self._maps.flush()
        np.save(self._number, self.count)


def opened(path: Path, side: int = 700) -> Image.Image:
    """A picture, decoded at no less than ``side`` where the format allows less."""
    picture = Image.open(path)
    picture.draft("RGB", (side, side))
    return picture.convert("RGB")


def crop(picture: Image.Image, least: float, rng: random.Random) -> Image.Image:
    """A random part of at least that share of the area, 224 x 224, perhaps mirrored."""
    width, height = picture.size
    for _ in range(8):
        area = width * height * rng.uniform(least, 1)
        ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        w, h = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if w <= width and h <= height and min(w, h) >= 40:
            break
    else:
        w = h = min(width, height)
    left, upper = rng.randint(0, width - w), rng.randint(0, height - h)
    box = (left, upper, left + w, upper + h)
    view = picture.resize((SIDE, SIDE), BILINEAR, box=box, reducing_gap=3)
    return (
        view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else view
    )


def mixed(view: Image.Image, other: Image.Image, rng: random.Random) -> Image.Image:
    """Another view laid over a view, or a part of it pasted in."""
    if rng.random() < 0.5:
        return Image.blend(view, other, rng.uniform(0.15, 0.5))
    w, h = rng.randint(60, 180), rng.randint(60, 180)
    left, upper = rng.randint(0, SIDE - w), rng.randint(0, SIDE - h)
    result = view.copy()
    result.paste(other.crop((left, upper, left + w, upper + h)), (left, upper))
    return result


def make_tiny(options: argparse.Namespace, teacher: Teacher, files: list[Path]) -> None:
    """Whole pictures of Tiny ImageNet, and crops of half of them."""
    rng = options.rng
    shard = Shard(options.out, f"tiny{options.part}", len(files), SMALL)
    for path in files:
        small = Image.open(path).convert("RGB")
        shard.add(teacher, small.resize((SIDE, SIDE), BILINEAR), small)
    shard.close()
    chosen = rng.sample(files, len(files) // 2)
    shard = Shard(options.out, f"tcrop{options.part}", len(chosen), SMALL)
    for path in chosen:
        shard.add(teacher, crop(Image.open(path).convert("RGB"), 0.35, rng))
    shard.close()


def make_crops(
    options: argparse.Namespace, teacher: Teacher, files: list[Path], tiny: list[Path]
) -> None:
    """Crops of large photographs, and mixes of them."""
    rng = options.rng
    crops = Shard(options.out, f"crop{options.part}", len(files) * CROPS, LARGE)
    mixes = Shard(options.out, f"mix{options.part}", len(files) * MIXES, LARGE)
    others: list[Image.Image] = []
    for path in rng.sample(files, len(files)):
        picture = opened(path)
        views = [crop(picture, 0.08, rng) for _ in range(CROPS)]
        for view in views:
            crops.add(teacher, view)
        for view in rng.sample(views, MIXES if others else 0):
            other = rng.choice(others)
            if rng.random() < 0.15:
                other = opened(rng.choice(tiny)).resize((SIDE, SIDE), BILINEAR)
            mixes.add(teacher, mixed(view, other, rng))
        others = others[-150:] + rng.sample(views, 30)
    crops.close()
    mixes.close()


def make_more(
    options: argparse.Namespace, teacher: Teacher, name: str, files: list[Path]
) -> None:
    """Crops of further photographs."""
    shard = Shard(options.out, f"{name}{options.part}", len(files) * MORE, LARGE)
    for path in files:
        picture = opened(path)
        for _ in range(MORE):
            shard.add(teacher, crop(picture, 0.15, options.rng))
    shard.close()


def pictures(folder: Path) -> list[Path]:
    """The JPEG files below a folder."""
    return sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg"}
    )


def main() -> None:
    """Make one part, or finish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teacher", type=Path, required=True, help="the .tflite file")
    parser.add_argument("--tiny", type=Path, required=True, help="Tiny ImageNet")
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--more", nargs="*", default=[], help="groc=DIR nette=DIR …")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--part", type=int, default=0)
    parser.add_argument("--parts", type=int, default=1)
    parser.add_argument("--finish", action="store_true", help="fit the targets")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    options.rng = random.Random(100 + options.part)
    teacher = Teacher(options.teacher)
    if options.finish:
        fit(options.out, teacher.scales, teacher.zeros, top(options.teacher))
        return
    mine = slice(options.part, None, options.parts)
    tiny = pictures(options.tiny / "train") + pictures(options.tiny / "test")
    make_tiny(options, teacher, tiny[mine])
    make_crops(options, teacher, pictures(options.photographs)[mine], tiny)
    for name, folder in (text.split("=", 1) for text in options.more):
        make_more(options, teacher, name, pictures(Path(folder))[mine])


if __name__ == "__main__":
    main()
