"""Addresses of things in the API, relative to the host."""

from __future__ import annotations

import base64
from urllib.parse import quote

from lookalike.errors import BadRequest


def collection(name: str) -> str:
    """The address of a collection."""
    return f"/v1/collections/{quote(name, safe='')}"


def image(collection_name: str, image_id: str) -> str:
    """The address of an image; slashes in ids stay readable."""
    return f"{collection(collection_name)}/images/{quote(image_id, safe='/')}"


def original(collection_name: str, image_id: str) -> str:
    """The address of an image's original bytes."""
    return f"{image(collection_name, image_id)}/original"


def thumbnail(collection_name: str, image_id: str) -> str:
    """The address of an image's thumbnail."""
    return f"{image(collection_name, image_id)}/thumbnail"


def job(job_id: str) -> str:
    """The address of a job."""
    return f"/v1/jobs/{quote(job_id, safe='')}"


def to_cursor(place: str | int | None) -> str | None:
    """A place in a list as a cursor: opaque to callers, safe in an address."""
    if place is None:
        return None
    return base64.urlsafe_b64encode(str(place).encode()).decode().rstrip("=")


def from_cursor(cursor: str | None) -> str | None:
    """The place a cursor names.

    Raises:
        BadRequest: code ``cursor_invalid``.
    """
    if cursor is None:
        return None
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        place = base64.b64decode(padded, b"-_", validate=True).decode()
    except ValueError:
        raise _invalid_cursor() from None
    if not place or "\0" in place:
        raise _invalid_cursor()
    return place


def from_number_cursor(cursor: str | None) -> int | None:
    """The place a cursor names in a list that is in order of a number.

    Raises:
        BadRequest: code ``cursor_invalid``.
    """
    place = from_cursor(cursor)
    if place is None:
        return None
    if not (place.isascii() and place.isdecimal() and len(place) < 19):
        raise _invalid_cursor()
    return int(place)


def _invalid_cursor() -> BadRequest:
    return BadRequest(
        "A cursor is the `next_cursor` of the page before, unchanged.",
        code="cursor_invalid",
    )
