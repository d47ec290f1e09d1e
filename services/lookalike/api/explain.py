"""Why did it match: which regions of two pictures agree, and the part of each."""

from __future__ import annotations

import base64

from flask import Blueprint, Response, request
from pydantic import Field

from lookalike.api.context import backends, collection, context
from lookalike.api.operations import JSON, check, json_body, operation, tell
from lookalike.api.schemas import Asked, Told
from lookalike.api.search_reading import read_query
from lookalike.api.search_schemas import Query
from lookalike.errors import (
    BackboneMismatch,
    BadEmbedding,
    BadImage,
    BadMetadata,
    BadQuery,
    CollectionNotFound,
    ImageNotFound,
)
from lookalike.explain import Part, Region
from lookalike.ingest import check_image_id
from lookalike.queries import Stored

bp = Blueprint("explain", __name__, url_prefix="/v1/collections/<name>/search")

GRID_DIGITS = 4


class ExplainRequest(Asked):
    """A query as in a search, and the match that is asked about."""

    query: Query
    match: str = Field(description="Id of any image of the collection.")
    overlays: bool = Field(
        True, description="Whether to draw the pictures; else only numbers come."
    )


class RegionTold(Told):
    """Where a picture agrees with another."""

    grid: list[list[float]] = Field(
        description="Rows from top to bottom, 0 (no agreement above the rest of the "
        "picture) to 1 (the greatest)."
    )
    box: list[float] = Field(
        description="[x0, y0, x1, y1]: what the grid lies over, as fractions of the "
        "upright picture; the backbone sees nothing outside."
    )
    overlay: str | None = Field(
        description="The picture as a PNG in base64: glowing where it agrees, dark "
        "where it does not."
    )


class PartTold(Told):
    """What one example of the query has to do with the match."""

    id: str | None = Field(description="Of an example that is a stored image.")
    is_positive: bool
    score: float = Field(description="Of this example alone with the match.")
    part: float | None = Field(
        description="What it adds to the score of the query; all parts sum up to it. "
        "Null where the score is no sum (the Euclidean metric, the strategy best)."
    )
    in_example: RegionTold | None = Field(
        description="Regions of the example that agree with the match; null of a "
        "vector."
    )
    in_match: RegionTold | None = Field(
        description="Regions of the match that agree with the example."
    )


class ExplainAnswer(Told):
    """Why an image matches a query."""

    match: str
    score: float = Field(description="As in a search.")
    parts: list[PartTold] = Field(
        description="One for each example, the positive ones first."
    )


@bp.post("/explain")
@operation(
    "Explain a match",
    "search",
    {200: ExplainAnswer},
    accepts={JSON: ExplainRequest},
    raises=(
        CollectionNotFound,
        ImageNotFound,
        BackboneMismatch,
        BadEmbedding,
        BadImage,
        BadMetadata,
        BadQuery,
    ),
)
def explain_match(name: str) -> Response:
    """Which regions of a match and of the query agree, and what each example adds.

    Regions come from the backbone's feature map; of one without, the answer is
    `explain_unsupported`. At most 8 examples may be pictures.
    """
    found_in = collection(name)
    most = request.max_content_length or backends().settings.max_request_bytes
    asked = check(ExplainRequest, json_body(most))
    query = read_query(asked.query)
    match = check_image_id(asked.match)
    # Ten squares a picture keep a core busy: more at once would only take turns.
    with context().decoders, context().precedence.searching():
        found = backends().explainer.explain(found_in, query, match)
    parts = [_part(part, overlays=asked.overlays) for part in found.parts]
    return tell(ExplainAnswer(match=found.match, score=found.score, parts=parts))


def _part(part: Part, *, overlays: bool) -> PartTold:
    source = part.example.source
    return PartTold(
        id=source.id if isinstance(source, Stored) else None,
        is_positive=part.is_positive,
        score=part.score,
        part=part.part,
        in_example=_region(part.own, overlays=overlays),
        in_match=_region(part.other, overlays=overlays),
    )


def _region(region: Region | None, *, overlays: bool) -> RegionTold | None:
    if region is None:
        return None
    box = region.box
    overlay = base64.b64encode(region.overlay).decode() if overlays else None
    return RegionTold(
        grid=region.grid.astype(float).round(GRID_DIGITS).tolist(),
        box=[box.left, box.top, box.right, box.bottom],
        overlay=overlay,
    )
