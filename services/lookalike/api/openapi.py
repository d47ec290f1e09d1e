"""The OpenAPI document, made from the declared operations of the routes."""

from __future__ import annotations

import importlib.metadata
import inspect
from collections.abc import Iterator
from typing import Any

from flask import Blueprint, Flask, Response, current_app
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from werkzeug.routing import Rule

from lookalike.api import errors, operations
from lookalike.api.errors import MEDIA_TYPE, status_of
from lookalike.api.operations import (
    JSON,
    MULTIPART,
    NDJSON,
    REPLAYED_HEADER,
    SAFE_METHODS,
    Operation,
    tell_json,
)
from lookalike.api.schemas import Item, Problem
from lookalike.errors import (
    BadRequest,
    IdempotencyConflict,
    IdempotencyInUse,
    LookalikeError,
    Misconfigured,
    TooLarge,
    Unavailable,
    UnsupportedMedia,
)
from lookalike.idempotency import HEADER, MAX_KEY_LENGTH

bp = Blueprint("openapi", __name__)

REFERENCE = "#/components/schemas/{model}"
EXTENSION = "lookalike.openapi"
DESCRIPTION = """\
Self-hosted image similarity search: images in, lookalikes out.

Errors are problem details (RFC 9457); `code` is stable and tells them apart, and
`retryable` says whether the same call can succeed later. JSON is read strictly: unknown
keys, duplicate keys, NaN and Infinity are refused.
"""
TAGS = {
    "collections": "Named sets of images with declared metadata fields.",
    "images": "Images with their metadata.",
    "search": "Lookalikes of a picture, a stored image or a vector.",
    "duplicates": "Copies among the images of a collection, and verdicts on them.",
    "jobs": "What became of images that were taken in.",
    "health": "For load balancers and operators.",
}
PARAMETERS = {
    "name": "Name of a collection.",
    "image_id": "Id of an image; its slashes may be sent as they are.",
    "job_id": "Id of a job.",
}
EVERYWHERE: tuple[type[LookalikeError], ...] = (Misconfigured, Unavailable)
WITH_QUERY: tuple[type[LookalikeError], ...] = (BadRequest,)
WITH_BODY: tuple[type[LookalikeError], ...] = (BadRequest, TooLarge, UnsupportedMedia)
WITH_KEY: tuple[type[LookalikeError], ...] = (
    BadRequest,
    IdempotencyConflict,
    IdempotencyInUse,
)
KEY_PARAMETER: dict[str, Any] = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "Chosen by the caller, a UUID for example, and sent again with a "
    "repeat: the same request with the same key makes one job, also when the first "
    "answer was lost. Remembered for 48 hours unless configured otherwise.",
    "schema": {"type": "string", "pattern": f"^[!-~]{{1,{MAX_KEY_LENGTH}}}$"},
}
REPLAYED = {
    "description": "`true`: an earlier request with this key had made the job.",
    "schema": {"type": "string", "const": "true"},
}
RETRY_AFTER = {
    "description": "Seconds after which a repeat is worth it, if one is at all.",
    "schema": {"type": "integer"},
}


@bp.get("/openapi.json")
def get_document() -> Response:
    """The OpenAPI document."""
    return tell_json(document_of(current_app))


def document_of(app: Flask) -> dict[str, Any]:
    """The OpenAPI document of an application; made once."""
    made: dict[str, Any] | None = app.extensions.get(EXTENSION)
    if made is None:
        made = app.extensions[EXTENSION] = make_document(app)
    return made


def make_document(app: Flask) -> dict[str, Any]:
    """The OpenAPI document of an application, made from its routes."""
    paths: dict[str, Any] = {}
    models: set[type[BaseModel]] = {Problem, Item}
    for rule, method, view, operation in declared_routes(app):
        models.update(_models(operation))
        entry = paths.setdefault(path_of(rule), {})
        entry[method.lower()] = _operation(rule, method, view, operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Lookalike",
            "version": importlib.metadata.version("lookalike"),
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": _schemas(models)},
    }


def declared_routes(app: Flask) -> Iterator[tuple[Rule, str, Any, Operation]]:
    """Each route whose view has a declared operation: rule, method, view, operation."""
    for rule in app.url_map.iter_rules():
        view = app.view_functions[rule.endpoint]
        declared = operations.of(view)
        if declared is not None:
            methods = (rule.methods or set()) - {"HEAD", "OPTIONS"}
            for method in sorted(methods):
                yield rule, method, view, declared


def path_of(rule: Rule) -> str:
    """A rule's path as OpenAPI writes it."""
    return "".join(
        part if is_text else f"{{{part}}}" for is_text, part in _path_parts(rule)
    )


