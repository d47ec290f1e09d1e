"""Search: by a picture, a stored image or a vector."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence

from flask import Blueprint, Response, g, request

from lookalike import filters
from lookalike.api import addresses, jsontext
from lookalike.api.context import backends, collection, context
from lookalike.api.entries import decode_base64
from lookalike.api.images import check_limit
from lookalike.api.multipart import Sink, read_form
from lookalike.api.operations import (
    ANY_IMAGE,
    BYTES,
    JSON,
    MULTIPART,
    body_bytes,
    check,
    json_body,
    operation,
    tell,
)
from lookalike.api.search_schemas import (
    Match,
    Query,
    SearchAnswer,
    SearchForm,
    SearchParameters,
    SearchRequest,
    Took,
)
from lookalike.collections import Collection, Metadata, unknown_field
from lookalike.errors import (
    BackboneMismatch,
    BadEmbedding,
    BadFilter,
    BadImage,
    BadMetadata,
    BadQuery,
    BadRequest,
    CollectionNotFound,
    ImageNotFound,
)
from lookalike.ingest import check_image_id
from lookalike.search import Found, Want

bp = Blueprint("search", __name__, url_prefix="/v1/collections/<name>/search")

KINDS = "image (a picture in base64), id (a stored image) or vector (numbers)"
MAX_REQUEST_FIELD_BYTES = 2**20


@bp.post("")
@operation(
    "Find lookalikes",
    "search",
    {200: SearchAnswer},
    query=SearchParameters,
    accepts={
        JSON: SearchRequest,
        MULTIPART: SearchForm,
        ANY_IMAGE: BYTES,
        BYTES: BYTES,
    },
    raises=(
        CollectionNotFound,
        ImageNotFound,
        BackboneMismatch,
        BadEmbedding,
        BadFilter,
        BadImage,
        BadMetadata,
        BadQuery,
    ),
)
def find_lookalikes(name: str, query: SearchParameters) -> Response:
    """The images that look most like a picture, a stored image or a vector.

    In JSON and forms the rest of the search is in the body; the query parameters go
    with a raw picture.
    """
    found_in = collection(name)
    asked, picture = _asked(query)
    want = _want(found_in, asked)
    columns = _columns(found_in, asked.fields)
    with context().precedence.searching():
        found = _find(found_in, asked.query, picture, want)
        return tell(_answer(found_in, found, columns))


def _asked(parameters: SearchParameters) -> tuple[SearchRequest, bytes | None]:
    """What is asked, and the picture if the body brought one."""
    if request.mimetype not in (JSON, MULTIPART):
        return _asked_in_address(parameters), body_bytes(_max_bytes())
    if parameters.model_fields_set:
        raise BadRequest(
            "The query parameters go with a raw picture; in JSON and forms the rest of "
            "the search is in the body.",
            code="request_invalid",
        )
    if request.mimetype == MULTIPART:
        return _asked_in_form()
    return check(SearchRequest, json_body(_max_bytes())), None


def _asked_in_address(parameters: SearchParameters) -> SearchRequest:
    condition = None
    if parameters.filter is not None:
        condition = jsontext.parse(parameters.filter, "The query parameter 'filter'")
    fields = parameters.fields
    return SearchRequest(
        limit=parameters.limit,
        min_score=parameters.min_score,
        filter=condition,
        fields=None if fields is None else [name for name in fields.split(",") if name],
    )


def _asked_in_form() -> tuple[SearchRequest, bytes | None]:
    picture = io.BytesIO()
    form = read_form(
        request.stream,
        request.mimetype_params.get("boundary"),
        Sink(lambda: picture, max_files=1, max_field_bytes=MAX_REQUEST_FIELD_BYTES),
    )
    unknown = form.fields.keys() - {"request"}
    if unknown:
        raise BadRequest(
            f"Unknown form field {min(unknown)!r}; a search has a file part 'image' "
            "and a field 'request'.",
            code="request_invalid",
        )
    text = form.fields.get("request") or "{}"
    asked = check(
        SearchRequest,
        jsontext.parse(text, "The form field 'request'"),
        "The form field 'request'",
    )
    return asked, picture.getvalue() if form.filenames else None


def _max_bytes() -> int:
    return request.max_content_length or backends().settings.max_request_bytes


def _want(found_in: Collection, asked: SearchRequest) -> Want:
    return Want(
        limit=check_limit(asked.limit, backends().settings.max_limit),
        condition=filters.parse(asked.filter, found_in.fields),
        min_score=asked.min_score,
    )


def _columns(found_in: Collection, fields: Sequence[str] | None) -> set[str] | None:
    for name in fields or ():
        if name not in found_in.fields:
            detail, extra = unknown_field(name, found_in.fields)
            raise BadQuery(detail, code="query_unknown_field", extra=extra)
    return None if fields is None else set(fields)


def _find(
    found_in: Collection, query: Query | None, picture: bytes | None, want: Want
) -> Found:
    given = {} if query is None else query.model_dump(exclude_none=True)
    if picture is not None:
        given["an uploaded picture"] = picture
    if len(given) != 1:
        got = " and ".join(sorted(given)) or "none"
        raise BadQuery(f"A search has exactly one query: {KINDS}; got {got}.")
    kind, value = given.popitem()
    searcher = context().searcher
    if kind == "vector":
        return searcher.by_vector(found_in, value, want)
    if kind == "id":
        return searcher.by_id(found_in, check_image_id(value), want)
    data = value if isinstance(value, bytes) else decode_base64(value)
    return searcher.by_image(found_in, data, want)


def _answer(
    found_in: Collection, found: Found, columns: set[str] | None
) -> SearchAnswer:
    matches = [
        Match(
            id=match.id,
            score=match.score,
            metadata=_only(match.image.metadata, columns),
            image_url=f"{address}/original",
            thumbnail_url=f"{address}/thumbnail",
        )
        for match in found.matches
        for address in [addresses.image(found_in.name, match.id)]
    ]
    spent = found.timing
    took = Took(
        decode=round(spent.decode, 3),
        embed=round(spent.embed, 3),
        search=round(spent.search, 3),
        total=round((time.perf_counter() - g.started) * 1000, 3),
    )
    return SearchAnswer(
        matches=matches,
        complete=found.complete,
        backbone=found_in.backbone,
        took_ms=took,
    )


def _only(metadata: Metadata, columns: set[str] | None) -> Metadata:
    if columns is None:
        return metadata
    return {name: value for name, value in metadata.items() if name in columns}
