"""What goes in and out of a search; see ``schemas`` for what the two have in common."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from lookalike.api.schemas import (
    Asked,
    AskedInAddress,
    Binary,
    FilterIn,
    Told,
    VectorIn,
)


class Query(Asked):
    """What to search by: exactly one of these."""

    image: str | None = Field(None, description="An image file in base64.")
    id: str | None = Field(None, description="A stored image, itself left out.")
    vector: VectorIn = None


class SearchRequest(Asked):
    """A search."""

    query: Query | None = None
    filter: FilterIn = None
    limit: int = Field(10, description="Most matches to answer.")
    min_score: float | None = Field(None, description="Cosine similarity, -1 to 1.")
    fields: list[str] | None = Field(
        None, description="Metadata fields to answer; by default all."
    )


class SearchForm(Asked):
    """A search by an uploaded picture."""

    image: Binary
    request: SearchRequest | None = Field(
        None, description="The rest of the search, as JSON."
    )


class SearchParameters(AskedInAddress):
    """The rest of a search by a raw picture."""

    limit: int = Field(10, description="Most matches to answer.")
    min_score: float | None = Field(None, description="Cosine similarity, -1 to 1.")
    filter: str | None = Field(None, description="A filter, as JSON.")
    fields: str | None = Field(
        None, description="Metadata fields to answer, separated by commas."
    )


class Match(Told):
    """A lookalike."""

    id: str
    score: float = Field(description="Cosine similarity: higher is closer.")
    metadata: dict[str, Any]
    image_url: str
    thumbnail_url: str


class Took(Told):
    """Where the time went, in milliseconds."""

    decode: float
    embed: float
    search: float
    total: float


class SearchAnswer(Told):
    """Lookalikes, best first."""

    matches: list[Match]
    complete: bool = Field(description="Whether as many were found as asked for.")
    backbone: str
    took_ms: Took
