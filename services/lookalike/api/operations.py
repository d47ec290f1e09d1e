"""Operations: a view, what it takes and what it answers, declared in one place.

The same declaration checks requests and makes the OpenAPI document, so that the two
cannot differ.
"""

from __future__ import annotations

import fnmatch
import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from flask import Response, request
from pydantic import BaseModel, ValidationError

from lookalike.api import jsontext
from lookalike.api.schemas import Asked, AskedInAddress
from lookalike.errors import BadRequest, LookalikeError, TooLarge, UnsupportedMedia
from lookalike.idempotency import HEADER, check_key

JSON = "application/json"
MULTIPART = "multipart/form-data"
NDJSON = "application/x-ndjson"
ANY_IMAGE = "image/*"
BYTES = "application/octet-stream"

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
MAX_JSON_BYTES = 2**20  # of a body that carries no image
MAX_LISTED_ERRORS = 20
REPLAYED_HEADER = "Idempotency-Replayed"

View = Callable[..., Response]
V = TypeVar("V", bound=View)
A = TypeVar("A", bound=Asked)


@dataclass(frozen=True)
class Operation:
    """What one view takes and answers.

    Attributes:
        summary: a few words for a list of operations.
        tag: the group it belongs to.
        answers: by status: the model of a JSON answer, another media type, or None
            for no body.
        query: the query parameters; the view gets them as ``query``.
        body: the model of a JSON body; the view gets it as ``body``.
        accepts: the bodies it reads itself, by media type.
        keyed: whether it takes an Idempotency-Key; the view gets it as ``key``.
        raises: the errors a caller can meet, beside those of every operation.
    """

    summary: str
    tag: str
    answers: Mapping[int, type[BaseModel] | str | None]
    query: type[AskedInAddress] | None = None
    body: type[Asked] | None = None
    accepts: Mapping[str, type[BaseModel] | str] = field(default_factory=dict)
    keyed: bool = False
    raises: tuple[type[LookalikeError], ...] = ()

    @property
    def takes_body(self) -> bool:
        """Whether a request of this operation has a body."""
        return self.body is not None or bool(self.accepts)


def operation(
    summary: str,
    tag: str,
    answers: Mapping[int, type[BaseModel] | str | None],
    *,
    query: type[AskedInAddress] | None = None,
    body: type[Asked] | None = None,
    accepts: Mapping[str, type[BaseModel] | str] | None = None,
    keyed: bool = False,
    raises: tuple[type[LookalikeError], ...] = (),
) -> Callable[[V], V]:
    """Declare a view's operation; the view gets what of it was declared, checked."""
    declared = Operation(
        summary, tag, answers, query, body, accepts or {}, keyed, raises
    )

    def declare(view: V) -> V:
        @functools.wraps(view)
        def answer(**arguments: Any) -> Response:
            if declared.keyed:
                arguments["key"] = check_key(request.headers.get(HEADER))
            if declared.query is not None:
                arguments["query"] = _query(declared.query)
            if declared.body is not None:
                _check_media({JSON: declared.body})
                arguments["body"] = check(declared.body, json_body(MAX_JSON_BYTES))
            elif declared.accepts:
                _check_media(declared.accepts)
            return view(**arguments)

        answer.operation = declared  # type: ignore[attr-defined]
        return cast(V, answer)

    return declare


def of(view: Callable[..., object]) -> Operation | None:
    """The declared operation of a view, if it has one."""
    return getattr(view, "operation", None)


def tell(
    model: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A model as a JSON answer."""
    return Response(model.model_dump_json(), status, headers, mimetype=JSON)


def tell_json(value: object, status: int = 200) -> Response:
    """A plain value as a JSON answer."""
    return Response(json.dumps(value), status, mimetype=JSON)


def check(model: type[A], given: object, what: str = "The body") -> A:
    """Something a caller sent, as a checked model.

    Raises:
        BadRequest: code ``request_invalid``; names the place and what is accepted.
    """
    if not isinstance(given, dict):
        raise BadRequest(f"{what} is a JSON object.", code="request_invalid")
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise _refused(what, error) from None


def _refused(what: str, error: ValidationError) -> BadRequest:
    found = [
        {"path": _path(each["loc"]), "detail": each["msg"]}
        for each in error.errors(include_url=False, include_input=False)
    ]
    first = found[0]
    place = f", {first['path']}" if first["path"] else ""
    return BadRequest(
        f"{what}{place}: {first['detail']}.",
        code="request_invalid",
        extra={"errors": found[:MAX_LISTED_ERRORS]},
    )


def _path(parts: tuple[int | str, ...]) -> str:
    path = ""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.removeprefix(".")[:200]


def _query(model: type[AskedInAddress]) -> AskedInAddress:
    given: dict[str, object] = {}
    for name, values in request.args.lists():
        if len(values) > 1:
            raise BadRequest(
                f"The query parameter {name[:80]!r} is given twice.",
                code="request_invalid",
            )
        given[name] = values[0]
    return check(model, given, "The query")


def _check_media(accepted: Mapping[str, object]) -> None:
    sent = request.mimetype
    if not any(fnmatch.fnmatchcase(sent, pattern) for pattern in accepted):
        raise UnsupportedMedia(
            f"This address takes {' or '.join(accepted)}; got "
            f"{sent[:80] or 'no Content-Type'}.",
            extra={"accepted": list(accepted)},
        )


def json_body(max_bytes: int) -> object:
    """The JSON value in the body of this request.

    Raises:
        TooLarge: the body is over the limit; it is not read further.
        BadRequest: code ``json_invalid``.
    """
    return jsontext.parse(body_bytes(max_bytes))


def body_bytes(max_bytes: int) -> bytes:
    """The whole body of this request.

    Raises:
        TooLarge: it is over the limit; it is not read further.
    """
    announced = request.content_length
    data = b""
    if announced is None or announced <= max_bytes:
        data = read_up_to(max_bytes + 1)
    if (announced or 0) > max_bytes or len(data) > max_bytes:
        raise TooLarge(
            f"The body of this request is over the limit of {max_bytes} bytes.",
            extra={"limit": max_bytes},
        )
    return data


def read_up_to(size: int) -> bytes:
    """At most ``size`` bytes of the body of this request."""
    pieces: list[bytes] = []
    while size > 0 and (piece := request.stream.read(min(size, 2**18))):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)
