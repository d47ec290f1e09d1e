"""The network in a Triton server, over gRPC."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from lookalike.backbones import Backbone
from lookalike.backends.breaker import Breaker
from lookalike.backends.triton_failures import Failure, error_of, kind_of
from lookalike.backends.vectors import (
    check_pixels,
    checked,
    checked_maps,
    no_feature_maps,
)
from lookalike.errors import EmbedderUnavailable, Misconfigured
from lookalike.images import Geometry
from lookalike.interfaces import Maps, Pixels, Vectors

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

RELOAD_SECONDS = 30.0  # between two attempts to repair the model
RELOAD_DEADLINE_SECONDS = 60.0
PRIORITY_SEARCH, PRIORITY_INGEST = 1, 2  # of the model's two levels

CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A server that comes back is found soon; the default waits up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # A connection that has died silently is noticed.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # No connection is shared with another client of this process, or with a parent's.
    ("grpc.use_local_subchannel_pool", 1),
]

# The failures after which another server may answer, with another model.
_GONE = {
    Failure.UNREACHABLE,
    Failure.NOT_READY,
    Failure.UNHEALTHY,
    Failure.UNKNOWN_MODEL,
}


@dataclass
class Counters:
    """What an embedder did since it was made, in this process."""

    calls: int = 0
    images: int = 0
    seconds: float = 0.0  # in calls that were answered
    reloads: int = 0
    failures: Counter[str] = field(default_factory=Counter)  # by ``Failure``


class TritonEmbedder:
    """Embeds in a Triton server; call from as many threads as you like.

    The client is built on first use, anew in a forked child, because gRPC does not
    survive a fork. Every call has a deadline, which the server is told, too, so that
    it drops what nobody waits for. Before the first picture, and again after the server
    was gone, the model's fingerprint is compared with the backbone's.

    Args:
        backbone: what the model must be.
        url: ``host:port`` of Triton's gRPC.
        model: its name there; by default the backbone's.
        timeout_seconds: for one call, which is a batch at most.
        breaker: turns callers away while the server cannot be reached.
    """

    def __init__(
        self,
        backbone: Backbone,
        url: str,
        *,
        model: str = "",
        timeout_seconds: float = 5.0,
        breaker: Breaker | None = None,
    ) -> None:
        self.backbone = backbone
        self.counters = Counters()
        self._url = url.removeprefix("grpc://")
        self._model = model or backbone.name
        self._timeout = timeout_seconds
        self._breaker = breaker or Breaker()
        self._lock = threading.Lock()
        self._client: Any = None
        self._process = 0
        self._batch = 0  # the most pictures in a call; 0 until the model was checked
        self._has_maps = False
        self._reload_at = 0.0

    @property
    def fingerprint(self) -> str:
        """Names what the vectors mean."""
        return self.backbone.fingerprint

    @property
    def geometry(self) -> Geometry:
        """How a picture becomes the square input."""
        return self.backbone.geometry

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self.backbone.dimension

    def embed(self, pixels: Pixels) -> Vectors:
        """Unit vectors of N squares of pixels.

        Raises:
            EmbedderUnavailable: Triton cannot be reached, is overloaded, or did not
                answer in time; ``extra["reason"]`` says which.
            BadEmbedding: it refused the pictures, or answered with no unit vectors.
            Misconfigured: its model is none of this backbone.
        """
        check_pixels(pixels, self.geometry.side)
        if len(pixels) == 0:
            return np.empty((0, self.dimension), np.float32)
        size = self._call_size()
        priority = PRIORITY_SEARCH if len(pixels) == 1 else PRIORITY_INGEST
        parts = [
            self._embed(pixels[start : start + size], priority)
            for start in range(0, len(pixels), size)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def feature_maps(self, pixels: Pixels) -> Maps:
        """What the network sees, and where, in N squares of pixels.

        Raises:
            EmbedderUnavailable, BadEmbedding, Misconfigured: as with ``embed``.
            BadQuery: code ``explain_unsupported``: the model has no feature map.
        """
        check_pixels(pixels, self.geometry.side)
        size = self._call_size()
        if not self._has_maps:
            raise no_feature_maps(self.backbone.name)
        parts = []
        for start in range(0, len(pixels), size):
            some = pixels[start : start + size]
            answer = self._infer("feature_map", some, PRIORITY_SEARCH)
            parts.append(checked_maps(answer, len(some)))
        return np.concatenate(parts)

    def check(self) -> int:
        """The most pictures in one call, once the model is known to be the right one.

        Raises:
            EmbedderUnavailable: Triton does not answer.
            Misconfigured: it does not have the model, or another of that name.
        """
        answer = self._call(
            lambda client: client.get_model_config(
                self._model, client_timeout=self._timeout
            )
        )
        found = answer.config.parameters["fingerprint"].string_value
        if found != self.fingerprint:
            raise Misconfigured(
                f"Triton at {self._url} serves {found or 'no fingerprint'} as "
                f"{self._model!r}, but the backbone here is {self.fingerprint}. "
                "Vectors of the two do not mix: set LOOKALIKE_BACKBONE to the former, "
                "or put the latter into Triton's repository with `lookalike backbone "
                "build`.",
                extra={"expected": self.fingerprint, "runs": found},
            )
        self._batch = answer.config.max_batch_size or 1
        outputs = {output.name for output in answer.config.output}
        self._has_maps = "feature_map" in outputs
        return self._batch

    def reload(self) -> None:
        """Have the server unload the model and load it anew.

        Raises:
            EmbedderUnavailable: it did not, for instance because it was not started
                with ``--model-control-mode=explicit``.
        """

        def unload_and_load(client: Any) -> None:
            # Loading alone does nothing while the files are as they were.
            for change in (client.unload_model, client.load_model):
                change(self._model, client_timeout=RELOAD_DEADLINE_SECONDS)

        self._call(unload_and_load)
        self.counters.reloads += 1

    def close(self) -> None:
        """Let go of the connection."""
        with self._lock:
            client, self._client = self._client, None
            if client is not None and self._process == os.getpid():
                client.close()

    def _call_size(self) -> int:
        """The most pictures in one call; the model is checked if it was not yet."""
        size = self._batch if self._process == os.getpid() else 0
        return size or self.check()

    def _embed(self, pixels: Pixels, priority: int) -> Vectors:
        answer = self._infer("embedding", pixels, priority)
        return checked(answer, len(pixels), self.dimension)

    def _infer(self, output: str, pixels: Pixels, priority: int) -> object:
        """One output of the model for one batch."""
        images = triton.InferInput("images", list(pixels.shape), "UINT8")
        images.set_data_from_numpy(pixels)
        started = time.perf_counter()
        result = self._call(
            lambda client: client.infer(
                self._model,
                [images],
                outputs=[triton.InferRequestedOutput(output)],
                priority=priority,
                timeout=int(self._timeout * 1e6),  # in the queue, in microseconds
                client_timeout=self._timeout,
            )
        )
        with self._lock:
            self.counters.images += len(pixels)
            self.counters.seconds += time.perf_counter() - started
        return cast(object, result.as_numpy(output))

    def _call(self, ask: Callable[[Any], Answer]) -> Answer:
        if not self._breaker.allows():
            raise EmbedderUnavailable(
                f"Triton at {self._url} cannot be reached; it is tried again soon.",
                extra={"reason": Failure.UNREACHABLE.value},
            )
        with self._lock:
            self.counters.calls += 1
        try:
            answer = ask(self._connected())
        except InferenceServerException as error:
            kind = kind_of(error)
            self._note(kind)
            raise error_of(kind, error, self._url, self._model) from error
        self._breaker.worked()
        return answer

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None or self._process != os.getpid():
                self._client = triton.InferenceServerClient(
                    self._url, channel_args=CHANNEL
                )
                self._process = os.getpid()
                self._batch = 0
            return self._client

    def _note(self, kind: Failure) -> None:
        """Count a failure, and do what can be done about it."""
        with self._lock:
            self.counters.failures[kind.value] += 1
        if kind in _GONE:
            self._batch = 0
        # Several deadlines in a row, without one answer in between, are a server that
        # hangs or that is so late that fewer calls help it.
        if kind in (Failure.UNREACHABLE, Failure.DEADLINE):
            self._breaker.failed()
        else:
            self._breaker.worked()
        if kind is Failure.UNHEALTHY:
            self._begin_repair()

    def _begin_repair(self) -> None:
        """Have the model loaded anew, at most every half minute, beside the callers.

        Triton of before 2.65 does not start a dead Python process again by itself.
        """
        with self._lock:
            if time.monotonic() < self._reload_at:
                return
            self._reload_at = time.monotonic() + RELOAD_SECONDS
        threading.Thread(target=self._repair, name="triton-repair", daemon=True).start()

    def _repair(self) -> None:
        try:
            self.reload()
        except (EmbedderUnavailable, Misconfigured) as error:
            log.error("restart Triton: it cannot repair its model: %s", error.detail)
        else:
            log.warning("Triton at %s has loaded %s anew", self._url, self._model)
