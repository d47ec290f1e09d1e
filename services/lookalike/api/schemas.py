"""What goes in and out over HTTP: these models check requests and make the OpenAPI."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from lookalike import collections, interfaces
from lookalike.collections import (
    DuplicatePolicy,
    FieldType,
    IndexKind,
    IndexSpec,
    nearest,
)
from lookalike.interfaces import ImageState

# Checked by the domain, whose errors say more than a schema can.
MetadataIn = Annotated[
    Any,
    WithJsonSchema(
        {
            "type": ["object", "null"],
            "description": "Values of the declared fields; null leaves a field out.",
            "examples": [{"category": "shoes", "price": 49.9}],
        }
    ),
]
BERLIN = {"lat": 52.52, "lon": 13.4, "radius_m": 5_000}
FilterIn = Annotated[
    Any,
    WithJsonSchema(
        {
            "type": ["object", "null"],
            "description": "Field-first conditions: a bare value is $eq, a bare list "
            "$in; operators $eq $ne $in $nin $gt $gte $lt $lte $prefix (string), $any "
            "$all (string[]), $within_radius $within_box (geo), $exists, $and $or "
            "$not. Or Qdrant's must, should, must_not and min_should.",
            "examples": [
                {"category": ["shoes", "bags"], "price": {"$lt": 50}},
                {"place": {"$within_radius": BERLIN}},
                {"must": [{"key": "price", "range": {"lt": 50}}]},
            ],
        }
    ),
]
IndexIn = Annotated[
    Any,
    WithJsonSchema(
        {
            "type": ["object", "null"],
            "properties": {
                "type": {
                    "type": "string",
                    "enum": ["automatic", *(kind.value for kind in IndexKind)],
                },
                "params": {
                    "type": "object",
                    "additionalProperties": {"type": "integer"},
                },
                "images": {"type": "integer"},
            },
            "additionalProperties": False,
            "description": "How the vectors are arranged for searching, by default as "
            "suits the engine; or how many images there are going to be, for a "
            "choice by size.",
            "examples": [{"type": "HNSW", "params": {"M": 32}}, {"images": 5_000_000}],
        }
    ),
]
VectorIn = Annotated[
    Any,
    WithJsonSchema(
        {
            "type": ["array", "null"],
            "items": {"type": "number"},
            "description": "As many numbers as the collection has dimensions.",
        }
    ),
]
FieldsIn = Annotated[
    Any,
    WithJsonSchema(
        {
            "type": ["object", "null"],
            "description": "Metadata fields by name, each with its type.",
            "additionalProperties": {
                "anyOf": [
                    {
                        "type": "object",
                        "properties": {"type": {"enum": list(FieldType)}},
                        "required": ["type"],
                        "additionalProperties": False,
                    },
                    {"enum": list(FieldType)},
                ]
            },
            "examples": [{"category": {"type": "string"}, "price": {"type": "float"}}],
        }
    ),
]
SIDES = ("160", "320", "640")
# A literal takes no text for a number, not even where nothing else can be written.
Side = Annotated[
    Literal[160, 320, 640],
    BeforeValidator(lambda text: int(text) if text in SIDES else text),
]
Binary = Annotated[str, WithJsonSchema({"type": "string", "format": "binary"})]


class Asked(BaseModel):
    """Something a caller sends: no unknown keys, no silent conversions."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _name_the_nearest(cls, given: object) -> object:
        for key in given if isinstance(given, dict) else ():
            if key not in cls.model_fields:
                guess = nearest(str(key), cls.model_fields)
                known = ", ".join(cls.model_fields)
                hint = f"did you mean '{guess}'? " if guess else ""
                raise PydanticCustomError(
                    "unknown_key",
                    "unknown key '{key}'; {hint}Known: {known}",
                    {"key": str(key)[:80], "nearest": guess, "hint": hint}
                    | {"known": known},
                )
        return given


class AskedInAddress(Asked):
    """Query parameters: text that is converted to what is declared."""

    model_config = ConfigDict(strict=False)


