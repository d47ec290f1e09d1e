"""What the Milvus index stores: one collection of fixed shape per collection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pymilvus import DataType, MilvusClient

from lookalike.backends.milvus_filter import (
    KEY,
    latitude_field,
    longitude_field,
    presence_field,
    stored,
    value_field,
)
from lookalike.collections import (
    MAX_STRING_BYTES,
    MAX_STRINGS,
    Collection,
    Fields,
    FieldType,
    MetadataValue,
)
from lookalike.errors import BadEmbedding
from lookalike.geo import LATITUDE, LONGITUDE, on_circle
from lookalike.interfaces import IndexRow, Vectors
from lookalike.metrics import prepare

GEN = "gen"
VECTOR = "vector"

_DEFAULTS: dict[FieldType, MetadataValue] = {
    FieldType.STRING: "",
    FieldType.INT: 0,
    FieldType.FLOAT: 0.0,
    FieldType.BOOL: False,
    FieldType.DATETIME: 0,
    FieldType.STRINGS: [],
    FieldType.GEO: {LATITUDE: 0.0, LONGITUDE: 0.0},
}


def engine_name(collection: Collection) -> str:
    """The name of the Milvus collection that holds a collection."""
    return f"lookalike_{collection.uid}"


def schema(fields: Fields, dimension: int) -> Any:
    """The Milvus schema; nothing in it is ever NULL."""
    made = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    made.add_field(KEY, DataType.VARCHAR, is_primary=True, max_length=32)
    made.add_field(GEN, DataType.INT64)
    made.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=dimension)
    for name, kind in fields.items():
        for column in _columns(name, kind, _DEFAULTS[kind]):
            made.add_field(column, **_field(kind))
        made.add_field(presence_field(name), DataType.BOOL)
    return made


def _field(kind: FieldType) -> dict[str, Any]:
    match kind:
        case FieldType.STRING:
            return {"datatype": DataType.VARCHAR, "max_length": MAX_STRING_BYTES}
        case FieldType.INT | FieldType.DATETIME:
            return {"datatype": DataType.INT64}
        case FieldType.FLOAT | FieldType.GEO:
            return {"datatype": DataType.DOUBLE}
        case FieldType.BOOL:
            return {"datatype": DataType.BOOL}
        case FieldType.STRINGS:
            return {
                "datatype": DataType.ARRAY,
                "element_type": DataType.VARCHAR,
                "max_capacity": MAX_STRINGS,
                "max_length": MAX_STRING_BYTES,
            }


def engine_rows(collection: Collection, rows: Sequence[IndexRow]) -> list[Any]:
    """Rows as Milvus takes them.

    Raises:
        BadEmbedding: a vector of a wrong length, with NaN, or of length zero.
    """
    if not rows:
        return []
    vectors = prepared([row.vector for row in rows], collection)
    return [
        {KEY: row.key, GEN: row.gen, VECTOR: vector, **_metadata(collection, row)}
        for row, vector in zip(rows, vectors, strict=True)
    ]


def _metadata(collection: Collection, row: IndexRow) -> dict[str, MetadataValue]:
    made: dict[str, MetadataValue] = {}
    for name, kind in collection.fields.items():
        made[presence_field(name)] = name in row.metadata
        value = row.metadata.get(name, _DEFAULTS[kind])
        made.update(_columns(name, kind, value))
    return made


def _columns(
    name: str, kind: FieldType, value: MetadataValue
) -> dict[str, MetadataValue]:
    """The value of a declared field in each column that holds it."""
    if isinstance(value, dict):
        return {
            latitude_field(name): stored(kind, value[LATITUDE]),
            longitude_field(name): stored(kind, on_circle(value[LONGITUDE])),
        }
    return {value_field(name): stored(kind, value)}


def prepared(
    vectors: Sequence[npt.NDArray[np.float32]], collection: Collection
) -> Vectors:
    """Vectors as the collection's metric compares them: float32 ``[N, D]``.

    Raises:
        BadEmbedding: a wrong number of dimensions, or what the metric cannot compare.
    """
    dimension = collection.dimension
    if any(np.shape(vector) != (dimension,) for vector in vectors):
        raise BadEmbedding(f"A vector of this collection has {dimension} numbers.")
    return prepare(vectors, collection.metric)
