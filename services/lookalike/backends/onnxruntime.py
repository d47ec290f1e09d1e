"""The network inside this process, run by ONNX Runtime on the CPU."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from lookalike.backbones import Backbone
from lookalike.backbones.choice import Choice, Wanted, choose
from lookalike.backends.vectors import (
    check_pixels,
    checked,
    checked_maps,
    no_feature_maps,
)
from lookalike.errors import EmbedderUnavailable, Misconfigured
from lookalike.images import Geometry
from lookalike.interfaces import Maps, Pixels, Vectors

# Images in one run. Measured per core on the bundled ResNet-18: 271 img/s one by
# one, 474 in eights, 533 in sixteens, 549 in thirty-twos. Memory grows with it.
BATCH = 16


class OnnxEmbedder:
    """Embeds with ONNX Runtime; give each thread its share and call from all of them.

    Many images run on the calling thread alone: N threads, each with its own images,
    beat one session of N threads. A single image, which someone waits for, runs on
    ``threads`` cores.

    Nothing of ONNX Runtime is made before the first image, because its threads do not
    survive a fork.

    Args:
        backbone: what embeds.
        threads: cores for a single image.
        precision: numbers to compute in; ``auto`` is int8 where there is such a
            network and the processor gains by it.

    Raises:
        Misconfigured: int8 is asked for and was not made, or its file is damaged.
    """

    def __init__(
        self, backbone: Backbone, *, threads: int, precision: Wanted = "auto"
    ) -> None:
        self.backbone = backbone
        self.choice = choose(backbone, precision)
        self._threads = max(1, threads)
        self._sessions: dict[int, Any] = {}  # by the number of its threads
        self._lock = threading.Lock()

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
            EmbedderUnavailable: ONNX Runtime failed.
            BadEmbedding: the network answered with a wrong shape, NaN or zeros.
            Misconfigured: the weights are no such network as their manifest says.
        """
        check_pixels(pixels, self.geometry.side)
        if len(pixels) == 0:
            return np.empty((0, self.dimension), np.float32)
        session = self._session(self._threads if len(pixels) == 1 else 1)
        parts = [
            checked(_run(session, "embedding", some), len(some), self.dimension)
            for some in _batches(pixels)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def feature_maps(self, pixels: Pixels) -> Maps:
        """What the network sees, and where, in N squares of pixels.

        Raises:
            EmbedderUnavailable: ONNX Runtime failed.
            BadEmbedding: the network answered with a wrong shape, or NaN.
            BadQuery: code ``explain_unsupported``: it has no feature map.
        """
        check_pixels(pixels, self.geometry.side)
        session = self._session(self._threads)  # someone waits
        if "feature_map" not in {output.name for output in session.get_outputs()}:
            raise no_feature_maps(self.backbone.name)
        return np.concatenate(
            [
                checked_maps(_run(session, "feature_map", some), len(some))
                for some in _batches(pixels)
            ]
        )

    def _session(self, threads: int) -> Any:
        with self._lock:
            if threads not in self._sessions:
                self._sessions[threads] = _open(self.backbone, self.choice, threads)
            return self._sessions[threads]


def _batches(pixels: Pixels) -> Iterator[Pixels]:
    """The same squares, as many at once as run well."""
    for start in range(0, len(pixels), BATCH):
        yield pixels[start : start + BATCH]


def _run(session: Any, output: str, pixels: Pixels) -> Any:
    try:
        (answer,) = session.run([output], {"images": pixels})
    except Exception as error:  # ONNX Runtime's errors share no class of their own
        raise EmbedderUnavailable(f"ONNX Runtime failed: {error}") from error
    return answer


def _open(backbone: Backbone, choice: Choice, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only: warnings go to stderr as they come
    # Spinning threads take the cores away from decoding.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        network = _float_network(choice) if choice.convert else str(choice.path)
        session = onnxruntime.InferenceSession(
            network, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # as in _run
        raise Misconfigured(
            f"ONNX Runtime cannot load {choice.path}: {error}"
        ) from error
    _check_contract(session, backbone, choice.path)
    return session


def _float_network(choice: Choice) -> bytes:
    # Here, because onnx is large and only this needs it.
    import onnx

    from lookalike.backbones.precision import as_float

    return bytes(as_float(onnx.load(choice.path)).SerializeToString())


def _check_contract(session: Any, backbone: Backbone, path: Path) -> None:
    side = backbone.geometry.side
    inputs = {i.name: (i.type, i.shape[1:]) for i in session.get_inputs()}
    if inputs != {"images": ("tensor(uint8)", [side, side, 3])}:
        raise Misconfigured(
            f"{path} must have one input, images: uint8 [N, {side}, {side}, 3]; "
            f"it has {inputs}"
        )
    outputs = {o.name: (o.type, o.shape[1:]) for o in session.get_outputs()}
    if outputs.get("embedding") != ("tensor(float)", [backbone.dimension]):
        raise Misconfigured(
            f"{path} must have an output embedding: float32 "
            f"[N, {backbone.dimension}]; it has {outputs}"
        )
