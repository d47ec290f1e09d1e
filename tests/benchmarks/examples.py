"""What one negative example adds to a search, and how much it should weigh.

The photographs are split into two collections of half of each category. Many times a
few photographs of one category are drawn as positive examples; if the ten best matches
hold a wrong category, one negative example of a wrong category is added. Precision@10
is the share of the ten best that have the right category; images of the query are no
matches. There are two ways to come by the negative example:

======= ==============================================================================
pointed the best match of a wrong category, as someone who points at a wrong result
drawn   any photograph of the category that most wrong matches have
======= ==============================================================================

Leaving the wrong result out, as every image of a query is, helps by itself, so the
search by the positives alone is shown without it, too.

The weight is chosen in the first collection, the mean gain over all four cases, and
the figures are of the second. All searches go through the platform's own code, over an
index that compares with every vector; what a picture's vector is, the backbone says.

    PYTHONPATH=tests python -m benchmarks.examples [--draws 200] [--rounds 20]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import photographs
from lookalike.backbones import find
from lookalike.backends.onnxruntime import OnnxEmbedder
from lookalike.images import Limits, decode_square
from lookalike.interfaces import ImageId, Vectors
from lookalike.queries import NEGATIVE_WEIGHT, Example, Query, Stored
from lookalike.results import Want
from vector_shelf import VectorShelf, ids

WEIGHTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5)
POSITIVES = (1, 3)
WAYS = ("pointed", "drawn")
TOP = 10


@dataclass(frozen=True)
class Case:
    """How many positive examples there are, and how the negative one is found."""

    positives: int
    way: str


@dataclass(frozen=True)
class Outcome:
    """Precision@10 of one draw."""

    alone: float  # the positives alone
    without: float  # the same, the negative example left out of the matches
    added: float  # with the negative example


CASES = [Case(positives, way) for positives in POSITIVES for way in WAYS]


class Half:
    """One half of the photographs, to be searched."""

    def __init__(self, folder: Path, names: list[str], vectors: Vectors) -> None:
        folder.mkdir()
        self.shelf = VectorShelf(folder, dimension=vectors.shape[1])
        self.names = names
        self.shelf.put(dict(zip(names, vectors, strict=True)))

    def find(
        self,
        positive: Sequence[str],
        negative: Sequence[Example] = (),
        limit: int = TOP,
    ) -> list[str]:
        """The ids of the best matches."""
        query = Query([Example(Stored(ImageId(name))) for name in positive], negative)
        want = Want(limit=limit)
        return ids(self.shelf.searcher.search(self.shelf.collection, query, want))

    def outcome(
        self, case: Case, weight: float, rng: np.random.Generator
    ) -> Outcome | None:
        """Of one draw; None if no match is of a wrong category."""
        wanted = category(str(rng.choice(self.names)))
        right = [name for name in self.names if category(name) == wanted]
        chosen = [str(one) for one in rng.choice(right, case.positives, replace=False)]
        # One more than needed, for the one that may be left out.
        found = self.find(chosen, limit=TOP + 1)
        wrong = [name for name in found[:TOP] if category(name) != wanted]
        if not wrong:
            return None
        avoided = wrong[0]
        if case.way == "drawn":
            usual = Counter(map(category, wrong)).most_common(1)[0][0]
            others = [name for name in self.names if category(name) == usual]
            avoided = str(rng.choice(others))
        negative = [Example(Stored(ImageId(avoided)), weight)]
        return Outcome(
            precision(found[:TOP], wanted),
            precision([name for name in found if name != avoided][:TOP], wanted),
            precision(self.find(chosen, negative), wanted),
        )


def main() -> int:
    """Print the tables; exit status 1 if a negative example does not help."""
    options = parse()
    with tempfile.TemporaryDirectory() as folder:
        first, second = halves(Path(folder))
        print(
            f"Gain in precision@{TOP} by weight, first half, {options.draws} draws:\n"
        )
        best = choose(first, options.draws)
        print(f"\nBest in the mean: {best}; the default is {NEGATIVE_WEIGHT}.\n")
        return show(second, options.draws, options.rounds)


def parse() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=20)
    return parser.parse_args()


def halves(folder: Path) -> tuple[Half, Half]:
    """Two collections, each with half of every category."""
    pictures = photographs.load()
    backbone = find("resnet18")
    embedder = OnnxEmbedder(backbone, threads=2)
    squares = np.stack(
        [decode_square(one.read(), backbone.geometry, Limits()) for one in pictures]
    )
    vectors = np.concatenate(
        [embedder.embed(squares[n : n + 32]) for n in range(0, len(squares), 32)]
    )
    rng = np.random.default_rng(0)
    places: tuple[list[int], list[int]] = ([], [])
    for name in sorted({one.category for one in pictures}):
        mine = [n for n, one in enumerate(pictures) if one.category == name]
        mixed = rng.permutation(mine)
        for half, part in zip(places, np.array_split(mixed, 2), strict=True):
            half.extend(int(n) for n in part)
    one, other = (
        Half(folder / str(n), [pictures[m].id for m in half], vectors[half])
        for n, half in enumerate(places)
    )
    return one, other


def category(name: str) -> str:
    """The category of a photograph, which its id begins with."""
    return name.partition("/")[0]


def precision(found: Sequence[str], wanted: str) -> float:
    """The share of matches that have the right category."""
    return float(np.mean([category(name) == wanted for name in found]))


def outcomes(
    half: Half, case: Case, weight: float, draws: int, seed: int
) -> list[Outcome]:
    """Of so many draws in which a negative example could be given."""
    rng = np.random.default_rng(seed)
    made: list[Outcome] = []
    while len(made) < draws:
        one = half.outcome(case, weight, rng)
        if one is not None:
            made.append(one)
    return made


def choose(half: Half, draws: int) -> float:
    """The weight with the highest gain, in the mean of all cases."""
    print("| weight | " + " | ".join(titles()) + " | mean |")
    print("|---" * (len(CASES) + 2) + "|")
    gains = {}
    for weight in WEIGHTS:
        each = [
            gain(outcomes(half, case, weight, draws, seed=1), "alone") for case in CASES
        ]
        gains[weight] = statistics.fmean(each)
        cells = " | ".join(f"{one:+.3f}" for one in each)
        print(f"| {weight} | {cells} | {gains[weight]:+.3f} |")
    return max(gains, key=lambda weight: gains[weight])


def titles() -> list[str]:
    """What each case is called."""
    return [f"{case.positives} positive, {case.way}" for case in CASES]


def gain(made: Sequence[Outcome], before: str) -> float:
    """How much higher the mean precision is with the negative example."""
    return statistics.fmean(one.added - getattr(one, before) for one in made)


def show(half: Half, draws: int, rounds: int) -> int:
    """The figures at the default weight; 1 if it does not help in every case."""
    print(
        f"Precision@{TOP} at the default weight, second half: median, lowest and "
        f"highest mean of {rounds} rounds of {draws} draws\n\n"
        "| case | positives alone | the same, less the wrong one | with the negative "
        "| gain | rounds that gain | draws better / worse |\n" + "|---" * 7 + "|"
    )
    helps = True
    for case, title in zip(CASES, titles(), strict=True):
        each = [
            outcomes(half, case, NEGATIVE_WEIGHT, draws, seed=100 + n)
            for n in range(rounds)
        ]
        gains = [gain(made, "alone") for made in each]
        every = [one for made in each for one in made]
        better = statistics.fmean(one.added > one.alone for one in every)
        worse = statistics.fmean(one.added < one.alone for one in every)
        cells = [mean_of(each, name) for name in ("alone", "without", "added")]
        print(
            f"| {title} | {' | '.join(cells)} | {spread(gains)} "
            f"| {sum(one > 0 for one in gains)}/{rounds} "
            f"| {better:.0%} / {worse:.0%} |"
        )
        helps &= statistics.median(gains) > 0
    return int(not helps)


def mean_of(rounds: Sequence[Sequence[Outcome]], name: str) -> str:
    """The mean of each round, as a cell."""
    return spread(
        [statistics.fmean(getattr(one, name) for one in made) for made in rounds]
    )


def spread(values: Sequence[float]) -> str:
    """Median, lowest and highest, as a cell."""
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    sys.exit(main())
