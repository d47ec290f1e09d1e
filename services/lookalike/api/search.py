"""Search: by pictures, stored images or vectors; one at a time, or many at once."""

from __future__ import annotations

import time

from flask import Blueprint, Response, g, request

from lookalike.api import addresses, facets
from lookalike.api.context import backends, collection, context
from lookalike.api.errors import document_of
from lookalike.api.operations import (
    ANY_IMAGE,
    BYTES,
    JSON,
    MULTIPART,
    check,
    json_body,
    operation,
    tell,
)
from lookalike.api.schemas import Problem
from lookalike.api.search_reading import Reading, read_search, reading_of
from lookalike.api.search_schemas import (
    BatchAnswer,
    BatchAnswers,
    Match,
    Parts,
    Relevance,
    SearchAnswer,
    SearchBatch,
    SearchForm,
    SearchParameters,
    SearchRequest,
    Took,
)
from lookalike.collections import Collection, Metadata
from lookalike.errors import (
    BackboneMismatch,
    BadEmbedding,
    BadFilter,
    BadImage,
    BadInput,
    BadMetadata,
    BadQuery,
    CollectionNotFound,
    ImageNotFound,
    LookalikeError,
)
from lookalike.results import Found, Timing
from lookalike.results import Match as FoundMatch

bp = Blueprint("search", __name__, url_prefix="/v1/collections/<name>/search")

MAX_BATCH = 100  # searches
MAX_BATCH_BYTES = 64 * 2**20  # JSON is held in memory


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

    Several pictures can be looked for, and others avoided. In JSON and forms the rest
    of the search is in the body; the query parameters go with a raw picture.

    `next_cursor` leads to more: pages neither repeat an image nor leave one out,
    whatever is ingested, changed or deleted meanwhile. An image that comes between two
    pages is on a later one, however high it scores. They end after 10,000 matches, or
    1,000 with diversity or collapse_duplicates: `page_too_deep`.
    """
    found_in = collection(name)
    reading = read_search(found_in, query)
    with context().precedence.searching():
        return tell(_answer(found_in, reading, _find(found_in, reading)))


@bp.post("/batch")
@operation(
    "Find lookalikes of many",
    "search",
    {200: BatchAnswers},
    accepts={JSON: SearchBatch},
    raises=(CollectionNotFound, BackboneMismatch, BadEmbedding, BadQuery),
)
def find_many_lookalikes(name: str) -> Response:
    """Up to 100 searches at once, each with an answer or an error of its own.

    Cheaper than one by one: all pictures are embedded together, and searches with the
    same filter and limit are one question to the index.
    """
    found_in = collection(name)
    most = min(MAX_BATCH_BYTES, backends().settings.max_request_bytes)
    request.max_content_length = most
    given = check(SearchBatch, json_body(most)).searches
    if not 1 <= len(given) <= MAX_BATCH:
        raise BadQuery(
            f"A batch has 1 to {MAX_BATCH} searches; got {len(given)}.",
            code="batch_invalid",
            extra={"limit": MAX_BATCH},
        )
    with context().precedence.searching():
        return tell(_answer_all(found_in, [_read(found_in, one) for one in given]))


def _read(found_in: Collection, given: object) -> Reading | BadInput:
    try:
        reading = reading_of(found_in, check(SearchRequest, given, "The search"))
        if reading.query is None or reading.cursor is not None:
            raise BadQuery("A batch takes no cursors; send the next page by itself.")
    except BadInput as error:
        return error
    return reading


def _find(found_in: Collection, reading: Reading) -> Found:
    searcher, query = context().searcher, reading.query
    if reading.cursor is not None:
        return searcher.next_page(found_in, reading.cursor, reading.want, query)
    assert query is not None
    return searcher.search(found_in, query, reading.want)


def _answer_all(
    found_in: Collection, readings: list[Reading | BadInput]
) -> BatchAnswers:
    searches = [
        (one.query, one.want)
        for one in readings
        if isinstance(one, Reading) and one.query is not None
    ]
    found = iter(context().searcher.search_all(found_in, searches))
    answers, spent = [], Timing()
    for reading in readings:
        result = reading if isinstance(reading, BadInput) else next(found)
        if isinstance(result, Found) and isinstance(reading, Reading):
            answer = _answer(found_in, reading, result)
            answers.append(BatchAnswer(answer=answer, error=None))
            both = spent.search + result.timing.search
            spent = Timing(result.timing.decode, result.timing.embed, both)
        elif isinstance(result, LookalikeError):
            problem = Problem.model_validate(document_of(result))
            answers.append(BatchAnswer(answer=None, error=problem))
    return BatchAnswers(answers=answers, took_ms=_took(spent))


# --- what is told --------------------------------------------------------------------


def _answer(found_in: Collection, reading: Reading, found: Found) -> SearchAnswer:
    counted = None
    if reading.facets:
        counted = facets.counted(found_in, reading.facets, reading.want.condition)
    explain_url = f"{addresses.collection(found_in.name)}/search/explain"
    return SearchAnswer(
        matches=[_match(found_in, reading, match) for match in found.matches],
        complete=found.complete,
        incomplete_because=found.because,
        next_cursor=found.next_cursor,
        facets=None if counted is None else counted.facets,
        explain_url=explain_url if reading.want.explain else None,
        backbone=found_in.backbone,
        took_ms=_took(found.timing),
    )


def _match(found_in: Collection, reading: Reading, match: FoundMatch) -> Match:
    address = addresses.image(found_in.name, match.id)
    group_by, known = reading.want.group_by, match.relevance
    return Match(
        id=match.id,
        score=match.score,
        relevance=None if known is None else Relevance(**vars(known)),
        metadata=_only(match.image.metadata, reading.columns),
        group=None if group_by is None else match.image.metadata.get(group_by),
        duplicates=list(match.duplicates),
        parts=None if match.parts is None else _parts(match),
        image_url=f"{address}/original",
        thumbnail_url=f"{address}/thumbnail",
    )


def _parts(match: FoundMatch) -> Parts:
    each = [round(part, 6) for part in match.parts or ()]
    return Parts(positive=each[: match.positives], negative=each[match.positives :])


def _took(spent: Timing) -> Took:
    return Took(
        decode=round(spent.decode, 3),
        embed=round(spent.embed, 3),
        search=round(spent.search, 3),
        total=round((time.perf_counter() - g.started) * 1000, 3),
    )


def _only(metadata: Metadata, columns: frozenset[str] | None) -> Metadata:
    if columns is None:
        return metadata
    return {name: value for name, value in metadata.items() if name in columns}
