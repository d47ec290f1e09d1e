"""Images: taking them in, listing, changing and deleting them, and their pictures."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from http import HTTPStatus
from urllib.parse import unquote

from flask import Blueprint, Response, request

from lookalike import catalogue, duplicates, filters, interfaces
from lookalike.api import addresses, entries, jsontext
from lookalike.api.context import backends, collection, context, team
from lookalike.api.operations import (
    ANY_IMAGE,
    BYTES,
    JSON,
    MULTIPART,
    NDJSON,
    REPLAYED_HEADER,
    operation,
    tell,
)
from lookalike.api.schemas import (
    Doomed,
    Entry,
    EntryList,
    Image,
    ImageList,
    ImagePage,
    Job,
    JobAnswer,
    MetadataPatch,
    RawImage,
    ThumbnailSize,
    Upload,
)
from lookalike.collections import Collection
from lookalike.errors import (
    BackboneMismatch,
    BadFilter,
    BadImage,
    BadMetadata,
    BadQuery,
    BadRequest,
    CollectionNotFound,
    ImageNotFound,
    Overloaded,
    StorageFull,
    StorageUnavailable,
    TooLarge,
)
from lookalike.images import media_type, thumbnail
from lookalike.ingest import check_backbone
from lookalike.interfaces import ImageId

bp = Blueprint("images", __name__, url_prefix="/v1/collections/<name>/images")

MAX_PAGE = 1_000
# Bytes of a stranger must never run as a page of this site, whatever they are.
UNTRUSTED = {
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
}


@bp.post("")
@operation(
    "Take in images",
    "images",
    {202: JobAnswer},
    query=RawImage,
    accepts={
        MULTIPART: Upload,
        ANY_IMAGE: BYTES,
        BYTES: BYTES,
        JSON: EntryList,
        NDJSON: Entry,
    },
    keyed=True,
    raises=(
        CollectionNotFound,
        BackboneMismatch,
        BadImage,
        BadMetadata,
        TooLarge,
        Overloaded,
        StorageFull,
    ),
)
def ingest_images(name: str, query: RawImage, key: str | None) -> Response:
    """One job takes in every image of the request.

    An image that cannot be accepted fails alone; if all of them are refused, the
    answer is an error and nothing was changed. An id that exists is replaced; the same
    bytes and metadata again are `unchanged` and cost nothing.

    While too many images wait, too many uploads are being read, or the disk is nearly
    full, nothing of the body is read: `backlog_full`, `too_many_uploads` or
    `storage_full`, with `Retry-After`.
    """
    found = collection(name)
    check_backbone(found, backends().embedder)
    context().admission.check(found.team)
    with context().precedence.uploading():
        return answered(entries.take_in(found, query, key), HTTPStatus.ACCEPTED)


@bp.get("")
@operation(
    "List images",
    "images",
    {200: ImageList},
    query=ImagePage,
    raises=(CollectionNotFound, BadFilter, BadQuery),
)
def list_images(name: str, query: ImagePage) -> Response:
    """Images in order of id, page by page; a page can be short before the end."""
    found = collection(name)
    page, last = catalogue.scroll(
        backends().ledger,
        found,
        _condition(found, query.filter),
        _after(query.cursor),
        check_limit(query.limit, MAX_PAGE),
    )
    listed = images_of(found, page)
    return tell(ImageList(images=listed, next_cursor=addresses.to_cursor(last)))


@bp.get("/<path:image_id>")
@operation(
    "Get an image", "images", {200: Image}, raises=(CollectionNotFound, ImageNotFound)
)
def get_image(name: str, image_id: str) -> Response:
    """What is known of one image; slashes in its id may stay as they are."""
    found = collection(name)
    image = backends().ledger.image(found, ImageId(image_id))
    return tell(images_of(found, [image])[0])


@bp.patch("/<path:image_id>")
@operation(
    "Change metadata",
    "images",
    {200: Image},
    body=MetadataPatch,
    raises=(CollectionNotFound, ImageNotFound, BadMetadata, StorageFull),
)
def patch_image(name: str, image_id: str, body: MetadataPatch) -> Response:
    """Merge metadata into an image's; null removes a field. Nothing is embedded."""
    found = collection(name)
    image = catalogue.update_metadata(
        backends().ledger,
        backends().queue,
        found,
        ImageId(image_id),
        _merged(found, ImageId(image_id), body.metadata),
        backends().settings.max_metadata_bytes,
    )
    return tell(images_of(found, [image])[0])


@bp.delete("/<path:image_id>")
@operation(
    "Delete an image",
    "images",
    {200: JobAnswer},
    raises=(CollectionNotFound, ImageNotFound, StorageFull),
)
def delete_image(name: str, image_id: str) -> Response:
    """From the answer on, no search finds the image."""
    found = collection(name)
    backends().ledger.image(found, ImageId(image_id))
    return answered(_delete_ids(found, [image_id], None))


@bp.post("/delete")
@operation(
    "Delete images",
    "images",
    {200: JobAnswer},
    body=Doomed,
    keyed=True,
    raises=(CollectionNotFound, BadMetadata, BadFilter, StorageFull),
)
def delete_images(name: str, body: Doomed, key: str | None) -> Response:
    """Delete images by id, or all that satisfy a filter, as one job.

    From the answer on, no search finds them. Unknown ids are ignored. An image that
    comes or changes while a filter is applied may stay.
    """
    found = collection(name)
    if (body.ids is None) == (body.filter is None):
        raise BadRequest(
            "A deletion has exactly one of `ids` and `filter`.", code="request_invalid"
        )
    if body.ids is not None:
        return answered(_delete_ids(found, body.ids, key))
    return answered(_delete_matching(found, body.filter, key))


