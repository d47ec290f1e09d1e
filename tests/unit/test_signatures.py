from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from copied import ALTERATIONS, Alter, opened
from lookalike.alignment import similarities
from lookalike.copies import NEAR
from lookalike.images import Geometry, Limits, decode_square
from lookalike.signatures import GREY, LENGTH, Look, sign
from pictures import encoded, jpeg

GEOMETRY = Geometry(side=112, resize=112)
SEEDS = range(3)


def look(data: bytes, geometry: Geometry = GEOMETRY) -> Look:
    square = decode_square(data, geometry, Limits())
    return Look(sign(square[np.newaxis])[0])


def alike(one: bytes, other: bytes) -> float:
    return float(similarities([(look(one), look(other))])[0])


@pytest.mark.parametrize("alter", ALTERATIONS.values(), ids=ALTERATIONS)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_copy_is_near_to_its_original(alter: Alter, seed: int) -> None:
    original = jpeg(seed)
    copy = alter(original, np.random.default_rng(seed))

    assert alike(original, copy) >= NEAR
    assert alike(copy, original) >= NEAR


def test_other_pictures_are_not_near() -> None:
    pictures = [jpeg(seed) for seed in range(12)]

    values = [alike(a, b) for at, a in enumerate(pictures) for b in pictures[at + 1 :]]

    assert max(values) < NEAR - 0.1


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_picture_in_other_colours_is_not_near(seed: int) -> None:
    original = jpeg(seed)
    bands = opened(original).split()
    recoloured = encoded(Image.merge("RGB", bands[::-1]), "PNG")

    assert alike(original, recoloured) < NEAR


def test_a_picture_with_something_on_it_is_not_near() -> None:
    image = opened(jpeg(1))
    marked = image.copy()
    marked.paste((250, 30, 30), (150, 110, 250, 190))

    assert alike(encoded(image, "PNG"), encoded(marked, "PNG")) < NEAR


def test_pictures_without_any_structure_are_near_to_nothing() -> None:
    grey = encoded(Image.new("RGB", (64, 64), (90, 90, 90)), "PNG")

    assert alike(grey, grey) < NEAR


@pytest.mark.parametrize("side", [64, 224, 299])
def test_a_signature_is_small_whatever_the_side_of_the_square(side: int) -> None:
    square = decode_square(jpeg(1), Geometry(side, side), Limits())

    (signature,) = sign(square[np.newaxis])

    assert len(signature) == LENGTH == 363
    assert Look(signature).grey.shape == (GREY, GREY)


@pytest.mark.parametrize("side", [16, 112, 224, 299])
def test_many_are_signed_as_each_by_itself(side: int) -> None:
    geometry = Geometry(side, side)
    squares = [decode_square(jpeg(seed), geometry, Limits()) for seed in SEEDS]

    together = sign(np.stack(squares))

    assert together == [sign(one[np.newaxis])[0] for one in squares]
    assert len(set(together)) == len(squares)
    assert sign(np.stack(squares)[:0]) == []


def test_networks_of_other_sides_see_the_same() -> None:
    small = look(jpeg(1), Geometry(112, 112))
    large = look(jpeg(1), Geometry(224, 224))

    assert similarities([(small, large)])[0] > 0.98


def test_something_else_is_no_signature() -> None:
    with pytest.raises(ValueError, match="not a signature"):
        Look(b"\x02" + bytes(LENGTH - 1))


def test_no_pairs_have_no_similarities() -> None:
    assert similarities([]).shape == (0,)
