"""Finds out, in a scratch collection, what this Milvus really does."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from lookalike.backends.milvus_connection import Connection, translated
from lookalike.backends.milvus_filter import compile_filter
from lookalike.backends.milvus_kinds import arrangement, index_params
from lookalike.backends.milvus_rows import (
    GEN,
    engine_name,
    engine_rows,
    schema,
)
from lookalike.collections import (
    DEFAULT_TEAM,
    Collection,
    CollectionUid,
    FieldType,
    Metric,
)
from lookalike.errors import Misconfigured
from lookalike.filters import AllOf, And, AnyOf, Compare, Comparison, Filter, Not
from lookalike.interfaces import ImageKey, IndexRow

_TEXT = 'a "quoted" \\ text'
_KEY = ImageKey("0" * 32)


@dataclass(frozen=True)
class Capabilities:
    """What differs between the engines; everything else is required.

    Attributes:
        has_upsert: an upsert replaces a row. If not: delete, then insert.
    """

    has_upsert: bool


def find_capabilities(connection: Connection) -> Capabilities:
    """What this engine can do, tried out in a collection of its own.

    Raises:
        IndexUnavailable: it does not answer.
        Misconfigured: it lacks something that Lookalike cannot do without.
    """
    scratch = _Scratch(connection)
    with translated("test itself"):
        try:
            scratch.create()
            return scratch.capabilities()
        finally:
            scratch.drop()


class _Scratch:
    """A collection that lives as long as the test."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.client = connection.client
        self.timeout = connection.timeouts.admin
        self.collection = Collection(
            uid=CollectionUid(f"selftest_{secrets.token_hex(8)}"),
            team=DEFAULT_TEAM,
            name="selftest",
            fields={"text": FieldType.STRING, "tags": FieldType.STRINGS},
            backbone="",
            fingerprint="",
            dimension=8,
            metric=Metric.COSINE,
            created_at=datetime.now(UTC),
        )
        self.name = engine_name(self.collection)

    def create(self) -> None:
        arranged = arrangement(self.collection, is_lite=self.connection.is_lite)
        self.client.create_collection(
            self.name,
            schema=schema(self.collection.fields, self.collection.dimension),
            index_params=index_params(arranged, self.collection.metric),
            timeout=self.timeout,
        )

    def drop(self) -> None:
        self.client.drop_collection(self.name, timeout=self.timeout)

    def capabilities(self) -> Capabilities:
        self._write(self.client.insert, 1)
        self._write(self.client.upsert, 2)
        has_upsert = self._found() == [2]
        if not has_upsert:
            self._delete()
            self._write(self.client.insert, 2)
            self._require(self._found() == [2], "replace a row")
        self._require(self._found(Not(_EVERY_LEAF)) == [], "filter")
        self._delete()
        self._require(self._found() == [], "delete")
        return Capabilities(has_upsert)

    def _write(self, write: Callable[..., Any], gen: int) -> None:
        vector = np.eye(1, self.collection.dimension, dtype=np.float32)[0]
        row = IndexRow(_KEY, gen, vector, {"text": _TEXT, "tags": ["a", f"b{gen}"]})
        write(self.name, engine_rows(self.collection, [row]), timeout=self.timeout)

    def _delete(self) -> None:
        self.client.delete(self.name, ids=[_KEY], timeout=self.timeout)

    def _found(self, condition: Filter | None = None) -> list[int]:
        rows = self.client.query(
            self.name,
            filter=compile_filter(condition or _EVERY_LEAF),
            output_fields=[GEN],
            limit=10,
            consistency_level="Strong",
            timeout=self.timeout,
        )
        return sorted(row[GEN] for row in rows)

    def _require(self, works: bool, what: str) -> None:
        if not works:
            raise Misconfigured(
                f"This Milvus does not {what} as Lookalike needs it. Versions 2.3.5 "
                f"and newer, and Milvus Lite 3.2.2, are known to work."
            )


_EVERY_LEAF = And(
    (
        Compare("text", FieldType.STRING, Comparison.EQ, _TEXT),
        AllOf("tags", ("a",)),
        AnyOf("tags", FieldType.STRINGS, ("b1", "b2")),
        Not(AnyOf("tags", FieldType.STRINGS, ("c",))),
    )
)
