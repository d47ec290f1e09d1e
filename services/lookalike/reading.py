"""Reading queries: pictures are embedded, vectors of stored images fetched."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from lookalike import metrics
from lookalike.collections import Collection, Metric
from lookalike.errors import (
    BadEmbedding,
    BadInput,
    BadQuery,
    LookalikeError,
    NotFound,
    OriginalMissing,
)
from lookalike.images import Limits, decode_square
from lookalike.ingest import check_backbone
from lookalike.interfaces import (
    BlobStore,
    Embedder,
    ImageKey,
    Ledger,
    VectorIndex,
    image_key,
)
from lookalike.probes import Probe, Vector
from lookalike.queries import Example, Numbers, Picture, Query, Stored

Square = npt.NDArray[np.uint8]  # [S, S, 3]

EMBED_AT_ONCE = 32  # squares; 224 pixels wide they are 5 MB


@dataclass(frozen=True)
class Spent:
    """Where the time of making vectors went, in milliseconds."""

    fetch: float = 0.0  # stored vectors
    decode: float = 0.0
    embed: float = 0.0


def check_vector(vector: object, collection: Collection) -> Vector:
    """A caller's numbers as the collection compares them: float32 ``[D]``.

    Raises:
        BadQuery: code ``vector_invalid``.
    """
    dimension = collection.dimension

    def invalid(problem: str) -> BadQuery:
        return BadQuery(
            f"A query vector is {dimension} finite numbers; {problem}.",
            code="vector_invalid",
            extra={"dimension": dimension},
        )

    if not isinstance(vector, list) or any(
        isinstance(number, bool) or not isinstance(number, int | float)
        for number in vector
    ):
        raise invalid("got something other than a list of numbers")
    if len(vector) != dimension:
        raise invalid(f"got {len(vector)}")
    try:
        wide = np.asarray(vector, dtype=np.float64)
        prepared: Vector = metrics.prepare([wide], collection.metric)[0]
    except OverflowError:
        raise invalid("a number is too large") from None
    except BadEmbedding as error:
        raise invalid(error.detail.rstrip(".")) from None
    return prepared


@dataclass
class _Draft:
    """A query on its way to a probe: which vector each example gets."""

    query: Query
    vectors: list[Vector | None] = field(default_factory=list)
    error: LookalikeError | None = None


class Reader:
    """Makes vectors of queries."""

    def __init__(
        self,
        ledger: Ledger,
        blobs: BlobStore,
        embedder: Embedder,
        index: VectorIndex,
        limits: Limits,
    ) -> None:
        self._ledger = ledger
        self._blobs = blobs
        self._embedder = embedder
        self._index = index
        self._limits = limits

    def read(self, collection: Collection, query: Query) -> tuple[Probe, Spent]:
        """The vectors of one query.

        Raises:
            BackboneMismatch: the collection was embedded by another backbone.
            BadImage: the bytes are not an accepted image.
            ImageNotFound: there is no such stored image.
            BadQuery: code ``vector_invalid``.
        """
        (read,), spent = self.read_all(collection, [query])
        if isinstance(read, LookalikeError):
            raise read
        return read, spent

    def read_all(
        self, collection: Collection, queries: Sequence[Query]
    ) -> tuple[list[Probe | LookalikeError], Spent]:
        """The vectors of many queries, or what was wrong with each.

        All their pictures are embedded together.

        Raises:
            BackboneMismatch: the collection was embedded by another backbone.
            Unavailable: a part does not answer, which fails them all.
        """
        self.check(collection)
        started = time.perf_counter()
        stored = self._stored(collection, queries)
        fetched = time.perf_counter()
        squares: list[Square] = []
        drafts = [self._draft(collection, query, stored, squares) for query in queries]
        decoded = time.perf_counter()
        made = iter(self._embedded(squares, collection.metric))
        probes = [_probe(collection, draft, made) for draft in drafts]
        ended = time.perf_counter()
        return probes, Spent(
            fetch=(fetched - started) * 1000,
            decode=(decoded - fetched) * 1000,
            embed=(ended - decoded) * 1000,
        )

    def check(self, collection: Collection) -> None:
        """Return if vectors of the backbone that runs fit the collection.

        Raises:
            BackboneMismatch: they do not.
        """
        check_backbone(collection, self._embedder)

    def _stored(
        self, collection: Collection, queries: Sequence[Query]
    ) -> dict[ImageKey, tuple[int, Vector]]:
        """Vectors of stored images that are used whole, each with its gen."""
        keys = {
            image_key(collection.team, collection.uid, example.source.id)
            for query in queries
            for example in query.examples
            if isinstance(example.source, Stored) and example.crop is None
        }
        if not keys:
            return {}
        found = self._index.vectors(collection, sorted(keys))
        return {key: (one.gen, one.vector) for key, one in found.items()}

    def _draft(
        self,
        collection: Collection,
        query: Query,
        stored: dict[ImageKey, tuple[int, Vector]],
        squares: list[Square],
    ) -> _Draft:
        """Which vectors of a query are known; squares of the others are appended."""
        draft, mine = _Draft(query), list[Square]()
        try:
            for example in query.examples:
                known = self._known(collection, example, stored)
                if known is None:
                    mine.append(self._square(collection, example))
                draft.vectors.append(known)
        except (BadInput, NotFound, OriginalMissing) as error:
            draft.error = error
            return draft
        squares += mine
        return draft

    def _known(
        self,
        collection: Collection,
        example: Example,
        stored: dict[ImageKey, tuple[int, Vector]],
    ) -> Vector | None:
        """The vector of an example that needs no embedding."""
        source = example.source
        if isinstance(source, Numbers):
            return check_vector(source.vector, collection)
        if isinstance(source, Picture) or example.crop is not None:
            return None
        image = self._ledger.image(collection, source.id)
        gen, vector = stored.get(image.key, (None, None))
        # An index can hold an older row, and one that waits has none yet.
        return vector if gen == image.gen else None

    def _square(self, collection: Collection, example: Example) -> Square:
        source = example.source
        if isinstance(source, Stored):
            image = self._ledger.image(collection, source.id)
            data = self._blobs.read(collection.team, image.digest)
        else:
            assert isinstance(source, Picture)
            data = source.data
        geometry = self._embedder.geometry
        return decode_square(data, geometry, self._limits, example.crop)

    def _embedded(self, squares: Sequence[Square], metric: Metric) -> list[Vector]:
        vectors: list[Vector] = []
        for first in range(0, len(squares), EMBED_AT_ONCE):
            some = np.stack(squares[first : first + EMBED_AT_ONCE])
            vectors += list(metrics.prepare(self._embedder.embed(some), metric))
        return vectors


def _probe(
    collection: Collection, draft: _Draft, made: Iterator[Vector]
) -> Probe | LookalikeError:
    if draft.error is not None:
        return draft.error
    query = draft.query
    vectors = [next(made) if one is None else one for one in draft.vectors]
    return Probe(
        vectors=np.stack(vectors).astype(np.float32),
        weights=np.array(query.weights, np.float32),
        positives=len(query.positive),
        strategy=query.strategy,
        ids=[
            image_key(collection.team, collection.uid, image_id)
            for image_id in query.ids
        ],
    )