@bp.get("/<path:image_id>/original")
@operation(
    "Download an original",
    "images",
    {200: BYTES},
    raises=(CollectionNotFound, ImageNotFound),
)
def get_original(name: str, image_id: str) -> Response:
    """The bytes as they were sent, as a download, under the type that was detected."""
    found = collection(name)
    image = backends().ledger.image(found, ImageId(image_id))
    data = backends().blobs.read(team(), image.digest)
    response = Response(data, mimetype=media_type(image.format))
    response.headers.update(UNTRUSTED)
    response.headers["Content-Disposition"] = f'attachment; filename="{_safe(image)}"'
    return _cacheable(response, image.digest)


@bp.get("/<path:image_id>/thumbnail")
@operation(
    "See a thumbnail",
    "images",
    {200: "image/jpeg", 304: None},
    query=ThumbnailSize,
    raises=(CollectionNotFound, ImageNotFound, BadImage),
)
def get_thumbnail(name: str, image_id: str, query: ThumbnailSize) -> Response:
    """A small picture, made when it is first looked at; upright and without EXIF."""
    image = backends().ledger.image(collection(name), ImageId(image_id))
    tag = f"{image.digest}-{query.side}"
    if request.if_none_match.contains(tag):
        return _cacheable(Response(status=HTTPStatus.NOT_MODIFIED), tag)
    data = _thumbnail(image, query.side)
    response = Response(data, mimetype="image/jpeg")
    response.headers.update(UNTRUSTED)
    return _cacheable(response, tag)


def answered(accepted: interfaces.Accepted, status: int = HTTPStatus.OK) -> Response:
    """An answer with the job that does what was asked."""
    headers = {"Location": addresses.job(accepted.job.id)}
    if accepted.replayed:
        headers[REPLAYED_HEADER] = "true"
    return tell(JobAnswer(job=Job.of(accepted.job)), status, headers)


def images_of(found: Collection, images: Sequence[interfaces.Image]) -> list[Image]:
    """What is told of images."""
    originals = duplicates.originals(backends().ledger, found, images)
    return [
        Image(
            id=image.id,
            metadata=image.metadata,
            state=image.state,
            digest=image.digest,
            bytes=image.bytes,
            format=image.format,
            width=image.width,
            height=image.height,
            created_at=image.created_at,
            updated_at=image.updated_at,
            duplicate_of=originals.get(image.key),
            image_url=addresses.original(found.name, image.id),
            thumbnail_url=addresses.thumbnail(found.name, image.id),
        )
        for image in images
    ]


def check_limit(limit: int, most: int) -> int:
    """Give back a limit that can be answered.

    Raises:
        BadQuery: code ``limit_invalid``.
    """
    if 1 <= limit <= most:
        return limit
    raise BadQuery(
        f"A limit is 1 to {most}; got {limit}.",
        code="limit_invalid",
        extra={"limit": most},
    )


def _delete_ids(
    found: Collection, ids: list[str], key: str | None
) -> interfaces.Accepted:
    parts = backends()
    return catalogue.delete_images(
        parts.ledger, parts.queue, found, ids, parts.settings.chunk_images, key
    )


def _delete_matching(
    found: Collection, raw: object, key: str | None
) -> interfaces.Accepted:
    parts = backends()
    return catalogue.delete_matching(
        parts.ledger, parts.queue, found, raw, parts.settings.chunk_images, key
    )


def _condition(found: Collection, text: str | None) -> filters.Filter | None:
    if text is None:
        return None
    raw = jsontext.parse(text, "The query parameter 'filter'")
    return filters.parse(raw, found.fields)


def _after(cursor: str | None) -> ImageId | None:
    place = addresses.from_cursor(cursor)
    return None if place is None else ImageId(place)


def _merged(found: Collection, image_id: ImageId, patch: object) -> object:
    if not isinstance(patch, dict):
        return patch if patch is not None else "null"  # refused by the use case
    return {**backends().ledger.image(found, image_id).metadata, **patch}


def _thumbnail(image: interfaces.Image, side: int) -> bytes:
    blobs = backends().blobs
    name = f"{image.digest}-{side}"
    stored = blobs.cached(team(), name)
    if stored is not None:
        return stored
    with context().decoders:
        data = thumbnail(blobs.read(team(), image.digest), side, context().limits)
    # A full disk keeps no one from seeing a picture: the next one makes it again.
    with contextlib.suppress(StorageUnavailable):
        blobs.cache(team(), name, data)
    return data


def _safe(image: interfaces.Image) -> str:
    """A filename that is plain ASCII, whatever the id is, with our own ending."""
    last = unquote(image.id).rpartition("/")[2]
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", last.rpartition(".")[0] or last)
    return f"{stem[:100].strip('_') or 'image'}.{image.format.lower()}"


def _cacheable(response: Response, tag: str) -> Response:
    # Private: what one team sees must not be kept for another by a proxy.
    response.headers["Cache-Control"] = "private, max-age=3600"
    response.set_etag(tag)
    return response
