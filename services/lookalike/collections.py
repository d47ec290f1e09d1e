"""Collections: named sets of images with declared metadata fields."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import NewType

from lookalike.errors import BadMetadata, BadRequest
from lookalike.geo import LATITUDE, LONGITUDE, degrees

Team = NewType("Team", str)
CollectionUid = NewType("CollectionUid", str)

DEFAULT_TEAM = Team("default")

GeoPoint = dict[str, float]  # {"lat": …, "lon": …} in degrees
MetadataValue = str | int | float | bool | list[str] | GeoPoint
Metadata = dict[str, MetadataValue]

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")
MAX_FIELDS = 30
MAX_COLUMNS = 61  # of the 64 that Milvus gives a collection, three are our own
MAX_STRING_BYTES = 1024  # UTF-8; Milvus counts bytes on a server, characters on Lite
MAX_STRINGS = 64  # entries in one string[]
INT64 = 2**63


class FieldType(StrEnum):
    """What a declared metadata field holds."""

    STRING = "string"
    INT = "int"
    FLOAT = "float"
    BOOL = "bool"
    DATETIME = "datetime"
    STRINGS = "string[]"
    GEO = "geo"

    @property
    def columns(self) -> int:
        """How many columns of the index a field takes: its value and its presence."""
        return 3 if self is FieldType.GEO else 2


class Metric(StrEnum):
    """How two embeddings are compared; a higher score is always closer."""

    COSINE = "cosine"
    IP = "ip"  # dot product
    EUCLIDEAN = "euclidean"  # minus the distance
    PEARSON = "pearson"  # cosine of vectors from which their mean was taken


class IndexKind(StrEnum):
    """How the vectors are arranged for searching, as Milvus names it."""

    FLAT = "FLAT"
    HNSW = "HNSW"
    IVF_FLAT = "IVF_FLAT"
    IVF_SQ8 = "IVF_SQ8"
    IVF_PQ = "IVF_PQ"
    SCANN = "SCANN"
    DISKANN = "DISKANN"
    GPU_CAGRA = "GPU_CAGRA"


@dataclass(frozen=True)
class IndexSpec:
    """Which vector index a collection asks for.

    ``kind`` None leaves the choice to the engine; ``params`` are of that kind, such as
    ``{"M": 16, "efConstruction": 200}``.
    """

    kind: IndexKind | None = None
    params: Mapping[str, int] = field(default_factory=dict)


AUTOMATIC = IndexSpec()


class DuplicatePolicy(StrEnum):
    """What becomes of a new image that looks like one the collection has already."""

    KEEP = "keep"  # it is indexed
    LINK = "link"  # it is indexed, and names the one that was there
    REJECT = "reject"  # it fails, naming the one that was there


Fields = Mapping[str, FieldType]


@dataclass(frozen=True)
class Collection:
    """A named set of images: one backbone, one metric, declared fields.

    ``uid`` is new each time a name is used again, so that late writes for a deleted
    collection can never reach its successor. ``fingerprint`` names the backbone that
    embedded it; vectors of another never mix in.
    """

    uid: CollectionUid
    team: Team
    name: str
    fields: Fields
    backbone: str
    fingerprint: str
    dimension: int
    metric: Metric
    created_at: datetime
    index: IndexSpec = AUTOMATIC
    duplicates: DuplicatePolicy = DuplicatePolicy.KEEP


def check_name(name: object) -> str:
    """Give back a valid collection name.

    Raises:
        BadRequest: code ``collection_name_invalid``.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise BadRequest(
            f"A collection name is 1 to 63 of a-z, 0-9, '-' and '_', starting with "
            f"a letter or digit; got {shorten(name)}.",
            code="collection_name_invalid",
        )
    return name


