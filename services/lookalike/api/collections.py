"""Collections: creating, listing and deleting them."""

from __future__ import annotations

from http import HTTPStatus

from flask import Blueprint, Response

from lookalike import catalogue
from lookalike.api import addresses
from lookalike.api.context import backends, collection, team
from lookalike.api.operations import operation, tell
from lookalike.api.schemas import (
    CollectionDetails,
    CollectionList,
    CollectionSummary,
    NewCollection,
)
from lookalike.errors import (
    BackboneMismatch,
    BadMetadata,
    CollectionExists,
    CollectionNotFound,
    StorageFull,
)

bp = Blueprint("collections", __name__, url_prefix="/v1/collections")


@bp.post("")
@operation(
    "Create a collection",
    "collections",
    {201: CollectionDetails},
    body=NewCollection,
    raises=(BadMetadata, CollectionExists, BackboneMismatch, StorageFull),
)
def create_collection(body: NewCollection) -> Response:
    """Make an empty collection with declared metadata fields."""
    _check_backbone(body.backbone)
    parts = backends()
    made = catalogue.create_collection(
        parts.ledger,
        parts.index,
        parts.backbone,
        team(),
        body.name,
        body.fields,
        body.metric,
        body.index,
        body.duplicates,
    )
    return tell(
        CollectionDetails.counted(made, {}),
        HTTPStatus.CREATED,
        {"Location": addresses.collection(made.name)},
    )


@bp.get("")
@operation("List collections", "collections", {200: CollectionList})
def list_collections() -> Response:
    """All collections, by name."""
    found = backends().ledger.collections(team())
    summaries = [CollectionSummary.of(one) for one in found]
    return tell(CollectionList(collections=summaries))


@bp.get("/<name>")
@operation(
    "Get a collection",
    "collections",
    {200: CollectionDetails},
    raises=(CollectionNotFound,),
)
def get_collection(name: str) -> Response:
    """A collection and how many images it has."""
    found = collection(name)
    counts = backends().ledger.image_counts(found)
    return tell(CollectionDetails.counted(found, counts))


@bp.delete("/<name>")
@operation(
    "Delete a collection",
    "collections",
    {204: None},
    raises=(CollectionNotFound, StorageFull),
)
def delete_collection(name: str) -> Response:
    """Delete a collection with all its images."""
    parts = backends()
    catalogue.delete_collection(parts.ledger, parts.index, team(), name)
    return Response(status=HTTPStatus.NO_CONTENT)


def _check_backbone(wanted: str | None) -> None:
    runs = backends().backbone
    if wanted not in (None, runs.name):
        raise BackboneMismatch(
            f"The backbone that runs is {runs.name!r}; collections of another one "
            "need a server that runs it (LOOKALIKE_BACKBONE).",
            extra={"runs": runs.name},
        )
