"""Use case: find what looks alike."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lookalike import cursors, relevance
from lookalike.collections import Collection, CollectionUid
from lookalike.cursors import Place
from lookalike.errors import LookalikeError
from lookalike.gathering import Ask
from lookalike.images import Limits
from lookalike.interfaces import BlobStore, Embedder, ImageId, Ledger, VectorIndex
from lookalike.paging import Page
from lookalike.probes import Vector
from lookalike.queries import Numbers, Picture, Query, Stored
from lookalike.reading import Reader, Spent
from lookalike.results import Found, Match, Timing, Want, check_want

CALIBRATION_SECONDS = 60.0  # one that was read is used for so long

Calibrated = tuple[float, relevance.Calibration | None]  # until when it is used


class Searcher:
    """Finds images by pictures, by ids of stored images, or by vectors.

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
        self._index = index
        self._reader = Reader(ledger, blobs, embedder, index, limits)
        self._calibrations: dict[CollectionUid, Calibrated] = {}

    def search(self, collection: Collection, query: Query, want: Want) -> Found:
        """Find what looks like the positive examples, and unlike the negative ones.

        Raises:
            BadImage: the bytes are not an accepted image.
            ImageNotFound: there is no such stored image.
            BadQuery: the query or what is wanted cannot be.
        """
        check_want(collection, want)
        probe, spent = self._reader.read(collection, query)
        started = time.perf_counter()
        page = self._page(collection, cursors.begin(collection, probe, query, want))
        return self._found(collection, page, spent, started)

    def next_page(
        self, collection: Collection, cursor: str, want: Want, query: Query | None
    ) -> Found:
        """Find what comes after a page; the query need not be given again.

        Raises:
            BadRequest: code ``cursor_invalid``.
            BadQuery: ``cursor_mismatch`` or ``page_too_deep``.
        """
        check_want(collection, want)
        self._reader.check(collection)
        started = time.perf_counter()
        page = self._page(
            collection, cursors.from_cursor(cursor, collection, want, query)
        )
        return self._found(collection, page, Spent(), started)

    def search_all(
        self, collection: Collection, searches: Sequence[tuple[Query, Want]]
    ) -> list[Found | LookalikeError]:
        """What each of several searches finds, or why it cannot be.

        All pictures are embedded together, and searches with equal filters and limits
        are one question to the index.
        """
        probes, spent = self._reader.read_all(collection, [one for one, _ in searches])
        pages: list[Page | LookalikeError] = []
        for (query, want), probe in zip(searches, probes, strict=True):
            try:
                if isinstance(probe, LookalikeError):
                    raise probe
                check_want(collection, want)
                place = cursors.begin(collection, probe, query, want)
                pages.append(self._page(collection, place))
            except LookalikeError as error:
                pages.append(error)
        self._ask_together(collection, [one for one in pages if isinstance(one, Page)])
        return [
            self._found(collection, page, spent, time.perf_counter())
            if isinstance(page, Page)
            else page
            for page in pages
        ]

    # --- by one thing ----------------------------------------------------------------

    def by_image(self, collection: Collection, data: bytes, want: Want) -> Found:
        """Find what looks like this picture; raises as ``search``."""
        return self.search(collection, Query.of(Picture(data)), want)

    def by_id(self, collection: Collection, image_id: ImageId, want: Want) -> Found:
        """Find what looks like a stored image; raises as ``search``."""
        return self.search(collection, Query.of(Stored(image_id)), want)

    def by_vector(self, collection: Collection, vector: object, want: Want) -> Found:
        """Find what lies near a vector of the backbone; raises as ``search``."""
        return self.search(collection, Query.of(Numbers(vector)), want)

    # --- how -------------------------------------------------------------------------

    def _page(self, collection: Collection, place: Place) -> Page:
        return Page(self._ledger, self._index, collection, place)

    def _ask_together(self, collection: Collection, pages: Sequence[Page]) -> None:
        """The first question of each page, those that are alike as one."""
        alike: dict[tuple[int, str], list[tuple[Page, Ask]]] = {}
        for page in pages:
            ask = page.gathering.ask
            kind = (ask.limit, repr(ask.condition))
            alike.setdefault(kind, []).append((page, ask))
        for several in alike.values():
            vectors = np.concatenate([ask.vectors for _, ask in several])
            _, ask = several[0]
            answers = iter(
                self._index.search_many(collection, vectors, ask.limit, ask.condition)
            )
            for page, ask in several:
                page.gathering.go_on([next(answers) for _ in ask.vectors])

    def _found(
        self, collection: Collection, page: Page, spent: Spent, started: float
    ) -> Found:
        matches = page.fill()
        if len(page.place.probe.vectors) == 1:
            query = page.place.probe.vectors[0]
            matches = self._with_relevance(collection, matches, query)
        took = (time.perf_counter() - started) * 1000
        return Found(
            matches=matches,
            complete=page.because is None,
            because=page.because,
            next_cursor=page.next_cursor,
            timing=Timing(spent.decode, spent.embed, spent.fetch + took),
        )

    def _with_relevance(
        self, collection: Collection, matches: list[Match], query: Vector
    ) -> list[Match]:
        """Matches with what their scores mean, of a query that is one picture."""
        calibration = self._calibration(collection)
        if calibration is None:
            return matches
        return [
            replace(match, relevance=relevance.of(calibration, match.score, query))
            for match in matches
        ]

    def _calibration(self, collection: Collection) -> relevance.Calibration | None:
        now = time.monotonic()
        until, calibration = self._calibrations.get(collection.uid, (0.0, None))
        if now >= until:
            calibration = self._ledger.calibration(collection)
            kept = {uid: one for uid, one in self._calibrations.items() if one[0] > now}
            self._calibrations = kept | {
                collection.uid: (now + CALIBRATION_SECONDS, calibration)
            }
        return calibration
