"""Facets: how many images have which value of a field."""

from __future__ import annotations

from collections.abc import Sequence

from flask import Blueprint, Response

from lookalike import filters
from lookalike.api.context import backends, collection
from lookalike.api.operations import operation, tell
from lookalike.api.search_schemas import Facet, FacetAnswer, FacetRequest, FacetValue
from lookalike.collections import Collection
from lookalike.errors import BadFilter, BadQuery, CollectionNotFound
from lookalike.facets import count_facets

bp = Blueprint("facets", __name__, url_prefix="/v1/collections/<name>/facets")

USUAL_VALUES = 20


@bp.post("")
@operation(
    "Count values",
    "search",
    {200: FacetAnswer},
    body=FacetRequest,
    raises=(CollectionNotFound, BadFilter, BadQuery),
)
def count_values(name: str, body: FacetRequest) -> Response:
    """How many images that satisfy a filter have which values of some fields.

    Exact, of all images that a search can find.
    """
    found_in = collection(name)
    if not body.fields:
        raise BadQuery("Name at least one field to count the values of.")
    condition = filters.parse(body.filter, found_in.fields)
    return tell(counted(found_in, body.fields, condition, body.limit))


def counted(
    found_in: Collection,
    fields: Sequence[str],
    condition: filters.Filter | None,
    limit: int = USUAL_VALUES,
) -> FacetAnswer:
    """The values of fields among images that satisfy a filter.

    Raises:
        BadQuery: a field that cannot be counted, or a limit out of range.
    """
    made = count_facets(backends().ledger, found_in, fields, condition, limit)
    return FacetAnswer(
        images=made.images,
        facets={
            name: Facet(
                values=[FacetValue(value=one, count=n) for one, n in facet.values],
                distinct=facet.distinct,
                missing=facet.missing,
            )
            for name, facet in made.fields.items()
        },
    )
