"""Errors as problem details (RFC 9457): the only place that knows HTTP statuses."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from lookalike.errors import (
    BackboneMismatch,
    BadEmbedding,
    BadFilter,
    BadImage,
    BadInput,
    BadMetadata,
    BadQuery,
    BadRequest,
    CollectionExists,
    IdempotencyConflict,
    IdempotencyInUse,
    LookalikeError,
    Misconfigured,
    NotFound,
    NothingToRetry,
    OriginalMissing,
    Overloaded,
    StorageFull,
    TooLarge,
    Unavailable,
    UnsupportedMedia,
)

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
# Seconds after which a repeat is worth it, by status. A backlog shrinks with every
# image; room on a disk has to be made.
RETRY_AFTER = {409: 5, 429: 10, 503: 5, 507: 60}

# A class that is not listed has the status of its nearest listed base.
STATUS: dict[type[LookalikeError], int] = {
    LookalikeError: 500,
    BadInput: 400,
    BadRequest: 400,
    BadImage: 422,
    BadMetadata: 422,
    BadFilter: 400,
    BadQuery: 400,
    TooLarge: 413,
    UnsupportedMedia: 415,
    IdempotencyConflict: 422,
    NotFound: 404,
    CollectionExists: 409,
    IdempotencyInUse: 409,
    NothingToRetry: 409,
    Overloaded: 429,
    BackboneMismatch: 409,
    BadEmbedding: 502,
    Misconfigured: 500,
    Unavailable: 503,
    OriginalMissing: 503,
    StorageFull: 507,
}

# Codes of what the framework itself answers.
FRAMEWORK_CODES = {
    400: "bad_request",
    403: "forbidden",
    404: "address_not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media",
    500: "internal_error",
}


def status_of(error: type[LookalikeError]) -> int:
    """The HTTP status of an error class."""
    return next(STATUS[base] for base in error.__mro__ if base in STATUS)


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    retryable: bool = False,
    extra: Mapping[str, object] | None = None,
) -> Response:
    """A problem document as an answer."""
    document = _document(status, code, detail, retryable, extra or {})
    response = Response(json.dumps(document), status, mimetype=MEDIA_TYPE)
    if retryable or status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = str(RETRY_AFTER.get(status, 5))
    return response


def document_of(error: LookalikeError) -> dict[str, object]:
    """The problem document of an error, where it is a part of an answer."""
    return _document(
        status_of(type(error)), error.code, error.detail, error.retryable, error.extra
    )


def _document(
    status: int, code: str, detail: str, retryable: bool, extra: Mapping[str, object]
) -> dict[str, object]:
    document: dict[str, object] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "retryable": retryable,
        "instance": request.path,
    }
    more = {name: value for name, value in extra.items() if name not in document}
    return document | more


def register(app: Flask) -> None:
    """Answer every error of the application as a problem document."""
    app.register_error_handler(LookalikeError, answer_error)
    app.register_error_handler(HTTPException, answer_http_exception)
    app.register_error_handler(Exception, answer_surprise)


def answer_error(error: LookalikeError) -> Response:
    """The problem document of an error that was raised on purpose."""
    status = status_of(type(error))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("%s %s: %s", request.method, request.path, error.detail)
    return problem(
        status, error.code, error.detail, retryable=error.retryable, extra=error.extra
    )


def answer_http_exception(error: HTTPException) -> Response:
    """The problem document of what the framework refused; redirects pass."""
    plain = error.get_response()
    status = error.code or plain.status_code
    if status < HTTPStatus.BAD_REQUEST:
        return Response(plain.data, status, plain.headers)
    code = FRAMEWORK_CODES.get(status, HTTPStatus(status).name.lower())
    response = problem(status, code, _framework_detail(status, error))
    for name in ("Allow", "Retry-After"):
        if name in plain.headers:
            response.headers[name] = plain.headers[name]
    return response


def _framework_detail(status: int, error: HTTPException) -> str:
    if status == HTTPStatus.NOT_FOUND:
        return f"There is nothing at {request.path[:200]}; see /docs for what there is."
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        limit = request.max_content_length
        return f"The body of this request is over the limit of {limit} bytes."
    return error.description or HTTPStatus(status).phrase


def answer_surprise(error: Exception) -> Response:
    """The problem document of a defect: logged in full, told in general."""
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    return problem(
        500,
        "internal_error",
        f"This is a defect of the server. Its log has the cause at request "
        f"{g.get('request_id', 'unknown')}.",
    )
