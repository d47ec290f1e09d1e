"""The images in the body of a request, in each of the formats it can have."""

from __future__ import annotations

import binascii
import contextlib
import io
from collections.abc import Iterator
from typing import BinaryIO

from flask import request

from lookalike.api import jsontext
from lookalike.api.context import backends, context, team
from lookalike.api.multipart import Form, Sink, Source, read_form
from lookalike.api.operations import JSON, MULTIPART, NDJSON, check, json_body
from lookalike.api.schemas import Entry, EntryList, Item, RawImage
from lookalike.collections import Collection, nearest
from lookalike.errors import BadInput, BadRequest, LookalikeError, TooLarge
from lookalike.ingest import Intake
from lookalike.interfaces import Accepted, StagedBlob

MAX_JSON_BYTES = 64 * 2**20  # JSON is held in memory; NDJSON and forms are not
MAX_FIELD_BYTES = 16 * 2**20
MAX_LINES = 100_000
READ_BYTES = 256 * 2**10


def take_in(
    collection: Collection, parameters: RawImage, key: str | None = None
) -> Accepted:
    """Take in every image of this request as one job.

    Raises:
        BadInput: the request cannot be read, or none of its images is acceptable.
        IdempotencyConflict: the key is that of another request.
        IdempotencyInUse: another request with this key is being read.
        Unavailable: originals or the record cannot be written.
    """
    request.max_content_length = backends().settings.max_request_bytes
    with _intake(collection, key) as intake:
        if request.mimetype == MULTIPART:
            _only_for_raw(parameters)
            _add_form(intake)
        elif request.mimetype == NDJSON:
            _only_for_raw(parameters)
            _add_lines(intake)
        elif request.mimetype == JSON:
            _only_for_raw(parameters)
            _add_list(intake)
        else:
            _add_raw(intake, parameters)
        with context().precedence.turn():
            job = intake.finish()
        return Accepted(job, replayed=intake.replayed)


@contextlib.contextmanager
def _intake(collection: Collection, key: str | None) -> Iterator[Intake]:
    parts = backends()
    intake = Intake(
        parts.ledger,
        parts.blobs,
        parts.queue,
        collection,
        context().limits,
        max_metadata_bytes=parts.settings.max_metadata_bytes,
        chunk_images=parts.settings.chunk_images,
        idempotency_key=key,
    )
    try:
        yield intake
    except BaseException:
        # The first error is the one to tell, even if giving up fails as well.
        with contextlib.suppress(LookalikeError):
            intake.abandon()
        raise


def _add(
    intake: Intake, staged: StagedBlob, image_id: str | None, metadata: object
) -> None:
    """Hand over one entry when it is its turn."""
    with context().precedence.turn():
        intake.add(staged, image_id, metadata)


# --- one raw image -------------------------------------------------------------------


def _add_raw(intake: Intake, parameters: RawImage) -> None:
    metadata = None
    if parameters.metadata is not None:
        metadata = jsontext.parse(parameters.metadata, "The query parameter 'metadata'")
    with _staged() as staged:
        _copy(request.stream, staged.file, context().limits.max_bytes + 1)
        _add(intake, staged, parameters.id, metadata)


def _only_for_raw(parameters: RawImage) -> None:
    if parameters.model_fields_set:
        raise BadRequest(
            "The query parameters 'id' and 'metadata' go with a raw image body; in "
            "other formats each entry has its own.",
            code="request_invalid",
        )


def _copy(source: Source, target: BinaryIO, most: int) -> None:
    """Copy a stream up to a size; what is over it is read and dropped.

    A client that is cut off while it sends would not see the answer.
    """
    while piece := source.read(READ_BYTES):
        target.write(piece[:most])
        most -= len(piece[:most])


@contextlib.contextmanager
def _staged() -> Iterator[StagedBlob]:
    staged = backends().blobs.stage(team())
    try:
        yield staged
    except BaseException:
        staged.discard()
        raise


# --- a form --------------------------------------------------------------------------


def _add_form(intake: Intake) -> None:
    staged: list[StagedBlob] = []

    def stage() -> BinaryIO:
        staged.append(backends().blobs.stage(team()))
        return staged[-1].file

    try:
        form = read_form(
            request.stream,
            request.mimetype_params.get("boundary"),
            Sink(stage, backends().settings.max_request_images, MAX_FIELD_BYTES),
        )
        _add_files(intake, form, staged)
    except BaseException:
        for one in staged:
            one.discard()
        raise


def _add_files(intake: Intake, form: Form, staged: list[StagedBlob]) -> None:
    _check_form_fields(form)
    # A browser sends a nameless empty file for an input that was left alone.
    files = [
        one
        for one, filename in zip(staged, form.filenames, strict=True)
        if filename or one.file.seek(0, io.SEEK_END)
    ]
    common = _common_metadata(form)
    items = _items(form, len(files))
    for one, item in zip(files, items, strict=True):
        _add_file(intake, one, item, common)


