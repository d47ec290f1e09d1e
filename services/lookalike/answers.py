"""Searches as a client sends them, and what a server answers."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

from lookalike.collections import Metadata, MetadataValue
from lookalike.interfaces import ImageId

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Example:
    """Something to look for, or to avoid: one of image, id and vector.

    ``crop`` is left, top, right and bottom in fractions of the upright picture; a
    ``weight`` that is not given is the server's choice.
    """

    image: bytes | None = None
    id: str | None = None
    vector: Sequence[float] | None = None
    crop: Sequence[float] | None = None
    weight: float | None = None

    def document(self) -> dict[str, object]:
        """As the server takes it."""
        given: dict[str, object] = {
            "image": self.image and base64.b64encode(self.image).decode(),
            "id": self.id,
            "vector": None if self.vector is None else list(self.vector),
            "crop": None if self.crop is None else list(self.crop),
            "weight": self.weight,
        }
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Query:
    """What to search by."""

    positive: Sequence[Example]
    negative: Sequence[Example] = ()
    strategy: str = "average"

    def document(self) -> dict[str, object]:
        """As the server takes it."""
        listed = [example.document() for example in self.positive]
        asked: dict[str, object] = {"positive": listed}
        if len(listed) == 1 and "weight" not in listed[0]:
            asked = listed[0]
        if self.negative:
            asked["negative"] = [example.document() for example in self.negative]
        if self.strategy != "average":
            asked["strategy"] = self.strategy
        return asked


@dataclass(frozen=True)
class SearchOptions:
    """What a search asks for beside the query; see the API for what each means."""

    filter: object = None
    limit: int = 10
    min_score: float | None = None
    group_by: str | None = None
    group_size: int = 1
    diversity: float = 0.0
    collapse_duplicates: bool = False
    include_query: bool = False
    fields: Sequence[str] | None = None
    facets: Sequence[str] = ()
    explain: bool = False

    def document(self) -> dict[str, object]:
        """As the server takes it: what is not as usual, and the limit."""
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        usual = {each.name: each.default for each in fields(self)}
        asked = {
            name: list(value) if isinstance(value, list | tuple) else value
            for name, value in given.items()
            if value != usual[name]
        }
        return {"limit": self.limit} | asked


NO_OPTIONS = SearchOptions()


@dataclass(frozen=True)
class Match:
    """A lookalike.

    ``relevance`` is the chance that two random images of the collection score lower;
    ``group`` the value it was grouped by; ``duplicates`` ids that were collapsed into
    it.
    """

    id: ImageId
    score: float
    metadata: Metadata
    relevance: float | None = None
    group: MetadataValue | None = None
    duplicates: Sequence[ImageId] = ()

    @classmethod
    def of(cls, entry: Document) -> Self:
        """A match as the server tells it."""
        relevance = entry.get("relevance")
        return cls(
            ImageId(entry["id"]),
            float(entry["score"]),
            entry["metadata"],
            relevance and float(relevance["percentile"]),
            entry.get("group"),
            tuple(ImageId(one) for one in entry.get("duplicates", ())),
        )


@dataclass(frozen=True)
class Facet:
    """How many images have which value of a field, most first."""

    values: Sequence[tuple[MetadataValue, int]]
    distinct: int
    missing: int

    @classmethod
    def of(cls, entry: Document) -> Self:
        """A facet as the server tells it."""
        values = [(each["value"], int(each["count"])) for each in entry["values"]]
        return cls(values, int(entry["distinct"]), int(entry["missing"]))


@dataclass(frozen=True)
class Answer:
    """What a search found; ``document`` is the server's answer as it came.

    ``because`` says why fewer were found than asked for; ``next_cursor`` leads to the
    page after this one.
    """

    matches: list[Match]
    complete: bool
    took_ms: Mapping[str, float]
    document: Document
    because: str | None = None
    next_cursor: str | None = None
    facets: Mapping[str, Facet] = field(default_factory=dict)

    @classmethod
    def of(cls, answer: Document) -> Self:
        """An answer as the server tells it."""
        counted = answer.get("facets") or {}
        return cls(
            [Match.of(entry) for entry in answer["matches"]],
            answer["complete"],
            answer["took_ms"],
            answer,
            answer.get("incomplete_because"),
            answer.get("next_cursor"),
            {name: Facet.of(entry) for name, entry in counted.items()},
        )

    def followed_by(self, later: Answer) -> Answer:
        """One answer of two pages."""
        matches = [*self.document["matches"], *later.document["matches"]]
        took = {
            name: spent + later.took_ms.get(name, 0.0)
            for name, spent in self.took_ms.items()
        }
        whole = {**later.document, "matches": matches, "took_ms": took}
        whole["facets"] = self.document.get("facets")
        return Answer.of(whole)
