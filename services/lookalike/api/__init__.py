"""The HTTP API: a Flask application over the parts it is given."""

from __future__ import annotations

import re
import time
import uuid

from flask import Flask, Response, g, request
from werkzeug.exceptions import Forbidden, NotFound

from lookalike.api import (
    calibration,
    collections,
    context,
    docs,
    duplicates,
    errors,
    explain,
    facets,
    health,
    images,
    jobs,
    openapi,
    search,
    web,
)
from lookalike.api.operations import SAFE_METHODS
from lookalike.bootstrap import Backends
from lookalike.config import Settings

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
# An answer of the API is data; a page that may do more says so itself.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def create_app(backends: Backends) -> Flask:
    """The application over these parts; opens nothing itself."""
    app = Flask(__name__, static_folder=None)
    app.config.update(_limits(backends.settings))
    # An id is never changed by a redirect, nor answered under two addresses.
    app.url_map.merge_slashes = False
    app.extensions[context.EXTENSION] = context.Context.of(backends)
    app.extensions[health.EXTENSION] = health.Probe(backends)
    app.before_request(begin)
    app.after_request(finish)
    errors.register(app)
    for module in (
        collections,
        images,
        search,
        explain,
        facets,
        duplicates,
        calibration,
        jobs,
        health,
        openapi,
        docs,
        web,
    ):
        app.register_blueprint(module.bp)
    return app


def _limits(settings: Settings) -> dict[str, int]:
    """Limits of a body that is held in memory: one picture, as base64, and a little.

    Taking in images raises its own to ``max_request_bytes``; it holds none of them.
    """
    one_picture = settings.max_image_bytes * 4 // 3 + 2**20
    return {
        "MAX_CONTENT_LENGTH": min(one_picture, settings.max_request_bytes),
        "MAX_FORM_MEMORY_SIZE": 2**20,
        "MAX_FORM_PARTS": 64,
    }


def begin() -> None:
    """Before every request: its id and its start; refuse what no client means."""
    given = request.headers.get("X-Request-Id", "")
    g.request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    g.started = time.perf_counter()
    if "\0" in request.path:
        raise NotFound
    fetched_from = request.headers.get("Sec-Fetch-Site")
    if fetched_from == "cross-site" and request.method not in SAFE_METHODS:
        # A stranger's page in a browser must not write to a server on its network.
        raise Forbidden("A page of another site may not change anything here.")


def finish(response: Response) -> Response:
    """After every request: security headers, unless the view set its own."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["X-Request-Id"] = g.get("request_id") or uuid.uuid4().hex
    return response
