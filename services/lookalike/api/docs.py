"""The reference at ``/docs``: the OpenAPI document, readable, without any script."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from flask import Blueprint, Response, current_app, render_template

from lookalike.api.openapi import TAGS, document_of

bp = Blueprint(
    "docs",
    __name__,
    template_folder="templates",
    static_folder="static",
    static_url_path="/docs/assets",
)

POLICY = "default-src 'none'; style-src 'self'; img-src 'self'; frame-ancestors 'none'"


@bp.get("/docs")
def get_docs() -> Response:
    """The reference, rendered from the OpenAPI document."""
    document = document_of(current_app)
    page = render_template(
        "docs.html",
        info=document["info"],
        groups=[
            (name, text, list(_operations(document, name)))
            for name, text in TAGS.items()
        ],
        schemas=sorted(_schemas(document)),
    )
    response = Response(page, mimetype="text/html")
    response.headers["Content-Security-Policy"] = POLICY
    return response


def _operations(document: dict[str, Any], tag: str) -> Iterator[dict[str, Any]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if tag in operation["tags"]:
                yield {
                    **operation,
                    "path": path,
                    "method": method.upper(),
                    "bodies": _bodies(operation.get("requestBody", {})),
                    "answers": [
                        (status, answer["description"], _bodies(answer))
                        for status, answer in operation["responses"].items()
                    ],
                }


def _bodies(holder: dict[str, Any]) -> list[tuple[str, str]]:
    """Media types of a body, each with the name of its schema, if it has one."""
    return [
        (media, body["schema"].get("$ref", "").rpartition("/")[2])
        for media, body in holder.get("content", {}).items()
    ]


def _schemas(
    document: dict[str, Any],
) -> Iterator[tuple[str, str, list[tuple[str, str, bool, str]]]]:
    """Each schema: name, description, properties (name, type, required, text)."""
    for name, schema in document["components"]["schemas"].items():
        required = schema.get("required", [])
        properties = [
            (key, kind_of(spec), key in required, spec.get("description", ""))
            for key, spec in schema.get("properties", {}).items()
        ]
        yield name, schema.get("description", ""), properties


def kind_of(spec: dict[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "$ref" in spec:
        return str(spec["$ref"]).rpartition("/")[2]
    if "anyOf" in spec:
        return " or ".join(kind_of(one) for one in spec["anyOf"])
    if "enum" in spec:
        return " | ".join(json.dumps(value) for value in spec["enum"])
    if "const" in spec:
        return json.dumps(spec["const"])
    if spec.get("type") == "array":
        return f"list of {kind_of(spec.get('items', {}))}"
    kind = spec.get("type", "any")
    return " or ".join(kind) if isinstance(kind, list) else str(kind)
