"""Make views of the pictures in Debian packages: ``python packages.py --help``.

Everything in Debian's main archive is free to use, and its games, icons, clip art,
backgrounds and manuals hold tens of thousands of different pictures. Get some packages
with ``apt-get download NAME…``. The views need no teacher; it looks on while training.
"""

from __future__ import annotations

import argparse
import io
import random
import subprocess
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from PIL import Image
from views import LARGE, SIDE, crop

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tga", ".bmp", ".dds", ".gif")
ARCHIVES = (".zip", ".pk3", ".pk4", ".jar", ".sh3f")
LEAST_BYTES, MOST_BYTES = 1_500, 60 * 2**20
LEAST_SIDE, MOST_SIDE, MOST_RATIO = 56, 9_000, 12
A_FOLDER = 400  # pictures of one folder: animations are many and alike
A_PACKAGE = 12_000
CROPS = ((600, 10), (300, 6), (128, 3), (0, 1))  # by the shorter side


def files(package: Path) -> Iterator[tuple[str, bytes]]:
    """The pictures of a package by their place in it, also those inside archives."""
    command = ["dpkg-deb", "--fsys-tarfile", str(package)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as unpacking:
        with tarfile.open(fileobj=unpacking.stdout, mode="r|") as tar:
            for member in tar:
                file = tar.extractfile(member) if member.isfile() else None
                name = member.name.lower()
                if file is None:
                    continue
                if name.endswith(ARCHIVES):
                    yield from inside(name, file.read())
                elif name.endswith(PICTURES) and LEAST_BYTES < member.size < MOST_BYTES:
                    yield name, file.read()
        unpacking.kill()


def inside(place: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """The pictures of an archive."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except zipfile.BadZipFile:
        return
    for name in archive.namelist():
        if name.lower().endswith(PICTURES):
            yield f"{place}/{name}", archive.read(name)


def opened(data: bytes, rng: random.Random) -> Image.Image | None:
    """The picture without transparency; None if it is no use."""
    try:
        picture = Image.open(io.BytesIO(data))
        short, long = sorted(picture.size)
        if short < LEAST_SIDE or long > MOST_SIDE or long > MOST_RATIO * short:
            return None
        picture.draft("RGB", (500, 500))
        return flat(picture, rng)
    except Exception:  # whatever a broken file makes a decoder raise
        return None


def flat(picture: Image.Image, rng: random.Random) -> Image.Image | None:
    """On a plain ground, mostly white, with some of it around what is to be seen."""
    if "A" not in picture.mode and "transparency" not in picture.info:
        return picture.convert("RGB")
    picture = picture.convert("RGBA")
    alpha = np.asarray(picture)[..., 3]
    if (alpha < 128).mean() < 0.02:
        return picture.convert("RGB")
    box = Image.fromarray((alpha > 8).astype(np.uint8) * 255).getbbox()
    if box is None or min(box[2] - box[0], box[3] - box[1]) < LEAST_SIDE:
        return None
    picture = picture.crop(box)
    side = int(max(picture.size) * rng.uniform(1.02, 1.4))
    colour = [255] * 3 if rng.random() < 0.6 else [rng.randint(0, 255) for _ in "RGB"]
    ground = Image.new("RGB", (side, side), tuple(colour))
    left, upper = (side - picture.width) // 2, (side - picture.height) // 2
    ground.paste(picture, (left, upper), picture)
    return ground


def outline(picture: Image.Image) -> bytes | None:
    """Equal for pictures that are nearly the same; None for a plain one."""
    grey = np.asarray(picture.resize((12, 12), Image.Resampling.BOX).convert("L"))
    levels = grey.astype(np.float32)
    return None if levels.std() < 4 else (levels > levels.mean()).tobytes()


def views_of(
    picture: Image.Image, rng: random.Random
) -> Iterator[npt.NDArray[np.uint8]]:
    """The whole picture if it is nearly square, and parts of it."""
    short, long = sorted(picture.size)
    count = next(count for least, count in CROPS if short >= least)
    whole = (LARGE, LARGE)
    if long <= 1.5 * short:
        yield np.asarray(picture.resize(whole, Image.Resampling.BILINEAR))
        count -= 1
    least = 0.15 if short >= SIDE // 2 else 0.5
    for _ in range(count):
        view = np.asarray(crop(picture, least, rng).resize(whole, Image.Resampling.BOX))
        if view.std() > 6:
            yield view


def main() -> None:
    """Write ``NAME0_x.npy`` and ``NAME0_n.npy`` into the folder of the views."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", type=Path, nargs="+", help=".deb files")
    parser.add_argument("--out", type=Path, required=True, help="folder of the views")
    parser.add_argument("--name", default="deb", help="of this kind of views")
    options = parser.parse_args()
    rng = random.Random(0)
    views: list[npt.NDArray[np.uint8]] = []
    seen: set[bytes] = set()
    for package in options.packages:
        folders: Counter[str] = Counter()
        for place, data in files(package):
            folder = str(PurePosixPath(place).parent)
            if folders[folder] >= A_FOLDER or folders.total() >= A_PACKAGE:
                continue
            picture = opened(data, rng)
            known = None if picture is None else outline(picture)
            if picture is not None and known is not None and known not in seen:
                seen.add(known)
                folders[folder] += 1
                views += views_of(picture, rng)
        print(package.name, folders.total(), len(views), flush=True)
    shuffled = np.stack([views[i] for i in rng.sample(range(len(views)), len(views))])
    np.save(options.out / f"{options.name}0_x.npy", shuffled)
    np.save(options.out / f"{options.name}0_n.npy", len(shuffled))


if __name__ == "__main__":
    main()
