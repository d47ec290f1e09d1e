"""The network inside this process, run by ONNX Runtime on the CPU."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import onnxruntime

from lookalike.backbones import Backbone
from lookalike.errors import BadEmbedding, EmbedderUnavailable, Misconfigured
from lookalike.images import Geometry
from lookalike.interfaces import Pixels, Vectors

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
    """

    def __init__(self, backbone: Backbone, *, threads: int) -> None:
        self.backbone = backbone
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
        self._check_input(pixels)
        if len(pixels) == 0:
            return np.empty((0, self.dimension), np.float32)
        session = self._session(self._threads if len(pixels) == 1 else 1)
        parts = [
            self._run(session, pixels[start : start + BATCH])
            for start in range(0, len(pixels), BATCH)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _check_input(self, pixels: Pixels) -> None:
        side = self.geometry.side
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (side, side, 3):
            raise ValueError(
                f"expected uint8 [N, {side}, {side}, 3], "
                f"got {pixels.dtype} {list(pixels.shape)}"
            )

    def _run(self, session: Any, pixels: Pixels) -> Vectors:
        try:
            (answer,) = session.run(["embedding"], {"images": pixels})
        except Exception as error:  # ONNX Runtime's errors share no class of their own
            raise EmbedderUnavailable(f"ONNX Runtime failed: {error}") from error
        return checked(answer, len(pixels), self.dimension)

    def _session(self, threads: int) -> Any:
        with self._lock:
            if threads not in self._sessions:
                self._sessions[threads] = _open(self.backbone, threads)
            return self._sessions[threads]


def checked(answer: object, count: int, dimension: int) -> Vectors:
    """What a network answered, if it is ``count`` unit vectors.

    Raises:
        BadEmbedding: wrong type or shape, not finite, or not of unit length.
    """
    if not isinstance(answer, np.ndarray) or answer.dtype != np.float32:
        raise BadEmbedding("the network did not answer with float32 vectors")
    if answer.shape != (count, dimension):
        raise BadEmbedding(
            f"the network answered with shape {list(answer.shape)} "
            f"instead of [{count}, {dimension}]"
        )
    lengths = np.linalg.norm(answer, axis=1)
    # A NaN anywhere makes the length NaN, and NaN is not below anything.
    if not (np.abs(lengths - 1) < 1e-3).all():
        raise BadEmbedding("the network answered with vectors that are not unit length")
    return answer


def _open(backbone: Backbone, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only: warnings go to stderr as they come
    # Spinning threads take the cores away from decoding.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(
            str(backbone.model_path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # as in _run
        raise Misconfigured(
            f"ONNX Runtime cannot load {backbone.model_path}: {error}"
        ) from error
    _check_contract(session, backbone)
    return session


def _check_contract(session: Any, backbone: Backbone) -> None:
    side, path = backbone.geometry.side, backbone.model_path
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