def _add_file(
    intake: Intake, staged: StagedBlob, item: object, common: dict[str, object]
) -> None:
    try:
        known = check(Item, item, "The entry of `items`")
    except BadInput as error:
        staged.discard()
        intake.refuse(error, _id_of(item))
        return
    metadata = known.metadata
    if metadata is None or isinstance(metadata, dict):
        metadata = {**common, **(metadata or {})}
    _add(intake, staged, known.id, metadata)


def _check_form_fields(form: Form) -> None:
    for name in form.fields:
        if name not in Item.model_fields and name != "items":
            guess = nearest(name, ["items", "metadata"])
            hint = f"did you mean {guess!r}? " if guess else ""
            raise BadRequest(
                f"Unknown form field {name!r}; {hint}Known: metadata, items. A part "
                "with an image needs a filename.",
                code="request_invalid",
            )


def _common_metadata(form: Form) -> dict[str, object]:
    text = form.fields.get("metadata")
    if not text:
        return {}
    metadata = jsontext.parse(text, "The form field 'metadata'")
    if not isinstance(metadata, dict):
        raise BadRequest(
            "The form field 'metadata' is a JSON object.", code="request_invalid"
        )
    return metadata


def _items(form: Form, files: int) -> list[object]:
    text = form.fields.get("items")
    if not text:
        return [{} for _ in range(files)]
    items = jsontext.parse(text, "The form field 'items'")
    if not isinstance(items, list) or len(items) != files:
        got = f"{len(items)} entries" if isinstance(items, list) else "no array"
        raise BadRequest(
            f"The form field 'items' is a JSON array with one entry for each of the "
            f"{files} files, in their order; got {got}.",
            code="request_invalid",
        )
    return items


# --- JSON ----------------------------------------------------------------------------


def _add_list(intake: Intake) -> None:
    body = json_body(min(MAX_JSON_BYTES, backends().settings.max_request_bytes))
    entries = body if isinstance(body, list) else check(EntryList, body).images
    most = backends().settings.max_request_images
    if len(entries) > most:
        raise TooLarge(
            f"One JSON body holds at most {most} images; send the rest in another "
            "request, or all of them as NDJSON.",
            code="too_many_images",
            extra={"limit": most},
        )
    for entry in entries:
        _add_entry(intake, entry)


def _add_entry(intake: Intake, entry: object) -> None:
    try:
        known = check(Entry, entry, "The entry")
        data = decode_base64(known.base64)
    except BadInput as error:
        intake.refuse(error, _id_of(entry))
        return
    with _staged() as staged:
        staged.file.write(data)
        _add(intake, staged, known.id, known.metadata)


def decode_base64(text: str) -> bytes:
    """The bytes behind base64 text, with or without ``data:image/…;base64,``.

    Raises:
        BadRequest: code ``base64_invalid``.
    """
    try:
        if text.startswith("data:"):
            text = text.partition(";base64,")[2]
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise BadRequest(
            f"The image is not valid base64: {error}.", code="base64_invalid"
        ) from None


def _id_of(entry: object) -> str | None:
    given = entry.get("id") if isinstance(entry, dict) else None
    return given if isinstance(given, str) else None


def _add_lines(intake: Intake) -> None:
    settings = backends().settings
    longest = settings.max_image_bytes * 4 // 3 + settings.max_metadata_bytes + 2**16
    lines = io.BufferedReader(request.stream, READ_BYTES)  # type: ignore[type-var]
    for count, line in enumerate(_lines(lines, longest)):
        if count == MAX_LINES:
            raise TooLarge(
                f"One NDJSON body holds at most {MAX_LINES} images; send the rest in "
                "another request.",
                code="too_many_images",
                extra={"limit": MAX_LINES},
            )
        _add_line(intake, line, longest)


def _lines(source: BinaryIO, longest: int) -> Iterator[bytes | None]:
    """Each line that is not blank; None for one that is too long."""
    while line := source.readline(longest + 1):
        is_whole = line.endswith(b"\n") or len(line) <= longest
        if is_whole and line.strip():
            yield line
        elif not is_whole:
            while line and not line.endswith(b"\n"):
                line = source.readline(longest + 1)
            yield None


def _add_line(intake: Intake, line: bytes | None, longest: int) -> None:
    try:
        if line is None:
            raise TooLarge(
                f"A line of NDJSON is at most {longest} bytes.",
                code="line_too_long",
                extra={"limit": longest},
            )
        entry = jsontext.parse(line, "The line")
    except BadInput as error:
        intake.refuse(error)
        return
    _add_entry(intake, entry)
