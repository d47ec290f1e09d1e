"""Queries: what to look for, and what to avoid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from lookalike.crops import Crop
from lookalike.errors import BadQuery
from lookalike.interfaces import ImageId

MAX_EXAMPLES = 32  # of one query, positive and negative together
# How much a negative example counts where nothing else is said: chosen by measuring,
# see tests/benchmarks/examples.py.
NEGATIVE_WEIGHT = 0.3


class Strategy(StrEnum):
    """How several examples become one order of images."""

    AVERAGE = "average"
    BEST = "best"


@dataclass(frozen=True)
class Picture:
    """The bytes of an image file."""

    data: bytes


@dataclass(frozen=True)
class Stored:
    """An image of the collection."""

    id: ImageId


@dataclass(frozen=True)
class Numbers:
    """A caller's own vector, not checked yet."""

    vector: object


Source = Picture | Stored | Numbers


@dataclass(frozen=True)
class Example:
    """Something to look for, or to avoid; ``crop`` is of a picture or stored image.

    Without a ``weight`` a positive example counts 1, a negative one 0.3.
    """

    source: Source
    weight: float | None = None
    crop: Crop | None = None


@dataclass(frozen=True)
class Query:
    """What to search by: at least one positive example.

    Raises:
        BadQuery: code ``query_invalid``: no positive example, too many in all, a
            weight that is not positive, or a crop of a vector.
    """

    positive: Sequence[Example]
    negative: Sequence[Example] = ()
    strategy: Strategy = Strategy.AVERAGE

    def __post_init__(self) -> None:
        """Refuse what cannot be searched by."""
        if not self.positive:
            raise BadQuery("A search has at least one positive example.")
        if len(self.examples) > MAX_EXAMPLES:
            raise BadQuery(
                f"A query has at most {MAX_EXAMPLES} examples; got "
                f"{len(self.examples)}.",
                extra={"limit": MAX_EXAMPLES},
            )
        for example in self.examples:
            if example.weight is not None and not 0 < example.weight <= 100:
                raise BadQuery(
                    f"A weight is more than 0 and at most 100; got {example.weight}."
                )
            if example.crop is not None and isinstance(example.source, Numbers):
                raise BadQuery("A crop is of a picture; a vector has no parts.")

    @classmethod
    def of(cls, source: Source, crop: Crop | None = None) -> Query:
        """The query of one picture, stored image or vector."""
        return cls((Example(source, crop=crop),))

    @property
    def examples(self) -> Sequence[Example]:
        """All examples, the positive ones first."""
        return [*self.positive, *self.negative]

    @property
    def weights(self) -> list[float]:
        """How much each example counts."""
        usual = [1.0] * len(self.positive) + [NEGATIVE_WEIGHT] * len(self.negative)
        return [
            other if example.weight is None else example.weight
            for example, other in zip(self.examples, usual, strict=True)
        ]

    @property
    def ids(self) -> list[ImageId]:
        """The stored images among the examples."""
        sources = [example.source for example in self.examples]
        return [source.id for source in sources if isinstance(source, Stored)]
