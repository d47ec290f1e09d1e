"""What goes in and out of a search; see ``schemas`` for what the two have in common."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from lookalike import results
from lookalike.api.schemas import (
    Asked,
    AskedInAddress,
    Binary,
    FilterIn,
    Problem,
    Told,
    VectorIn,
)
from lookalike.facets import Countable
from lookalike.queries import Strategy

CropIn = Annotated[
    Any,
    WithJsonSchema(
        {
            "type": ["array", "null"],
            "items": {"type": "number", "minimum": 0, "maximum": 1},
            "minItems": 4,
            "maxItems": 4,
            "description": "[x0, y0, x1, y1]: left, top, right and bottom, as "
            "fractions of the upright picture.",
            "examples": [[0.25, 0.1, 0.75, 0.6]],
        }
    ),
]
StrategyIn = Annotated[
    Literal["average", "best"],
    Field(
        description="`average`: by the weighted mean of the positive examples, moved "
        "away from the negative ones (Rocchio). `best`: by the most similar positive "
        "example, less the similarity to the most similar negative one."
    ),
]
DEEP = "Most to answer: 1 to 1,000 by default."


class Example(Asked):
    """A picture to look for or to avoid: one of image, id and vector."""

    image: str | None = Field(None, description="An image file in base64.")
    id: str | None = Field(None, description="A stored image.")
    vector: VectorIn = None
    url: str | None = Field(None, description="Refused: this server fetches nothing.")
    crop: CropIn = None
    weight: float | None = Field(
        None, description="By default 1, and 0.3 of a negative example."
    )


ExampleIn = Annotated[
    Example,
    BeforeValidator(lambda given: {"id": given} if isinstance(given, str) else given),
    WithJsonSchema(
        {"anyOf": [{"type": "string"}, {"$ref": "#/components/schemas/Example"}]}
    ),
]


class Query(Asked):
    """What to search by: an image, id or vector, or positive examples, or both."""

    image: str | None = Field(None, description="An image file in base64.")
    id: str | None = Field(None, description="A stored image.")
    vector: VectorIn = None
    url: str | None = Field(None, description="Refused: this server fetches nothing.")
    crop: CropIn = None
    positive: list[ExampleIn] | None = Field(
        None, description="More to look for; a bare text is an id."
    )
    negative: list[ExampleIn] | None = Field(
        None, description="To avoid; a bare text is an id."
    )
    strategy: StrategyIn = Strategy.AVERAGE.value


class SearchRequest(Asked):
    """A search."""

    query: Query | None = Field(
        None, description="Needed, but for a cursor, which remembers it."
    )
    filter: FilterIn = None
    limit: int = Field(10, description=f"Matches, or groups of them. {DEEP}")
    cursor: str | None = Field(
        None,
        description="`next_cursor` of the page before. Send everything else as it was; "
        "limit, fields, facets and explain may change.",
    )
    min_score: float | None = Field(None, description="Least score of a match.")
    group_by: str | None = Field(
        None,
        description="A field of which each value is shown once, by its best match; an "
        "image without the field is a group of its own.",
    )
    group_size: int = Field(1, description="Most matches of each group: 1 to 100.")
    diversity: float = Field(
        0.0,
        description="0 to 1: how much a match loses by being like a better one "
        "(maximal marginal relevance). Above 0 the limit is 100.",
    )
    collapse_duplicates: bool = Field(
        False,
        description="Whether near duplicates of a better match come with it, rather "
        "than as matches. The limit is then 100.",
    )
    include_query: bool = Field(
        False, description="Whether images of the query can be matches."
    )
    fields: list[str] | None = Field(
        None, description="Metadata fields to answer; by default all."
    )
    facets: list[str] = Field(
        default_factory=list,
        description="Fields whose values are counted among all images that satisfy "
        "the filter; at most 10.",
    )
    explain: bool = Field(
        False,
        description="Whether to say what each example adds to each score. The limit "
        "is then 20.",
    )


class SearchForm(Asked):
    """A search by an uploaded picture."""

    image: Binary
    request: SearchRequest | None = Field(
        None, description="The rest of the search, as JSON."
    )


class SearchParameters(AskedInAddress):
    """The rest of a search by a raw picture."""

    limit: int = Field(10, description=DEEP)
    min_score: float | None = Field(None, description="Least score of a match.")
    filter: str | None = Field(None, description="A filter, as JSON.")
    crop: str | None = Field(
        None, description="x0,y0,x1,y1 as fractions of the upright picture."
    )
    group_by: str | None = Field(
        None, description="A field of which each value is shown once."
    )
    group_size: int = Field(1, description="Most matches of each group: 1 to 100.")
    diversity: float = Field(0.0, description="0 to 1.")
    collapse_duplicates: bool = Field(
        False, description="Whether near duplicates come with the better match."
    )
    fields: str | None = Field(
        None, description="Metadata fields to answer, separated by commas."
    )
    facets: str | None = Field(
        None, description="Fields to count values of, separated by commas."
    )
    explain: bool = Field(False, description="As in JSON.")


class SearchBatch(Asked):
    """Several searches in one request."""

    searches: list[Any] = Field(
        description="1 to 100, each answered for itself; without cursors.",
        json_schema_extra={"items": {"$ref": "#/components/schemas/SearchRequest"}},
    )


class Relevance(Told):
    """What a score means in this collection; see the documentation of scores."""

    percentile: float = Field(
        description="The chance that two random images of the collection score lower."
    )
    same_label: float | None = Field(
        description="The chance that this match has the same label as the query, "
        "where labels were given."
    )


class Parts(Told):
    """What each example of the query adds to a score; they sum up to it."""

    positive: list[float]
    negative: list[float]


class Match(Told):
    """A lookalike."""

    id: str
    score: float = Field(
        description="Raw similarity by the collection's metric: higher is closer."
    )
    relevance: Relevance | None = Field(
        description="Null until the collection's scores are known, and for a query of "
        "several examples, whose scores mean something else."
    )
    metadata: dict[str, Any]
    group: Countable | None = Field(
        description="The value it is grouped by; null without one."
    )
    duplicates: list[str] = Field(
        description="Ids of near duplicates, if they were to be collapsed."
    )
    parts: Parts | None = Field(
        description="With `explain`; null where a score is no sum (the Euclidean "
        "metric, the strategy best)."
    )
    image_url: str
    thumbnail_url: str


class Took(Told):
    """Where the time went, in milliseconds."""

    decode: float
    embed: float
    search: float
    total: float


class FacetValue(Told):
    """How many images have a value."""

    value: Countable
    count: int


class Facet(Told):
    """What images have in one field."""

    values: list[FacetValue] = Field(description="Most frequent first, then by value.")
    distinct: int = Field(description="How many values there are.")
    missing: int = Field(description="How many images have none.")


class SearchAnswer(Told):
    """Lookalikes, best first."""

    matches: list[Match]
    complete: bool = Field(description="Whether as many were found as asked for.")
    incomplete_because: results.Shortage | None = Field(
        description="`collection`: there are no more images. `filter`: no more "
        "satisfy the filter. `groups`: there are no more groups. `min_score`: all "
        "others score lower. `depth`: too much had to be left out; there may be more."
    )
    next_cursor: str | None = Field(
        description="Leads to the matches after these; null: there are none."
    )
    facets: dict[str, Facet] | None = Field(description="If any were asked for.")
    explain_url: str | None = Field(
        description="With `explain`: where to send the query and the id of a match to "
        "see which regions agree."
    )
    backbone: str
    took_ms: Took


class BatchAnswer(Told):
    """What one search of a batch found, or why it cannot be: one of the two."""

    answer: SearchAnswer | None
    error: Problem | None


class BatchAnswers(Told):
    """The answers of a batch, in the order of its searches."""

    answers: list[BatchAnswer]
    took_ms: Took


class FacetRequest(Asked):
    """Fields whose values are counted."""

    fields: list[str] = Field(description="1 to 10 declared fields; not geo.")
    filter: FilterIn = None
    limit: int = Field(20, description="Most values of each field: 1 to 1,000.")


class FacetAnswer(Told):
    """How many images have which values, of those that a search can find."""

    images: int = Field(description="How many satisfy the filter.")
    facets: dict[str, Facet]
