"""Near copies of real photographs; in full in benchmarks.duplicates."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

import photographs
from copied import ALTERATIONS
from lookalike.alignment import similarities
from lookalike.copies import NEAR
from lookalike.images import Geometry, Limits, decode_square
from lookalike.signatures import Look, sign

pytestmark = pytest.mark.photographs

GEOMETRY = Geometry(side=112, resize=112)
ORIGINALS = 60
ALTERED = 40


def looks(pictures: Sequence[bytes]) -> list[Look]:
    squares = [decode_square(one, GEOMETRY, Limits()) for one in pictures]
    return [Look(signature) for signature in sign(np.stack(squares))]


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    found = photographs.load()
    return [one.read() for one in found[:: len(found) // ORIGINALS][:ORIGINALS]]


def test_altered_photographs_are_near_to_their_originals(
    pictures: list[bytes],
) -> None:
    generator = np.random.default_rng(7)
    altered = [
        (original, alter(original, generator))
        for original in pictures[:ALTERED]
        for alter in ALTERATIONS.values()
    ]

    pairs = zip(*(looks(side) for side in zip(*altered, strict=True)), strict=True)

    assert (similarities(list(pairs)) >= NEAR).mean() >= 0.95


def test_different_photographs_are_not_near(pictures: list[bytes]) -> None:
    pairs = list(itertools.combinations(looks(pictures), 2))

    assert (similarities(pairs) < NEAR).all()