class Told(BaseModel):
    """Something the server answers."""

    model_config = ConfigDict(frozen=True)


class Problem(Told):
    """What went wrong, as RFC 9457 problem details."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="Always about:blank; `code` tells errors apart.")
    title: str = Field(description="The phrase of the HTTP status.")
    status: int
    detail: str = Field(description="A sentence: what was wrong, what is accepted.")
    code: str = Field(description="Stable and machine-readable, in snake_case.")
    retryable: bool = Field(description="Whether the same call can succeed later.")
    instance: str = Field(description="The path of the request.")


# --- collections ---------------------------------------------------------------------


class NewCollection(Asked):
    """A collection to create."""

    name: str = Field(description="1 to 63 of a-z, 0-9, '-' and '_'.")
    fields: FieldsIn = None
    metric: str | None = Field(
        None, description="How embeddings compare: cosine, ip, euclidean or pearson."
    )
    index: IndexIn = None
    duplicates: str | None = Field(
        None,
        description="What becomes of a new image of which the collection has a near "
        "copy: keep (the default), link (its `duplicate_of` names that one) or reject.",
    )
    backbone: str | None = Field(
        None, description="The network that embeds; by default the one that runs."
    )


class FieldDeclaration(Told):
    """One declared metadata field."""

    type: FieldType


class IndexDeclaration(Told):
    """The index of a collection's vectors, as it was asked for."""

    type: str = Field(description="automatic, or as Milvus names it.")
    params: dict[str, int]

    @classmethod
    def of(cls, index: IndexSpec) -> Self:
        """What is told of an index."""
        kind = "automatic" if index.kind is None else index.kind.value
        return cls(type=kind, params=dict(index.params))


class Counts(Told):
    """How many images a collection has, by state."""

    pending: int
    indexed: int
    failed: int


class CollectionSummary(Told):
    """A collection."""

    name: str
    fields: dict[str, FieldDeclaration]
    metric: str
    index: IndexDeclaration
    duplicates: DuplicatePolicy
    backbone: str = Field(description="Name of the network that embeds.")
    fingerprint: str = Field(description="Names what the vectors mean.")
    dimension: int = Field(description="Length of a vector.")
    created_at: datetime

    @classmethod
    def of(cls, collection: collections.Collection) -> Self:
        """What is told of a collection."""
        return cls(**_collection(collection))


class CollectionDetails(CollectionSummary):
    """A collection and how many images it has."""

    counts: Counts

    @classmethod
    def counted(
        cls,
        collection: collections.Collection,
        counts: dict[ImageState, int],
    ) -> Self:
        """What is told of a collection whose images were counted."""
        by_state = {state.value: counts.get(state, 0) for state in ImageState}
        return cls(**_collection(collection), counts=Counts(**by_state))


def _collection(collection: collections.Collection) -> dict[str, Any]:
    declared = collection.fields.items()
    return {
        "name": collection.name,
        "fields": {name: FieldDeclaration(type=kind) for name, kind in declared},
        "metric": collection.metric.value,
        "index": IndexDeclaration.of(collection.index),
        "duplicates": collection.duplicates,
        "backbone": collection.backbone,
        "fingerprint": collection.fingerprint,
        "dimension": collection.dimension,
        "created_at": collection.created_at,
    }


class CollectionList(Told):
    """All collections, by name."""

    collections: list[CollectionSummary]


# --- jobs ----------------------------------------------------------------------------


class Job(Told):
    """One accepted ingestion: total = done + unchanged + failed + superseded + pending.

    Finished when `finished_at` is set.
    """

    id: str
    collection: str
    total: int
    done: int
    unchanged: int = Field(description="Ingested before, same bytes and metadata.")
    failed: int
    superseded: int = Field(description="Replaced or deleted before they were done.")
    pending: int
    created_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, job: interfaces.Job) -> Self:
        """What is told of a job."""
        return cls.model_validate(job, from_attributes=True)


class JobAnswer(Told):
    """The job that does what was asked."""

    job: Job


class JobList(Told):
    """Jobs, newest first."""

    jobs: list[Job]
    next_cursor: str | None