def check_fields(declared: object) -> dict[str, FieldType]:
    """Read the fields a new collection declares.

    Accepts ``{"category": "string"}`` and ``{"category": {"type": "string"}}``.

    Raises:
        BadMetadata: code ``field_invalid``.
    """
    if not isinstance(declared, Mapping):
        raise BadMetadata(
            "Fields are an object of name and type, such as "
            '{"category": {"type": "string"}}.',
            code="field_invalid",
        )
    if len(declared) > MAX_FIELDS:
        raise BadMetadata(
            f"A collection declares at most {MAX_FIELDS} fields; got {len(declared)}.",
            code="field_invalid",
        )
    fields = {name: _field_type(name, spec) for name, spec in declared.items()}
    columns = sum(kind.columns for kind in fields.values())
    if columns > MAX_COLUMNS:
        raise BadMetadata(
            f"The fields of a collection take at most {MAX_COLUMNS} columns of the "
            f"index, a geo field three and every other two; these take {columns}.",
            code="field_invalid",
        )
    return fields


def _field_type(name: object, spec: object) -> FieldType:
    if not isinstance(name, str) or not FIELD.fullmatch(name):
        raise BadMetadata(
            f"A field name is 1 to 63 letters, digits and '_', starting with a "
            f"letter; got {shorten(name)}.",
            code="field_invalid",
        )
    wanted = spec
    if isinstance(spec, Mapping):
        if set(spec) != {"type"}:
            raise BadMetadata(
                f"Field {name!r}: a field has a type and nothing else.",
                code="field_invalid",
            )
        wanted = spec["type"]
    try:
        return FieldType(wanted)  # type: ignore[arg-type]
    except ValueError:
        accepted = ", ".join(kind.value for kind in FieldType)
        raise BadMetadata(
            f"Field {name!r}: unknown type {shorten(wanted)}; accepted: {accepted}.",
            code="field_invalid",
        ) from None


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like the given one, if any is like it at all."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return by_lower[found[0]] if found else None


def unknown_field(
    name: str, fields: Fields, other_names: Iterable[str] = ()
) -> tuple[str, dict[str, object]]:
    """A sentence and facts for an undeclared field, naming the nearest declared one.

    ``other_names`` could have been meant as well.
    """
    guess = nearest(name, [*fields, *other_names])
    sentence = f"Unknown field {shorten(name)}"
    sentence += f"; did you mean {guess!r}?" if guess else "."
    declared = ", ".join(sorted(fields)) or "none"
    return (
        f"{sentence} Declared fields: {declared}.",
        {"field": name[:200], "nearest": guess, "declared": sorted(fields)},
    )


def check_metadata(
    fields: Fields, metadata: object, max_bytes: int = 16 * 2**10
) -> Metadata:
    """Give back metadata with every value coerced to its declared type.

    A field whose value is null is left out: absent and null are one thing. Datetimes
    come back as RFC 3339 in UTC with microseconds.

    Raises:
        BadMetadata: unknown field (the nearest is named), wrong type, too large.
    """
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise BadMetadata(f"Metadata is a JSON object; got {shorten(metadata)}.")
    checked: Metadata = {}
    for name, value in metadata.items():
        if name not in fields:
            detail, extra = unknown_field(str(name), fields)
            raise BadMetadata(detail, code="metadata_unknown_field", extra=extra)
        if value is not None:
            checked[name] = coerce(name, fields[name], value)
    size = len(json.dumps(checked, ensure_ascii=False).encode())
    if size > max_bytes:
        raise BadMetadata(
            f"The metadata of one image is at most {max_bytes} bytes of JSON; "
            f"this has {size}.",
            code="metadata_too_large",
            extra={"limit": max_bytes},
        )
    return checked


