"""Between rows of the ledger and the values that the core knows."""

from __future__ import annotations

import json
from collections import namedtuple
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TypedDict, TypeVar

from sqlalchemy import Row, Table

from lookalike.collections import (
    Collection,
    CollectionUid,
    DuplicatePolicy,
    FieldType,
    IndexKind,
    IndexSpec,
    Metadata,
    Metric,
    Team,
)
from lookalike.interfaces import (
    Digest,
    Failure,
    Image,
    ImageId,
    ImageKey,
    ImageState,
    Job,
    JobId,
)

T = TypeVar("T")
Rows = list[Row[Any]]
RowsByKey = dict[str, Row[Any]]


class _Options(TypedDict):
    index: IndexSpec
    duplicates: DuplicatePolicy


CHUNK = 500  # values in one IN list; SQLite and PostgreSQL both limit parameters
MAX_DETAIL = 2_000  # characters kept of an error's sentence


def chunks(values: Iterable[T]) -> Iterator[Sequence[T]]:
    """The same values in lists short enough for one statement."""
    left = iter(values)
    while chunk := list(islice(left, CHUNK)):
        yield chunk


def row_type(table: Table) -> Any:
    """What makes a row of a table out of its values, as SQLAlchemy's rows are."""
    names = [column.name for column in table.c]
    return namedtuple(table.name, names)


def metadata_text(metadata: Metadata) -> str:
    """Metadata as text that is equal exactly when the metadata are."""
    return json.dumps(metadata, sort_keys=True, separators=(",", ":"))


def moment(seconds: float) -> datetime:
    """Seconds since 1970 as an aware datetime."""
    return datetime.fromtimestamp(seconds, UTC)


def is_storable(text: str) -> bool:
    """Whether both engines can hold this text; if not, nothing has it as its name."""
    return _storable(text) == text


def storable(text: str, limit: int = MAX_DETAIL) -> str:
    """The text with what no engine can hold replaced, cut to a length."""
    return _storable(text[:limit])


def _storable(text: str) -> str:
    return (
        text.encode(errors="replace")
        .decode()
        .replace("\0", "\N{REPLACEMENT CHARACTER}")
    )


def collection_row(collection: Collection) -> dict[str, object]:
    """A collection as a row."""
    return {
        "uid": collection.uid,
        "team": collection.team,
        "name": collection.name,
        "fields": json.dumps(dict(collection.fields)),
        "backbone": collection.backbone,
        "fingerprint": collection.fingerprint,
        "dimension": collection.dimension,
        "metric": collection.metric.value,
        "created_at": collection.created_at.timestamp(),
        "options": _options_text(collection),
    }


def to_collection(row: Row[Any]) -> Collection:
    """A row as a collection."""
    return Collection(
        uid=CollectionUid(row.uid),
        team=Team(row.team),
        name=row.name,
        fields={k: FieldType(v) for k, v in json.loads(row.fields).items()},
        backbone=row.backbone,
        fingerprint=row.fingerprint,
        dimension=row.dimension,
        metric=Metric(row.metric),
        created_at=moment(row.created_at),
        **_options(row.options),
    )


def _options_text(collection: Collection) -> str:
    """What a collection has chosen, as JSON text; what it has not is left out."""
    options: dict[str, object] = {}
    if collection.index.kind is not None:
        options["index"] = {
            "type": collection.index.kind.value,
            "params": dict(collection.index.params),
        }
    if collection.duplicates is not DuplicatePolicy.KEEP:
        options["duplicates"] = {"policy": collection.duplicates.value}
    return json.dumps(options, sort_keys=True, separators=(",", ":"))


def _options(text: str) -> _Options:
    options = json.loads(text)
    index = options.get("index", {})
    duplicates = options.get("duplicates", {})
    return {
        "index": IndexSpec(
            IndexKind(index["type"]) if "type" in index else None,
            index.get("params", {}),
        ),
        "duplicates": DuplicatePolicy(duplicates.get("policy", "keep")),
    }


def image_state(row: Row[Any]) -> ImageState:
    """Where the image of a row stands: what became of its newest operation."""
    if row.indexed_gen == row.gen:
        return ImageState.INDEXED
    return ImageState.PENDING if row.failed is None else ImageState.FAILED


def is_overtaken(work: Row[Any], heads: RowsByKey) -> bool:
    """Whether the image of work has a newer operation, or is gone for good."""
    head = heads.get(work.key)
    return head is None or bool(head.gen > work.gen)


def to_image(row: Row[Any]) -> Image:
    """A row as an image."""
    return Image(
        key=ImageKey(row.key),
        id=ImageId(row.image_id),
        digest=Digest(row.digest),
        bytes=row.bytes,
        width=row.width,
        height=row.height,
        format=row.format,
        metadata=json.loads(row.metadata),
        state=image_state(row),
        gen=row.gen,
        created_at=moment(row.created_at),
        updated_at=moment(row.updated_at),
        signature=row.signature,
        born_gen=row.born_gen,
        duplicate_of=None if row.duplicate_of is None else ImageKey(row.duplicate_of),
    )


def to_job(row: Row[Any]) -> Job:
    """A row as a job."""
    return Job(
        id=JobId(row.id),
        collection=row.collection_name,
        total=row.total,
        done=row.done,
        unchanged=row.unchanged,
        failed=row.failed,
        superseded=row.superseded,
        created_at=moment(row.created_at),
        finished_at=None if row.finished_at is None else moment(row.finished_at),
    )


def to_failure(row: Row[Any]) -> Failure:
    """A row of failed work as a failure."""
    return Failure(
        position=row.position,
        image_id=None if row.image_id is None else ImageId(row.image_id),
        code=row.error_code,
        detail=row.error_detail,
        retryable=row.retryable,
    )
