"""The page at ``/``: one form, one grid, rendered here, no state kept."""

from __future__ import annotations

import logging
from dataclasses import replace

import flask
from flask import Blueprint, Response, redirect, render_template, request
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.wrappers import Response as AnyResponse

from lookalike.api import cards, gallery
from lookalike.api.cards import Asked
from lookalike.api.context import context, team
from lookalike.api.errors import status_of
from lookalike.api.gallery import Page
from lookalike.api.overviews import Overviews
from lookalike.errors import LookalikeError, TooLarge, Unavailable

log = logging.getLogger(__name__)

bp = Blueprint(
    "web",
    __name__,
    template_folder="templates",
    static_folder="static",
    static_url_path="/assets",
)

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "img-src 'self' data: blob:",
        "style-src 'self'",
        "script-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)

EXTENSION = "lookalike.web"

TITLES = {
    "image_empty": "That file is empty",
    "image_unsupported": "That is not a picture we can read",
    "image_truncated": "That picture is cut off",
    "image_broken": "That picture is damaged",
    "image_too_large": "That picture is too large",
    "too_large": "That picture is too large",
    "image_not_found": "That picture is not here any more",
    "id_invalid": "No picture has that name",
    "collection_not_found": "No such collection",
    "backbone_mismatch": "This collection was made with another network",
}


@bp.get("/")
def page() -> tuple[str, int]:
    """The page for an address; addresses can be shared."""
    return _answer(cards.read(_last(request.args)))


@bp.post("/")
def ask() -> tuple[str, int] | AnyResponse:
    """The page for an uploaded picture; without one, the way to its address."""
    asked = cards.read(_last(request.form))
    if len(set(request.form.getlist("collection"))) > 1:
        # Another collection was picked: what was picked in the last is not in it.
        asked = Asked(collection=asked.collection)
    upload = request.files.get("image")
    if upload is None or not upload.filename:
        return redirect(cards.address(asked), 303)
    return _answer(replace(asked, image_id=""), upload.read())


def _last(values: MultiDict[str, str]) -> dict[str, str]:
    """The last value of each name: a pressed button comes after the hidden field."""
    return {name: several[-1] for name, several in values.lists()}


def _answer(asked: Asked, picture: bytes | None = None) -> tuple[str, int]:
    overviews = flask.current_app.extensions.setdefault(EXTENSION, Overviews())
    shown = gallery.compose(context(), overviews, team(), asked, picture)
    return _render(shown)


def _render(shown: Page) -> tuple[str, int]:
    html = render_template("page.html", page=shown, notice=_notice(shown.error))
    return html, 200 if shown.error is None else status_of(type(shown.error))


def _notice(error: LookalikeError | None) -> tuple[str, str] | None:
    """What went wrong, as a title and a sentence for a person."""
    if error is None:
        return None
    if isinstance(error, Unavailable):
        return (
            "Lookalike cannot search right now",
            "A part of it does not answer. Nothing is lost; try again in a moment.",
        )
    return TITLES.get(error.code, "That did not work"), error.detail


@bp.errorhandler(LookalikeError)
def explain(error: LookalikeError) -> tuple[str, int]:
    """The page that says what went wrong when nothing else can be shown."""
    log.warning("%s %s: %s", request.method, request.path, error.detail)
    return _render(Page(error=error))


@bp.errorhandler(HTTPException)
def refuse(error: HTTPException) -> tuple[str, int] | HTTPException:
    """The page for an upload so long that it was not read; other refusals pass."""
    if not isinstance(error, RequestEntityTooLarge):
        return error
    limit = context().limits.max_bytes
    sentence = f"A picture has at most {limit / 2**20:.0f} MiB."
    return _render(Page(error=TooLarge(sentence)))


@bp.errorhandler(Exception)
def apologise(error: Exception) -> tuple[str, int]:
    """The page for a defect: logged in full, told in general."""
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    return _render(Page(error=LookalikeError("The server's log has the cause.")))


@bp.after_request
def protect(response: Response) -> Response:
    """Allow the page nothing but its own files, and no one to frame it."""
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "same-origin"
    return response
