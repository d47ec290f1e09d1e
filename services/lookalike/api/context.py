"""What a view works with: the one accessor to the parts behind this application."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from flask import current_app

from lookalike.admission import Admission, Capacity
from lookalike.api.precedence import Precedence
from lookalike.bootstrap import Backends
from lookalike.collections import DEFAULT_TEAM, Collection, Team
from lookalike.errors import Unavailable
from lookalike.images import Limits
from lookalike.search import Searcher

EXTENSION = "lookalike"


@dataclass(frozen=True)
class Context:
    """The parts behind one application, and how much of it may run at once."""

    backends: Backends
    limits: Limits
    searcher: Searcher
    admission: Admission
    precedence: Precedence
    # A thumbnail is a full decode: more of them than cores only costs memory.
    decoders: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(os.cpu_count() or 1)
    )
    # A stream of events holds one thread of the server until its job is finished.
    streams: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(1)
    )

    @classmethod
    def of(cls, backends: Backends) -> Context:
        """The context of an application over these backends."""
        settings = backends.settings
        streams = max(1, settings.http_threads // 2)
        capacity = Capacity(
            max_pending_images=settings.max_pending_images,
            max_pending_images_per_team=settings.max_pending_images_per_team,
            min_free_bytes=settings.min_free_bytes,
        )
        return cls(
            backends=backends,
            limits=backends.limits,
            searcher=backends.searcher,
            admission=Admission(backends.ledger, backends.blobs, capacity),
            precedence=Precedence(max(1, settings.http_threads // 2)),
            streams=threading.BoundedSemaphore(streams),
        )

    @contextlib.contextmanager
    def event_stream(self) -> Iterator[None]:
        """Hold one of the few places for streams of events.

        Raises:
            Unavailable: code ``too_many_streams``; every place is taken.
        """
        if not self.streams.acquire(blocking=False):
            raise Unavailable(
                "Too many streams of events are open; ask for the job instead, or "
                "try again.",
                code="too_many_streams",
            )
        try:
            yield
        finally:
            self.streams.release()


def context() -> Context:
    """The context of the application that answers this request."""
    found: Context = current_app.extensions[EXTENSION]
    return found


def backends() -> Backends:
    """The parts behind the application that answers this request."""
    return context().backends


def team() -> Team:
    """The team this request belongs to."""
    return DEFAULT_TEAM


def collection(name: str) -> Collection:
    """A collection of this request's team, by name.

    Raises:
        CollectionNotFound: there is none.
    """
    return backends().ledger.collection(team(), name)
