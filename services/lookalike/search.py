"""Use case: find what looks alike."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lookalike.collections import Collection
from lookalike.errors import BadQuery
from lookalike.filters import Filter, matches
from lookalike.images import Limits, decode_square
from lookalike.ingest import check_backbone
from lookalike.interfaces import (
    BlobStore,
    Embedder,
    Hit,
    Image,
    ImageId,
    ImageKey,
    Ledger,
    VectorIndex,
)

Vector = npt.NDArray[np.float32]  # [D]

SPARE_HITS = 2  # asked beyond the limit, for hits the ledger does not confirm
MAX_WIDENINGS = 4  # each asks the index for four times as many


@dataclass(frozen=True)
class Want:
    """What a search asks for, beside the query itself."""

    limit: int = 10
    condition: Filter | None = None
    min_score: float | None = None  # cosine similarity, -1 to 1


@dataclass(frozen=True)
class Match:
    """One lookalike: cosine similarity (-1 to 1, higher is closer) and its image."""

    id: ImageId
    score: float
    image: Image


@dataclass(frozen=True)
class Timing:
    """Where the time went, in milliseconds."""

    decode: float = 0.0
    embed: float = 0.0
    search: float = 0.0  # index and ledger


@dataclass(frozen=True)
class Found:
    """The answer to a search.

    ``complete`` says that as many images were found as were asked for, before
    ``min_score`` took any away; if not, there are no more.
    """

    matches: list[Match]
    complete: bool
    timing: Timing


class Searcher:
    """Finds images by picture, by the id of a stored image, or by vector.

    Every method raises ``BackboneMismatch`` if the collection was embedded by another
    backbone, and ``Unavailable`` if a part does not answer.
    """

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

    def by_image(self, collection: Collection, data: bytes, want: Want) -> Found:
        """Find what looks like this picture.

        Raises:
            BadImage: the bytes are not an accepted image.
        """
        check_backbone(collection, self._embedder)
        started = time.perf_counter()
        square = decode_square(data, self._embedder.geometry, self._limits)
        decoded = time.perf_counter()
        vector = self._embedder.embed(square[np.newaxis])[0]
        embedded = time.perf_counter()
        timing = Timing(_ms(started, decoded), _ms(decoded, embedded))
        return self._find(collection, vector, want, timing)

    def by_id(self, collection: Collection, image_id: ImageId, want: Want) -> Found:
        """Find what looks like a stored image; the image itself is left out.

        An image that is not indexed yet is embedded on the spot.

        Raises:
            ImageNotFound: there is no such image.
        """
        check_backbone(collection, self._embedder)
        image = self._ledger.image(collection, image_id)
        started = time.perf_counter()
        stored = self._index.vectors(collection, [image.key]).get(image.key)
        timing = Timing(search=_ms(started, time.perf_counter()))
        if stored is None or stored.gen != image.gen:
            data = self._blobs.read(collection.team, image.digest)
            square = decode_square(data, self._embedder.geometry, self._limits)
            vector = self._embedder.embed(square[np.newaxis])[0]
            timing = Timing(embed=_ms(started, time.perf_counter()))
        else:
            vector = stored.vector
        return self._find(collection, vector, want, timing, leave_out=image.key)

    def by_vector(self, collection: Collection, vector: object, want: Want) -> Found:
        """Find what lies near a vector of the collection's backbone.

        Raises:
            BadQuery: code ``vector_invalid``: wrong length, not finite, or zero.
        """
        check_backbone(collection, self._embedder)
        return self._find(
            collection, unit_vector(vector, collection.dimension), want, Timing()
        )

    def _find(
        self,
        collection: Collection,
        vector: Vector,
        want: Want,
        timing: Timing,
        leave_out: ImageKey | None = None,
    ) -> Found:
        started = time.perf_counter()
        asked = want.limit + max(SPARE_HITS, want.limit // 8)
        found: list[Match] = []
        for _ in range(MAX_WIDENINGS):
            hits = self._index.search(collection, vector, asked, want.condition)
            found = self._verified(collection, hits, want.condition, leave_out)
            if len(found) >= want.limit or len(hits) < asked:
                break
            asked *= 4
        # Ties in score are broken by id, so that equal searches answer equally.
        found.sort(key=lambda match: (-match.score, match.id))
        best = found[: want.limit]
        spent = timing.search + _ms(started, time.perf_counter())
        return Found(
            matches=[match for match in best if _reaches(match, want.min_score)],
            complete=len(best) == want.limit,
            timing=Timing(timing.decode, timing.embed, spent),
        )

    def _verified(
        self,
        collection: Collection,
        hits: Sequence[Hit],
        condition: Filter | None,
        leave_out: ImageKey | None,
    ) -> list[Match]:
        """Those hits the ledger confirms, by the metadata it holds now.

        The index lags behind deletions and changes of metadata; the ledger does not.
        """
        images = self._ledger.verified(collection, hits)
        return [
            Match(image.id, hit.score, image)
            for hit in hits
            if (image := images.get(hit.key)) is not None
            and hit.key != leave_out
            and (condition is None or matches(condition, image.metadata))
        ]


def unit_vector(vector: object, dimension: int) -> Vector:
    """A caller's numbers as a unit vector: float32 ``[dimension]``.

    Raises:
        BadQuery: code ``vector_invalid``.
    """

    def invalid(problem: str) -> BadQuery:
        return BadQuery(
            f"A query vector is {dimension} finite numbers, not all zero; {problem}.",
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
    except OverflowError:
        raise invalid("a number is too large") from None
    if not np.isfinite(wide).all():
        raise invalid("got NaN or infinity")
    largest = float(np.abs(wide).max(initial=0.0))
    if largest == 0.0:
        raise invalid("got only zeros")
    wide = wide / largest  # so that squares neither overflow nor vanish
    return (wide / np.linalg.norm(wide)).astype(np.float32)


def _reaches(match: Match, min_score: float | None) -> bool:
    return min_score is None or match.score >= min_score


def _ms(start: float, end: float) -> float:
    return (end - start) * 1000.0
