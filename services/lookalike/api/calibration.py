"""Finding out what the scores of a collection mean."""

from __future__ import annotations

from datetime import datetime

from flask import Blueprint, Response
from pydantic import Field

from lookalike import calibration
from lookalike.api.context import backends, collection
from lookalike.api.operations import operation, tell
from lookalike.api.schemas import Asked, Told
from lookalike.errors import BadQuery, CollectionNotFound, StorageFull
from lookalike.relevance import Calibration

bp = Blueprint("calibration", __name__, url_prefix="/v1/collections/<name>")

SHOWN = (0.5, 0.9, 0.99, 0.999)


class CalibrationRequest(Asked):
    """What the scores are to be compared with."""

    label: str | None = Field(
        None,
        description="A field of string, string[], int or bool; matches then say the "
        "chance that they have the same value as the query.",
    )


class CalibrationAnswer(Told):
    """What was found out about the scores of a collection."""

    images: int = Field(description="How many the collection had.")
    sampled: int = Field(description="How many of them were compared with each other.")
    made_at: datetime
    label: str | None = Field(
        description="The field of labels; null too if fewer than 200 matches had one."
    )
    scores: dict[str, float] = Field(
        description="By percentile: the score that so large a share of the pairs of "
        "images stays below."
    )


@bp.post("/calibrate")
@operation(
    "Calibrate scores",
    "collections",
    {200: CalibrationAnswer},
    body=CalibrationRequest,
    raises=(CollectionNotFound, BadQuery, StorageFull),
)
def calibrate_scores(name: str, body: CalibrationRequest) -> Response:
    """Find out what scores mean here, for the `relevance` of matches; takes seconds.

    A sample of the images is compared. A server does this by itself when a collection
    has 100 images, and again whenever it has grown by half, with the label that was
    named here last.
    """
    parts = backends()
    made = calibration.keep(parts.ledger, parts.index, collection(name), body.label)
    if made is None:
        least = calibration.LEAST_IMAGES
        raise BadQuery(
            f"A collection needs {least} searchable images before its scores say "
            "anything.",
            code="too_few_images",
            extra={"least": least},
        )
    return tell(_answer(made))


def _answer(made: Calibration) -> CalibrationAnswer:
    return CalibrationAnswer(
        images=made.images,
        sampled=made.sampled,
        made_at=made.made_at,
        label=made.labels.field if made.labels else None,
        scores={f"{share:g}": made.below.inverse(share) for share in SHOWN},
    )