def coerce(name: str, kind: FieldType, value: object) -> MetadataValue:
    """One value as its declared type holds it.

    A bool is never an int; an int field takes a float only if it is whole; floats are
    finite; datetimes are RFC 3339 text (no offset means UTC) or a date; a place is
    ``{"lat": …, "lon": …}`` in degrees, -90 to 90 and -180 to 180.

    Raises:
        BadMetadata: code ``metadata_wrong_type``.
    """
    match kind, value:
        case FieldType.STRING, str():
            return check_text(name, value)
        case FieldType.BOOL, bool():
            return value
        case FieldType.INT, int() if not isinstance(value, bool):
            if -INT64 <= value < INT64:
                return value
        case FieldType.INT, float() if value.is_integer() and abs(value) < 2**53:
            return int(value)
        case FieldType.FLOAT, int() | float() if not isinstance(value, bool):
            return _finite(name, value)
        case FieldType.DATETIME, str():
            return format_datetime(parse_datetime(name, value))
        case FieldType.STRINGS, list() if all(isinstance(v, str) for v in value):
            if len(value) <= MAX_STRINGS:
                return [check_text(name, entry) for entry in value]
        case FieldType.GEO, Mapping():
            point = _point(value)
            if point is not None:
                return point
    expected = {
        FieldType.INT: "int (64 bits)",
        FieldType.DATETIME: "datetime (RFC 3339 text, such as 2026-01-31T12:00:00Z)",
        FieldType.STRINGS: f"string[] (at most {MAX_STRINGS} entries)",
        FieldType.GEO: "geo (degrees, such as {'lat': 52.5, 'lon': 13.4})",
    }.get(kind, kind.value)
    raise BadMetadata(
        f"Field {name!r} is declared as {expected}; got {shorten(value)}.",
        extra={"field": name, "type": kind.value},
    )


def check_text(name: str, text: str) -> str:
    """Text that every engine stores and gives back exactly.

    Raises:
        BadMetadata: NUL, a lone surrogate, or over 1,024 bytes of UTF-8.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        size = -1
    if size < 0 or "\0" in text:
        raise BadMetadata(
            f"Field {name!r}: text is valid Unicode without NUL.",
            extra={"field": name},
        )
    if size > MAX_STRING_BYTES:
        raise BadMetadata(
            f"Field {name!r}: text is at most {MAX_STRING_BYTES} bytes of UTF-8; "
            f"this has {size}.",
            extra={"field": name, "limit": MAX_STRING_BYTES},
        )
    return text


def parse_datetime(name: str, text: str) -> datetime:
    """RFC 3339 text as an aware datetime in UTC.

    Raises:
        BadMetadata: code ``metadata_wrong_type``.
    """
    try:
        moment = datetime.fromisoformat(text.upper())  # "t" and "z" are allowed
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadMetadata(
            f"Field {name!r} is declared as datetime (RFC 3339 text, such as "
            f"2026-01-31T12:00:00Z); got {shorten(text)}.",
            extra={"field": name, "type": FieldType.DATETIME.value},
        ) from None


def format_datetime(moment: datetime) -> str:
    """An aware datetime as RFC 3339 text in UTC with microseconds."""
    text = moment.astimezone(UTC).isoformat(timespec="microseconds")
    return text.replace("+00:00", "Z")


def epoch_microseconds(text: str) -> int:
    """Microseconds since 1970-01-01 UTC of a datetime this module formatted."""
    moment = datetime.fromisoformat(text)
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def _point(value: Mapping[object, object]) -> GeoPoint | None:
    if set(value) != {LATITUDE, LONGITUDE}:
        return None
    lat = degrees(LATITUDE, value[LATITUDE])
    lon = degrees(LONGITUDE, value[LONGITUDE])
    if lat is None or lon is None:
        return None
    return {LATITUDE: lat, LONGITUDE: lon}


def _finite(name: str, value: float) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isfinite(number):
        return number
    raise BadMetadata(
        f"Field {name!r} is declared as float; it takes finite numbers only.",
        extra={"field": name, "type": FieldType.FLOAT.value},
    )


def shorten(value: object) -> str:
    """A value as JSON-like text, short enough for an error message."""
    try:
        text = json.dumps(value, ensure_ascii=True)
    except (TypeError, ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= 80 else text[:77] + "..."
