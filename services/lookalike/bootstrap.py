"""The only place where real clients are built."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lookalike.backbones import Backbone, find
from lookalike.backends.blobs import DirectoryBlobs
from lookalike.backends.celery import CeleryQueue
from lookalike.backends.ledger import SqlLedger
from lookalike.backends.milvus import MilvusIndex
from lookalike.backends.threads import ThreadQueue
from lookalike.config import Settings
from lookalike.errors import EmbedderUnavailable
from lookalike.explain import Explainer
from lookalike.housekeeping import Housekeeping
from lookalike.images import Limits
from lookalike.ingest import index_images, ring
from lookalike.interfaces import (
    BlobStore,
    Embedder,
    JobQueue,
    Ledger,
    VectorIndex,
    WorkId,
)
from lookalike.search import Searcher

log = logging.getLogger(__name__)

Handle = Callable[[Sequence[WorkId]], None]


@dataclass(frozen=True)
class Backends:
    """Everything the edges work with; ``index_images`` does a chunk of work."""

    settings: Settings
    backbone: Backbone
    ledger: Ledger
    blobs: BlobStore
    embedder: Embedder
    index: VectorIndex
    queue: JobQueue
    index_images: Handle

    @property
    def limits(self) -> Limits:
        """What is accepted as an image."""
        return image_limits(self.settings)

    @property
    def searcher(self) -> Searcher:
        """The search use case over these parts."""
        return Searcher(self.ledger, self.blobs, self.embedder, self.index, self.limits)

    @property
    def explainer(self) -> Explainer:
        """What says why an image matches."""
        return Explainer(
            self.ledger, self.blobs, self.embedder, self.index, self.limits
        )

    @property
    def housekeeping(self) -> Housekeeping:
        """What is to be done once an hour and once a day."""
        settings = self.settings
        return Housekeeping(
            self.ledger,
            self.index,
            self.blobs,
            functools.partial(ring, self.queue, chunk_images=settings.chunk_images),
            orphan_hours=settings.orphan_hours,
            keep_days=settings.keep_days,
        )

    def warm_up(self) -> None:
        """Embed something of each kind, so that the first request is not the slow one.

        One picture is what a search brings, several are what ingestion brings. An
        embedder that is away keeps nothing from starting: much works without it.

        Raises:
            Misconfigured: the embedder cannot work as it is set up.
        """
        side = self.embedder.geometry.side
        try:
            for count in (1, 2):
                self.embedder.embed(np.zeros((count, side, side, 3), np.uint8))
        except EmbedderUnavailable as error:
            log.warning("started without the embedder: %s", error.detail)

    def close(self) -> None:
        """Let what runs come to its end, and let go of every part."""
        self.queue.close()
        self.index.close()
        self.ledger.close()


def image_limits(settings: Settings) -> Limits:
    """What the settings accept as an image."""
    return Limits(
        formats=(*Limits.formats, *(name.upper() for name in settings.extra_formats)),
        max_bytes=settings.max_image_bytes,
        max_pixels=settings.max_image_pixels,
        max_side=settings.max_image_side,
        max_decode_bytes=settings.max_decode_bytes,
    )


def connect(settings: Settings) -> Backends:
    """Open every part that the settings name. Call after any fork, never before.

    Raises:
        Misconfigured: a setting is wrong; the message names it.
        Unavailable: a part does not answer.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    backbone = find(settings.backbone, [settings.backbones])
    ledger = SqlLedger(
        settings.ledger_url,
        lease_seconds=settings.lease_seconds,
        sweep_lease_seconds=max(5.0, 3 * settings.reconcile_seconds),
        idempotency_hours=settings.idempotency_hours,
    )
    blobs = DirectoryBlobs(settings.originals)
    embedder = open_embedder(settings, backbone)
    index = MilvusIndex(
        settings.milvus_address, settings.milvus_token.get_secret_value()
    )
    limits = image_limits(settings)

    if settings.is_embedded_index:
        index.connect()  # a second process on the same file is refused right here
    handle = functools.partial(
        index_images, ledger, blobs, embedder, index, limits=limits
    )
    return Backends(
        settings=settings,
        backbone=backbone,
        ledger=ledger,
        blobs=blobs,
        embedder=embedder,
        index=index,
        queue=_queue(settings, handle),
        index_images=handle,
    )


def open_embedder(settings: Settings, backbone: Backbone) -> Embedder:
    """What embeds by this backbone; nothing is connected before the first picture."""
    # Imported here, because each is large and an installation needs one of the two.
    if settings.is_embedded_embedder:
        from lookalike.backends.onnxruntime import OnnxEmbedder

        return OnnxEmbedder(
            backbone, threads=settings.workers, precision=settings.precision
        )
    from lookalike.backends.triton import TritonEmbedder

    return TritonEmbedder(
        backbone,
        settings.triton_url,
        model=settings.triton_model,
        timeout_seconds=settings.triton_timeout_seconds,
    )


def _queue(settings: Settings, handle: Handle) -> JobQueue:
    if settings.is_embedded_queue:
        # One thread more than workers: while one waits for the disk or for the one
        # writer of Milvus Lite, another keeps its core busy.
        return ThreadQueue(
            handle, workers=settings.workers + 1, chunk_images=settings.chunk_images
        )
    return CeleryQueue(
        settings.redis_url.get_secret_value(), chunk_images=settings.chunk_images
    )