class Failure(Told):
    """Why one image of a job did not become searchable."""

    position: int = Field(description="Its 0-based place in the request.")
    id: str | None
    code: str
    detail: str
    retryable: bool = Field(description="Whether sending it again can help.")

    @classmethod
    def of(cls, failure: interfaces.Failure) -> Self:
        """What is told of a failure."""
        return cls(
            position=failure.position,
            id=failure.image_id,
            code=failure.code,
            detail=failure.detail,
            retryable=failure.retryable,
        )


class FailureList(Told):
    """Failures of a job, in order of position."""

    failures: list[Failure]
    next_cursor: str | None


class JobPage(AskedInAddress):
    """Which page of jobs or failures."""

    limit: int = Field(100, description="Most entries to answer: 1 to 1,000.")
    cursor: str | None = Field(None, description="`next_cursor` of the page before.")


# --- images --------------------------------------------------------------------------


class Item(Asked):
    """What belongs to one file of a multipart request."""

    id: str | None = Field(None, description="By default the SHA-256 of the bytes.")
    metadata: MetadataIn = None


class Entry(Item):
    """One image of a JSON or NDJSON request."""

    base64: str = Field(description="The bytes of the image file, in base64.")


class EntryList(Asked):
    """Images as JSON; a bare list of entries is accepted too."""

    images: list[Any] = Field(
        json_schema_extra={"items": {"$ref": "#/components/schemas/Entry"}}
    )


class Upload(Asked):
    """A multipart form of images: one to 1,000 file parts, of any name."""

    image: list[Binary] = Field(description="File parts; repeat it for each image.")
    metadata: MetadataIn = None
    items: list[Item] | None = Field(
        None, description="Entry i belongs to file i; merged over `metadata`."
    )


class RawImage(AskedInAddress):
    """What belongs to the one image of a raw body."""

    id: str | None = Field(None, description="By default the SHA-256 of the bytes.")
    metadata: str | None = Field(None, description="A JSON object.")


class ImagePage(AskedInAddress):
    """Which page of images."""

    limit: int = Field(100, description="Most images to answer: 1 to 1,000.")
    cursor: str | None = Field(None, description="`next_cursor` of the page before.")
    filter: str | None = Field(None, description="A filter, as JSON.")


class ThumbnailSize(AskedInAddress):
    """How large a thumbnail is."""

    side: Side = Field(320, description="Longest side in pixels.")


class MetadataPatch(Asked):
    """A JSON merge patch of metadata: null removes a field."""

    metadata: MetadataIn


class Doomed(Asked):
    """Images to delete: exactly one of the two."""

    ids: list[str] | None = Field(
        None, description="Images by id; those that do not exist are ignored."
    )
    filter: FilterIn = None


class Image(Told):
    """An image."""

    id: str
    metadata: dict[str, Any]
    state: ImageState = Field(
        description="`pending`: not searchable in its newest form yet."
    )
    digest: str = Field(description="SHA-256 of the original bytes.")
    bytes: int
    format: str
    width: int = Field(description="As stored in the file, before EXIF orientation.")
    height: int
    created_at: datetime
    updated_at: datetime
    duplicate_of: str | None = Field(
        None, description="The image it was linked to, as there before it."
    )
    image_url: str
    thumbnail_url: str


class ImageList(Told):
    """Images in order of id."""

    images: list[Image]
    next_cursor: str | None


# --- health --------------------------------------------------------------------------


class Alive(Told):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Part(Told):
    """The state of one part."""

    ok: bool
    took_ms: float
    code: str | None = None
    detail: str | None = None


class Readiness(Told):
    """Whether every part works, and what that means for those who call."""

    status: Literal["ready", "degraded", "down"] = Field(
        description="`degraded`: something is away that only some calls need. A "
        "problem of `/readyz` means `down`, and holds the other keys."
    )
    ready: bool = Field(description="Whether every part works.")
    ingests: bool = Field(description="Whether images are accepted now.")
    searches: bool = Field(description="Whether a search by picture can work now.")
    parts: dict[str, Part]