def _path_parts(rule: Rule) -> Iterator[tuple[bool, str]]:
    for number, part in enumerate(rule.rule.replace(">", "<").split("<")):
        is_text = number % 2 == 0
        yield is_text, part if is_text else part.rpartition(":")[2]


def _operation(
    rule: Rule, method: str, view: Any, declared: Operation
) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": view.__name__,
        "summary": declared.summary,
        "description": inspect.getdoc(view) or "",
        "tags": [declared.tag],
        "parameters": [
            *_path_parameters(rule),
            *_query_parameters(declared),
            *([KEY_PARAMETER] if declared.keyed else []),
        ],
        "responses": _responses(declared, method),
    }
    if declared.takes_body:
        made["requestBody"] = {"required": True, "content": _request(declared)}
    return made


def _path_parameters(rule: Rule) -> list[dict[str, Any]]:
    return [
        {
            "name": part,
            "in": "path",
            "required": True,
            "description": PARAMETERS[part],
            "schema": {"type": "string"},
        }
        for is_text, part in _path_parts(rule)
        if not is_text
    ]


def _query_parameters(declared: Operation) -> list[dict[str, Any]]:
    if declared.query is None:
        return []
    schema = declared.query.model_json_schema()
    listed = []
    for name, spec in schema["properties"].items():
        described = {key: spec[key] for key in ("description",) if key in spec}
        kind = {key: spec[key] for key in spec if key not in ("description", "title")}
        listed.append({"name": name, "in": "query", "schema": kind, **described})
    return listed


def _request(declared: Operation) -> dict[str, Any]:
    accepted = {JSON: declared.body} if declared.body else dict(declared.accepts)
    content: dict[str, Any] = {}
    for media, body in accepted.items():
        content[media] = _media(body)
        if media == MULTIPART:
            content[media]["encoding"] = {
                name: {"contentType": "image/*" if name == "image" else JSON}
                for name in getattr(body, "model_fields", {})
            }
        if media == NDJSON:
            content[media]["schema"]["description"] = "One entry on each line."
    return content


def _media(body: type[BaseModel] | str | None) -> dict[str, Any]:
    if isinstance(body, type):
        return {"schema": {"$ref": REFERENCE.format(model=body.__name__)}}
    return {"schema": {"type": "string", "format": "binary"}}


def _responses(declared: Operation, method: str) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, answer in declared.answers.items():
        responses[str(status)] = {"description": _phrase(answer)}
        if answer is not None:
            media = answer if isinstance(answer, str) else JSON
            responses[str(status)]["content"] = {media: _media(answer)}
        if declared.keyed:
            responses[str(status)]["headers"] = {REPLAYED_HEADER: REPLAYED}
    problems = _problems(declared)
    if method not in SAFE_METHODS:
        problems[403] = "A page of another site may not change anything here."
    for status, text in problems.items():
        content = {MEDIA_TYPE: {"schema": {"$ref": REFERENCE.format(model="Problem")}}}
        responses[str(status)] = {"description": text, "content": content}
        if status in errors.RETRY_AFTER:
            responses[str(status)]["headers"] = {"Retry-After": RETRY_AFTER}
    return dict(sorted(responses.items()))


def _phrase(answer: type[BaseModel] | str | None) -> str:
    if isinstance(answer, type):
        return (inspect.getdoc(answer) or answer.__name__).partition("\n")[0]
    return "No body." if answer is None else f"The bytes, as {answer}."


def _problems(declared: Operation) -> dict[int, str]:
    raised = [*declared.raises, *EVERYWHERE]
    raised += WITH_BODY if declared.takes_body else ()
    raised += WITH_QUERY if declared.query is not None else ()
    raised += WITH_KEY if declared.keyed else ()
    found: dict[int, dict[str, None]] = {}
    for error in raised:
        sentence = (inspect.getdoc(error) or "").partition("\n")[0]
        found.setdefault(status_of(error), {})[sentence] = None
    return {status: " Or: ".join(texts) for status, texts in sorted(found.items())}


def statuses_of(declared: Operation, method: str) -> set[int]:
    """Every status an operation says it can answer."""
    return {int(status) for status in _responses(declared, method)}


def _models(declared: Operation) -> Iterator[type[BaseModel]]:
    bodies = [declared.body, *declared.accepts.values(), *declared.answers.values()]
    for body in bodies:
        if isinstance(body, type):
            yield body


def _schemas(models: set[type[BaseModel]]) -> dict[str, Any]:
    ordered = sorted(models, key=lambda model: model.__name__)
    _, schema = models_json_schema(
        [(model, "validation") for model in ordered], ref_template=REFERENCE
    )
    schemas: dict[str, Any] = schema["$defs"]
    return schemas
