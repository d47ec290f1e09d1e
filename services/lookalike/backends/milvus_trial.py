"""Finds out, in a scratch collection, whether a server can build a kind of index.

A server built without a kind can take the order for it and never carry it out, as
Milvus 2.3.5 does with DISKANN where it was compiled without (seen: it fails, says that
it has finished, and tries again for ever). So an index is really built here.
"""

from __future__ import annotations

import secrets
import time
from typing import Any

import numpy as np
from pymilvus import DataType, MilvusClient
from pymilvus.exceptions import MilvusException

from lookalike.backends.milvus_connection import translated
from lookalike.backends.milvus_engine import Engine
from lookalike.backends.milvus_filter import KEY
from lookalike.backends.milvus_guard import is_away
from lookalike.backends.milvus_kinds import LITE_KINDS
from lookalike.backends.milvus_rows import VECTOR
from lookalike.collections import IndexKind
from lookalike.index_kinds import params_of, unsupported

# What every Milvus server since 2.3 has.
SERVER_KINDS = (
    IndexKind.FLAT,
    IndexKind.HNSW,
    IndexKind.IVF_FLAT,
    IndexKind.IVF_SQ8,
    IndexKind.IVF_PQ,
    IndexKind.SCANN,
)
ROWS = 1_500  # of fewer than 1,024 a server builds no index
DIMENSION = 32
BUILD_SECONDS = 20.0
LOOK_SECONDS = 0.25


class Trials:
    """Which kinds of index an engine has; each is tried when it is first asked for."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._found: dict[IndexKind, bool] = {}

    def require(self, kind: IndexKind) -> None:
        """Return if the engine has this kind.

        Raises:
            BadRequest: code ``index_unsupported``; names the kinds it has.
            IndexUnavailable: it does not answer.
        """
        known = LITE_KINDS if self._engine.is_lite else SERVER_KINDS
        if kind in known:
            return
        if not self._engine.is_lite and kind not in self._found:
            self._found[kind] = self._is_built(kind)
        if not self._found.get(kind, False):
            tried = [kind for kind, is_there in self._found.items() if is_there]
            raise unsupported(kind, [*known, *tried])

    def _is_built(self, kind: IndexKind) -> bool:
        name = f"lookalike_trial_{secrets.token_hex(8)}"
        client, timeout = self._engine.client, self._engine.timeouts.admin
        with translated("try an index"):
            try:
                client.create_collection(name, schema=_schema(), timeout=timeout)
                client.create_index(name, _params(kind), timeout=timeout)
                client.insert(name, _rows(), timeout=timeout)
                client.flush(name, timeout=timeout)
                return self._is_finished(name)
            except MilvusException as error:
                if is_away(error):
                    raise
                return False
            finally:
                client.drop_collection(name, timeout=timeout)

    def _is_finished(self, name: str) -> bool:
        deadline = time.monotonic() + BUILD_SECONDS
        while time.monotonic() < deadline:
            described = self._engine.client.describe_index(
                name, VECTOR, timeout=self._engine.timeouts.admin
            )
            # What it says of the state is "Finished" even when nothing was built.
            if int(described.get("indexed_rows", 0)) >= ROWS:
                return True
            time.sleep(LOOK_SECONDS)
        return False


def _schema() -> Any:
    made = MilvusClient.create_schema(auto_id=False)
    made.add_field(KEY, DataType.VARCHAR, is_primary=True, max_length=32)
    made.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=DIMENSION)
    return made


def _params(kind: IndexKind) -> Any:
    made = MilvusClient.prepare_index_params()
    made.add_index(
        VECTOR,
        index_type=kind.value,
        metric_type="IP",
        params=params_of(kind, {}, DIMENSION),
    )
    return made


def _rows() -> list[dict[str, Any]]:
    vectors = np.random.default_rng(0).standard_normal((ROWS, DIMENSION), np.float32)
    return [
        {KEY: f"{number:032x}", VECTOR: vector} for number, vector in enumerate(vectors)
    ]
