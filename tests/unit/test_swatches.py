from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from lookalike.collections import FieldType, check_metadata
from lookalike.demo.palettes import ANIMAL, CAMOUFLAGE, DYE, MARBLE, TEXTILE, WOOD
from lookalike.demo.swatches import KINDS, METADATA, Family, families, write_catalogue

COUNT = 2 * len(KINDS) * 8  # two designs of each category
FIELDS = {
    "category": FieldType.STRING,
    "colour": FieldType.STRING,
    "price": FieldType.FLOAT,
    "sku": FieldType.STRING,
    "tags": FieldType.STRINGS,
}

Grey = npt.NDArray[np.float32]


def one_of_each() -> Iterator[tuple[str, Image.Image]]:
    """One picture of every design."""
    for category in KINDS:
        for number in range(5):
            _, picture = next(Family(7, category, number, 1).pictures())
            yield f"{category} {number}", picture


@pytest.fixture(scope="module")
def designs() -> dict[str, Image.Image]:
    return dict(one_of_each())


def grey(picture: Image.Image, side: int) -> Grey:
    return np.asarray(picture.convert("L").resize((side, side)), np.float32)


def test_a_catalogue_is_files_with_metadata_that_can_be_declared(
    tmp_path: Path,
) -> None:
    told: list[int] = []

    made = write_catalogue(tmp_path, count=12, processes=1, progress=told.append)

    rows = [json.loads(line) for line in (tmp_path / METADATA).read_text().splitlines()]
    assert [row.pop("file") for row in rows] == [swatch.file for swatch in made]
    assert told[-1] == 12
    for swatch, row in zip(made, rows, strict=True):
        assert check_metadata(FIELDS, row) == row
        assert swatch.price > 1
        assert swatch.file.startswith(f"{swatch.category}/")
        with Image.open(tmp_path / swatch.file) as picture:
            assert (picture.format, picture.size) == ("JPEG", (512, 512))


def test_the_same_seed_makes_the_same_pictures() -> None:
    first = [
        (swatch, picture.tobytes())
        for swatch, picture in Family(3, "floral", 1, 3).pictures()
    ]
    second = [
        (swatch, picture.tobytes())
        for swatch, picture in Family(3, "floral", 1, 3).pictures()
    ]
    _, other = next(Family(4, "floral", 1, 3).pictures())

    assert first == second
    assert first[0][1] != other.tobytes()


def test_a_catalogue_has_many_categories_with_several_designs_each() -> None:
    planned = families(640, seed=7)

    by_category = {
        category: [f.number for f in planned if f.category == category]
        for category in KINDS
    }
    assert sum(family.shots for family in planned) == 640
    assert len(KINDS) >= 13
    assert all(len(numbers) >= 4 for numbers in by_category.values())
    assert all(numbers == sorted(set(numbers)) for numbers in by_category.values())


def test_pictures_of_one_design_come_in_several_colours() -> None:
    made = list(Family(7, "plaid", 0, 8).pictures())

    assert len({swatch.colour for swatch, _ in made}) == 3
    assert len({swatch.sku for swatch, _ in made}) == 8
    assert len({hashlib.sha256(p.tobytes()).digest() for _, p in made}) == 8


def test_every_design_differs_from_every_other(
    designs: dict[str, Image.Image],
) -> None:
    small = {name: grey(picture, 32).ravel() for name, picture in designs.items()}

    for (one, first), (other, second) in combinations(small.items(), 2):
        likeness = float(np.corrcoef(first, second)[0, 1])
        assert likeness < 0.9, f"{one} looks like {other}"


def test_no_picture_is_a_flat_test_card(designs: dict[str, Image.Image]) -> None:
    for name, picture in designs.items():
        pixels = np.asarray(picture.crop((0, 0, 256, 256)), np.float32)
        across = np.abs(np.diff(pixels.mean(axis=2), axis=1))

        colours = len(np.unique(pixels @ np.array([1, 256, 65_536], np.float32)))
        assert pixels.std() > 5, name
        assert across.mean() > 1, name  # threads, grain: no smooth areas
        assert colours > 300, name  # light falls unevenly: no two areas alike


def test_no_picture_shows_the_edge_of_its_canvas(
    designs: dict[str, Image.Image],
) -> None:
    for name, picture in designs.items():
        pixels = np.asarray(picture)
        edges = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]

        assert all((edge.max(axis=1) > 6).mean() > 0.9 for edge in edges), name


@pytest.mark.parametrize(
    "palettes", [TEXTILE, CAMOUFLAGE, ANIMAL, WOOD, MARBLE, DYE], ids=len
)
def test_colourways_have_names_of_their_own(palettes: tuple[object, ...]) -> None:
    names = [palette.name for palette in palettes]  # type: ignore[attr-defined]

    assert len(set(names)) == len(names)
    assert len(names) >= 3
