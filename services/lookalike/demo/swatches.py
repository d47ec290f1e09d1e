"""A catalogue of fabric and material samples, made of code, the same every time."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from lookalike.demo import knitted, natural, palettes, photograph, printed, woven
from lookalike.demo.design import Design
from lookalike.demo.palettes import Palette

METADATA = "metadata.ndjson"
QUALITY = 88  # of the JPEG files
SHOTS = 8  # pictures of one design, two or three in each colourway
COLOURWAYS = 3
DESIGNS = 5  # of one category

Maker = Callable[[np.random.Generator, int], Design]


@dataclass(frozen=True)
class Kind:
    """A category: who makes its designs, in what colours, from what, at what price."""

    make: Maker
    colours: tuple[Palette, ...]
    material: tuple[str, ...]
    price: float


CLOTH = palettes.TEXTILE
KINDS: dict[str, Kind] = {
    "stripes": Kind(woven.stripes, CLOTH, ("cotton", "linen"), 18),
    "plaid": Kind(woven.plaid, CLOTH, ("flannel", "wool"), 26),
    "houndstooth": Kind(woven.houndstooth, CLOTH, ("wool",), 38),
    "herringbone": Kind(woven.herringbone, CLOTH, ("wool", "tweed"), 42),
    "chevron": Kind(woven.chevron, CLOTH, ("cotton", "viscose"), 21),
    "knit": Kind(knitted.knit, CLOTH, ("merino", "alpaca"), 34),
    "dots": Kind(printed.dots, CLOTH, ("cotton", "silk"), 17),
    "floral": Kind(printed.floral, CLOTH, ("cotton", "viscose"), 23),
    "paisley": Kind(printed.paisley, CLOTH, ("silk", "cotton"), 29),
    "geometric": Kind(printed.geometric, CLOTH, ("cotton", "polyester"), 20),
    "damask": Kind(printed.damask, CLOTH, ("silk", "linen"), 48),
    "camouflage": Kind(
        natural.camouflage, palettes.CAMOUFLAGE, ("ripstop", "canvas"), 16
    ),
    "animal": Kind(natural.animal, palettes.ANIMAL, ("velvet", "viscose"), 31),
    "tie-dye": Kind(natural.tie_dye, palettes.DYE, ("jersey", "cotton"), 19),
    "marble": Kind(natural.marble, palettes.MARBLE, ("stone",), 96),
    "wood": Kind(natural.wood, palettes.WOOD, ("timber",), 58),
    "terrazzo": Kind(natural.terrazzo, CLOTH, ("stone",), 74),
}


@dataclass(frozen=True)
class Swatch:
    """One sample of the catalogue: its file and its metadata."""

    file: str
    category: str
    colour: str
    price: float
    sku: str
    tags: list[str]


@dataclass(frozen=True)
class Family:
    """Pictures of one design."""

    seed: int
    category: str
    number: int  # of the design in its category
    shots: int

    def pictures(self) -> Iterator[tuple[Swatch, Image.Image]]:
        """Each swatch of the family with its picture."""
        kind = KINDS[self.category]
        order = list(KINDS).index(self.category)
        rng = np.random.default_rng((self.seed, order, self.number))
        design = kind.make(rng, self.number)
        chosen = rng.permutation(len(kind.colours))[:COLOURWAYS]
        base = kind.price * float(rng.uniform(0.7, 1.5))
        dyed = [design.dyed(kind.colours[index]) for index in chosen]
        for number in range(self.shots):
            way = number % len(chosen)
            name = kind.colours[chosen[way]].name
            swatch = self._swatch(design, name, base, number)
            taken = photograph.shot(rng, hard=design.hard)
            yield swatch, photograph.photograph(rng, design, dyed[way], taken)

    def _swatch(self, design: Design, colour: str, base: float, number: int) -> Swatch:
        kind = KINDS[self.category]
        sku = f"{self.category}-{self.number + 1:02d}-{number + 1}"
        price = round(base * (1 + 0.04 * (number % COLOURWAYS)), 2)
        material = kind.material[self.number % len(kind.material)]
        tags = [design.style, material]
        return Swatch(
            f"{self.category}/{sku}.jpg", self.category, colour, price, sku, tags
        )


def families(count: int, seed: int) -> list[Family]:
    """What to make for a catalogue of that many swatches.

    Every category gets the same number of designs; the last family may be short.
    """
    planned: list[Family] = []
    number = 0
    while count > 0:
        for category in KINDS:
            shots = min(SHOTS, count)
            if shots > 0:
                planned.append(Family(seed, category, number, shots))
            count -= shots
        number += 1
    return planned


def write_catalogue(
    folder: Path,
    count: int = 640,
    seed: int = 7,
    processes: int | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Swatch]:
    """Fill a folder with swatches and their metadata; gives back what was made.

    Writes ``CATEGORY/SKU.jpg`` and ``metadata.ndjson``. The same count and seed give
    the same files.

    Args:
        folder: made if it is not there.
        count: how many swatches.
        seed: another seed, another catalogue.
        processes: how many at once; by default one per core.
        progress: told how many swatches are finished.
    """
    for category in KINDS:
        (folder / category).mkdir(parents=True, exist_ok=True)
    made: list[Swatch] = []
    # Spawned, not forked: the caller may have threads.
    context = multiprocessing.get_context("spawn")
    workers = processes or os.cpu_count() or 1
    planned = families(count, seed)
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        for swatches in pool.map(_write_family, planned, [folder] * len(planned)):
            made.extend(swatches)
            progress(len(made))
    made.sort(key=lambda swatch: swatch.file)
    lines = [json.dumps(asdict(swatch), ensure_ascii=False) for swatch in made]
    (folder / METADATA).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return made


def _write_family(family: Family, folder: Path) -> list[Swatch]:
    swatches = []
    for swatch, picture in family.pictures():
        picture.save(folder / swatch.file, quality=QUALITY)
        swatches.append(swatch)
    return swatches
