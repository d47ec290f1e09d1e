"""What the Milvus index stores: one collection of fixed shape per collection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pymilvus import DataType, MilvusClient

from lookalike.backends.milvus_filter import (
    KEY,
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
from lookalike.interfaces import IndexRow, Vectors

GEN = "gen"
VECTOR = "vector"
METRIC = "IP"  # of unit vectors: the cosine, and cheaper than asking for it

_DEFAULTS: dict[FieldType, MetadataValue] = {
    FieldType.STRING: "",
    FieldType.INT: 0,
    FieldType.FLOAT: 0.0,
    FieldType.BOOL: False,
    FieldType.DATETIME: 0,
    FieldType.STRINGS: [],
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
        made.add_field(value_field(name), **_field(kind))
        made.add_field(presence_field(name), DataType.BOOL)
    return made


def _field(kind: FieldType) -> dict[str, Any]:
    match kind:
        case FieldType.STRING:
            return {"datatype": DataType.VARCHAR, "max_length": MAX_STRING_BYTES}
        case FieldType.INT | FieldType.DATETIME:
            return {"datatype": DataType.INT64}
        case FieldType.FLOAT:
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


def index_params(*, is_lite: bool) -> Any:
    """How the vectors are indexed.

    On Milvus Lite one inverted list, scanned whole: exact whatever the filter keeps,
    as fast as its HNSW (whose cost is the row loop around it) and much cheaper to
    build, while HNSW found 4 of 10 when a filter kept 1 %.
    """
    made = MilvusClient.prepare_index_params()
    if is_lite:
        # Said twice: pymilvus sends these flat, and Lite reads only what is below
        # "params".
        made.add_index(
            VECTOR,
            index_type="IVF_FLAT",
            metric_type=METRIC,
            params={"nlist": 1, "params": {"nlist": 1}},
        )
    else:
        made.add_index(
            VECTOR,
            index_type="HNSW",
            metric_type=METRIC,
            params={"M": 16, "efConstruction": 200},
        )
    return made


def engine_rows(collection: Collection, rows: Sequence[IndexRow]) -> list[Any]:
    """Rows as Milvus takes them.

    Raises:
        BadEmbedding: a vector of a wrong length, with NaN, or of length zero.
    """
    if not rows:
        return []
    vectors = unit([row.vector for row in rows], collection.dimension)
    return [
        {KEY: row.key, GEN: row.gen, VECTOR: vector, **_metadata(collection, row)}
        for row, vector in zip(rows, vectors, strict=True)
    ]


def _metadata(collection: Collection, row: IndexRow) -> dict[str, MetadataValue]:
    made: dict[str, MetadataValue] = {}
    for name, kind in collection.fields.items():
        made[presence_field(name)] = name in row.metadata
        value = row.metadata.get(name, _DEFAULTS[kind])
        made[value_field(name)] = stored(kind, value)
    return made


def unit(vectors: Sequence[npt.NDArray[np.float32]], dimension: int) -> Vectors:
    """Vectors scaled to length one, so that a dot product is the cosine.

    Raises:
        BadEmbedding: a wrong number of dimensions, NaN, infinity or a zero vector.
    """
    if any(np.shape(vector) != (dimension,) for vector in vectors):
        raise BadEmbedding(f"A vector of this collection has {dimension} numbers.")
    stacked = np.asarray(vectors, dtype=np.float64)
    lengths = np.linalg.norm(stacked, axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise BadEmbedding("A vector is finite and not zero.")
    scaled: Vectors = (stacked / lengths).astype(np.float32)
    return scaled
