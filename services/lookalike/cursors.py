"""Cursors: they hold the query's vectors and what was shown, so nothing is kept.

Each page asks anew for what is best and leaves out what earlier pages showed. So an
image never comes twice, and none is left out because others came, went or changed
place between two pages, nor because an approximate index finds it late.

A cursor is base64url of: a version, the numbers of examples and dimensions, digests of
what must stay as it is, weights and vectors in float32, six bytes of every image or
group that was shown, and a checksum.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from dataclasses import dataclass

import numpy as np

from lookalike import metrics
from lookalike.collections import Collection
from lookalike.errors import BadEmbedding, BadQuery, BadRequest
from lookalike.interfaces import ImageKey
from lookalike.probes import Probe
from lookalike.queries import MAX_EXAMPLES, Picture, Query, Stored, Strategy
from lookalike.results import MARK, Want

VERSION = 1
MAX_DEPTH = 10_000  # images or groups shown before
MAX_COMPARED_DEPTH = 1_000  # the same, where they are compared with each other
_HEAD = struct.Struct("<BBBBHHI8s8s")
_KEY = 16  # bytes of a key
_SUM = 8  # bytes of the checksum
_STRATEGIES = tuple(Strategy)


@dataclass(frozen=True)
class Place:
    """Where a search stands: its query, what it wants, and what was shown."""

    probe: Probe
    want: Want
    query: bytes  # 8 bytes that tell it from others
    shown: frozenset[bytes] = frozenset()


def begin(collection: Collection, probe: Probe, query: Query, want: Want) -> Place:
    """The place before the first page."""
    return Place(probe, want, digest_of(query))


def digest_of(query: Query) -> bytes:
    """8 bytes that tell a query from others."""
    told = hashlib.sha256(query.strategy.encode())
    for example in query.examples:
        source = example.source
        match source:
            case Picture():
                told.update(hashlib.sha256(source.data).digest())
            case Stored():
                told.update(repr(source.id).encode())
            case _:
                told.update(_bytes_of(source.vector))
        told.update(repr((example.weight, example.crop)).encode())
    told.update(repr(len(query.positive)).encode())
    return told.digest()[:8]


def _bytes_of(vector: object) -> bytes:
    """The numbers of a caller's vector; none if it is none, which no cursor has."""
    try:
        return np.asarray(vector, np.float64).tobytes()
    except (TypeError, ValueError, OverflowError):
        return b""


def to_cursor(place: Place, collection: Collection) -> str:
    """A place as opaque text."""
    probe = place.probe
    examples, dimension = probe.vectors.shape
    head = _HEAD.pack(
        *(VERSION, _STRATEGIES.index(probe.strategy), probe.positives),
        *(examples, dimension, len(probe.ids), len(place.shown)),
        *(place.want.digest(collection), place.query),
    )
    body = b"".join(
        (
            head,
            probe.weights.astype("<f4").tobytes(),
            probe.vectors.astype("<f4").tobytes(),
            *(bytes.fromhex(key) for key in probe.ids),
            *sorted(place.shown),
        )
    )
    return base64.urlsafe_b64encode(body + _sum(body)).decode().rstrip("=")


def from_cursor(
    cursor: str, collection: Collection, want: Want, query: Query | None
) -> Place:
    """The place that a cursor names.

    Raises:
        BadRequest: code ``cursor_invalid``: it is none.
        BadQuery: ``cursor_mismatch``: it belongs to another search;
            ``page_too_deep``: as many were shown as can be.
    """
    place, digest = _read(cursor, collection, want)
    if digest != want.digest(collection):
        raise _mismatch("filter, min_score, group_by and the like")
    if query is not None and place.query != digest_of(query):
        raise _mismatch("query (it need not be sent again)")
    most = MAX_COMPARED_DEPTH if want.compares else MAX_DEPTH
    if len(place.shown) >= most:
        raise BadQuery(
            f"This search has shown {len(place.shown)} matches, and pages end at "
            f"{most}. Narrow it by a filter, or scroll through the images instead.",
            code="page_too_deep",
            extra={"limit": most},
        )
    return place


def _read(cursor: str, collection: Collection, want: Want) -> tuple[Place, bytes]:
    """The place, and the digest of what was wanted on the page before."""
    try:
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True)
    except ValueError:
        raise _invalid() from None
    body, checksum = data[:-_SUM], data[-_SUM:]
    if len(body) < _HEAD.size or _sum(body) != checksum:
        raise _invalid()
    version, strategy, positives, examples, dimension, ids, shown, wanted, asked = (
        _HEAD.unpack_from(body)
    )
    lengths = (4 * examples, 4 * examples * dimension, _KEY * ids, MARK * shown)
    if (
        version != VERSION
        or len(body) != _HEAD.size + sum(lengths)
        or not 1 <= positives <= examples <= MAX_EXAMPLES
        or strategy >= len(_STRATEGIES)
    ):
        raise _invalid()
    if dimension != collection.dimension:
        raise _mismatch("collection")
    pieces, at = [], _HEAD.size
    for length in lengths:
        pieces.append(body[at : at + length])
        at += length
    weights = np.frombuffer(pieces[0], "<f4")
    vectors = np.frombuffer(pieces[1], "<f4").reshape(examples, dimension)
    try:
        metrics.prepare(vectors, collection.metric)
    except BadEmbedding:
        raise _invalid() from None
    if not (np.isfinite(weights) & (weights > 0)).all():
        raise _invalid()
    keys = [ImageKey(one.hex()) for one in _cut(pieces[2], _KEY)]
    probe = Probe(vectors, weights, positives, _STRATEGIES[strategy], keys)
    return Place(probe, want, asked, frozenset(_cut(pieces[3], MARK))), wanted


def _cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def _sum(body: bytes) -> bytes:
    return hashlib.sha256(b"lookalike cursor" + body).digest()[:_SUM]


def _invalid() -> BadRequest:
    return BadRequest(
        "A cursor is the `next_cursor` of the page before, unchanged.",
        code="cursor_invalid",
    )


def _mismatch(what: str) -> BadQuery:
    return BadQuery(
        f"This cursor belongs to another search: send it with the same {what} as the "
        "page before.",
        code="cursor_mismatch",
    )
