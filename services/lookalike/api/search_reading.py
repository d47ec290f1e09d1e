"""What a search asks for, in each of the forms its request can have."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from flask import request

from lookalike import filters
from lookalike.api import jsontext
from lookalike.api.context import backends
from lookalike.api.entries import decode_base64
from lookalike.api.images import check_limit
from lookalike.api.multipart import Sink, read_form
from lookalike.api.operations import JSON, MULTIPART, body_bytes, check, json_body
from lookalike.api.search_schemas import (
    Example,
    Query,
    SearchParameters,
    SearchRequest,
)
from lookalike.collections import Collection, unknown_field
from lookalike.crops import parse_crop
from lookalike.errors import BadQuery, BadRequest
from lookalike.facets import check_facets
from lookalike.ingest import check_image_id
from lookalike.queries import Example as QueryExample
from lookalike.queries import Numbers, Picture, Source, Stored, Strategy
from lookalike.queries import Query as CoreQuery
from lookalike.results import Want

KINDS = "image (a picture in base64), id (a stored image) or vector (numbers)"
MAX_REQUEST_FIELD_BYTES = 2**20


@dataclass(frozen=True)
class Reading:
    """A search that was read and checked.

    ``query`` is None only with a cursor. ``columns`` are the metadata fields to
    answer; None: all.
    """

    query: CoreQuery | None
    cursor: str | None
    want: Want
    columns: frozenset[str] | None
    facets: Sequence[str]


def read_search(found_in: Collection, parameters: SearchParameters) -> Reading:
    """The search that this request asks for.

    Raises:
        BadInput: it cannot be read, or asks for something impossible.
    """
    asked, picture = _asked(parameters)
    return reading_of(found_in, asked, picture)


def reading_of(
    found_in: Collection, asked: SearchRequest, picture: bytes | None = None
) -> Reading:
    """A search as the core takes it; ``picture`` came beside it.

    Raises:
        BadInput: it asks for something impossible.
    """
    check_facets(found_in, asked.facets)
    want = _want(found_in, asked)
    columns = _columns(found_in, asked.fields)
    query = None
    if asked.cursor is None or asked.query is not None or picture is not None:
        query = read_query(asked.query, picture)
    return Reading(query, asked.cursor, want, columns, asked.facets)


def read_query(given: Query | None, picture: bytes | None = None) -> CoreQuery:
    """A query as the core takes it; ``picture`` came beside it.

    Raises:
        BadQuery: ``query_invalid``, ``crop_invalid``, ``url_queries_off``.
        BadRequest: code ``base64_invalid``.
        BadMetadata: code ``id_invalid``.
    """
    asked = given or Query()
    positive = [_example(one) for one in asked.positive or ()]
    first = _sources(asked, picture)
    if len(first) > 1 or not (first or positive):
        got = " and ".join(sorted(first)) or "none"
        raise BadQuery(
            f"A search has exactly one query: {KINDS}; or several in `positive`. "
            f"Got {got}."
        )
    crop = parse_crop(asked.crop)
    if first:
        positive.insert(0, QueryExample(_source(first), crop=crop))
    elif crop is not None:
        raise BadQuery("A crop stands beside the image or id that it is of.")
    negative = [_example(one) for one in asked.negative or ()]
    return CoreQuery(positive, negative, Strategy(asked.strategy))


def _example(given: Example) -> QueryExample:
    sources = _sources(given)
    if len(sources) != 1:
        got = " and ".join(sorted(sources)) or "none"
        raise BadQuery(f"An example is exactly one of {KINDS}; got {got}.")
    return QueryExample(_source(sources), given.weight, parse_crop(given.crop))


def _sources(given: Query | Example, picture: bytes | None = None) -> dict[str, object]:
    if given.url is not None:
        raise BadQuery(
            f"This server does not fetch pictures by url; send {KINDS}.",
            code="url_queries_off",
        )
    named = {"image": given.image, "id": given.id, "vector": given.vector}
    named["an uploaded picture"] = picture
    return {name: value for name, value in named.items() if value is not None}


def _source(sources: dict[str, object]) -> Source:
    ((kind, value),) = sources.items()
    if kind == "vector":
        return Numbers(value)
    if kind == "id":
        return Stored(check_image_id(value))
    return Picture(value if isinstance(value, bytes) else decode_base64(str(value)))


# --- forms of the request ------------------------------------------------------------


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
    given = parameters.model_dump(exclude_unset=True)
    if parameters.filter is not None:
        given["filter"] = jsontext.parse(
            parameters.filter, "The query parameter 'filter'"
        )
    for name in ("fields", "facets"):
        if name in given:
            given[name] = [one for one in given[name].split(",") if one]
    if parameters.crop is not None:
        given.pop("crop")
        given["query"] = Query(crop=_numbers(parameters.crop))
    return SearchRequest(**given)


def _numbers(text: str) -> object:
    """Numbers separated by commas; the text itself if they are none."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        return text


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


# --- the rest ------------------------------------------------------------------------


def _want(found_in: Collection, asked: SearchRequest) -> Want:
    return Want(
        limit=check_limit(asked.limit, backends().settings.max_limit),
        condition=filters.parse(asked.filter, found_in.fields),
        min_score=asked.min_score,
        group_by=asked.group_by,
        group_size=asked.group_size,
        diversity=asked.diversity,
        collapse_duplicates=asked.collapse_duplicates,
        include_query=asked.include_query,
        explain=asked.explain,
    )


def _columns(
    found_in: Collection, fields: Sequence[str] | None
) -> frozenset[str] | None:
    for name in fields or ():
        if name not in found_in.fields:
            detail, extra = unknown_field(name, found_in.fields)
            raise BadQuery(detail, code="query_unknown_field", extra=extra)
    return None if fields is None else frozenset(fields)
