from __future__ import annotations

import json
import re
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from api_site import Site
from lookalike.api import openapi, operations
from lookalike.api.docs import kind_of


@pytest.fixture
def document(site: Site) -> dict[str, Any]:
    answer = site.client.get("/openapi.json")
    assert answer.status_code == 200
    assert answer.json is not None
    told: dict[str, Any] = answer.json
    return told


def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    errors = [str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()]

    assert errors == []


def test_every_route_is_in_the_document_and_nothing_else(
    site: Site, document: dict[str, Any]
) -> None:
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in site.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule.startswith("/v1") or rule.rule in ("/healthz", "/readyz")
    }

    described = {
        (path, method) for path, entry in document["paths"].items() for method in entry
    }

    assert described == routes


def test_every_route_of_the_api_is_declared(site: Site) -> None:
    undeclared = {
        rule.endpoint
        for rule in site.app.url_map.iter_rules()
        if operations.of(site.app.view_functions[rule.endpoint]) is None
    }

    assert {name.partition(".")[0] for name in undeclared} <= {
        "openapi",
        "docs",
        "web",
    }


def test_operations_have_names_of_their_own(document: dict[str, Any]) -> None:
    names = [
        operation["operationId"]
        for entry in document["paths"].values()
        for operation in entry.values()
    ]

    assert len(names) == len(set(names)) > 15


def test_every_operation_is_explained_and_can_fail(document: dict[str, Any]) -> None:
    for path, entry in document["paths"].items():
        for operation in entry.values():
            assert operation["description"], path
            assert operation["tags"][0] in openapi.TAGS
            assert "503" in operation["responses"], path


def test_uploads_are_described(document: dict[str, Any]) -> None:
    content = document["paths"]["/v1/collections/{name}/images"]["post"]["requestBody"]

    assert set(content["content"]) == {
        "multipart/form-data",
        "image/*",
        "application/octet-stream",
        "application/json",
        "application/x-ndjson",
    }


def test_what_makes_a_job_takes_a_key(document: dict[str, Any]) -> None:
    keyed = {
        path
        for path, entry in document["paths"].items()
        for method, operation in entry.items()
        for parameter in operation["parameters"]
        if parameter["name"] == "Idempotency-Key" and method == "post"
    }

    assert keyed == {
        "/v1/collections/{name}/images",
        "/v1/collections/{name}/images/delete",
        "/v1/jobs/{job_id}/retry",
    }
    responses = document["paths"]["/v1/collections/{name}/images"]["post"]["responses"]
    assert "Idempotency-Replayed" in responses["202"]["headers"]
    assert {"409", "422", "429", "507"} <= set(responses)
    assert "Retry-After" in responses["429"]["headers"]


def test_no_host_outside_is_named(site: Site) -> None:
    texts = [site.client.get(path).text for path in ("/docs", "/openapi.json")]

    assert [re.findall(r"https?://[^\s\"'<]+", text) for text in texts] == [[], []]


def test_the_reference_shows_every_operation(
    site: Site, document: dict[str, Any]
) -> None:
    answer = site.client.get("/docs")

    assert answer.status_code == 200
    assert answer.mimetype == "text/html"
    for entry in document["paths"].values():
        for operation in entry.values():
            assert f'id="{operation["operationId"]}"' in answer.text
    for name in document["components"]["schemas"]:
        assert f'id="schema-{name}"' in answer.text


def test_the_reference_needs_no_script(site: Site) -> None:
    answer = site.client.get("/docs")

    assert "<script" not in answer.text
    assert "style=" not in answer.text
    assert "script-src" not in answer.headers["Content-Security-Policy"]
    for address in re.findall(r'<link[^>]*href="([^"]+)"', answer.text):
        with site.client.get(address) as file:
            assert file.status_code == 200


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "array", "items": {"type": "string"}}, "list of string"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "integer or null"),
        ({"enum": [160, 320]}, "160 | 320"),
        ({"$ref": "#/components/schemas/Job"}, "Job"),
        ({}, "any"),
    ],
)
def test_a_schema_is_told_in_a_few_words(schema: dict[str, Any], words: str) -> None:
    assert kind_of(schema) == words


def test_the_document_is_plain_json(document: dict[str, Any]) -> None:
    assert json.loads(json.dumps(document)) == document
