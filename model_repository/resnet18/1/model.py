"""Runs a backbone inside Triton's Python backend, by ONNX Runtime on the CPU.

Triton imports this file as ``1/model.py`` of a model; ``lookalike backbone build`` put
it there. It stands alone and reads everything else from the model's configuration.

Triton's Python is isolated: where ONNX Runtime is not among the system's own packages,
``LOOKALIKE_SITE_PACKAGES`` names the folder that holds it.

Arrays come and go by DLPack. By ``as_numpy`` and ``Tensor(...)``, the stubs of older
servers read NumPy 2 wrongly: every pixel becomes the first, every answer is empty.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import math
import os
import site
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

if packages := os.environ.get("LOOKALIKE_SITE_PACKAGES"):
    sys.path.insert(0, packages)  # before older ones of the system
    site.addsitedir(packages)

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

PART = 16  # images in one run of a thread; larger ones gain nothing and need memory
INT8_FLAGS = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"}
TAKEN = b"used_dltensor"

name_capsule = ctypes.pythonapi.PyCapsule_SetName
name_capsule.argtypes = (ctypes.py_object, ctypes.c_char_p)


class TritonPythonModel:
    """One instance of the model; Triton calls these three methods, one at a time."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the network, once.

        Raises:
            TritonModelException: the weights are missing, are others than the
                configuration was written for, or cannot be loaded.
        """
        config = json.loads(args["model_config"])
        settings = {
            key: value["string_value"]
            for key, value in config.get("parameters", {}).items()
        }
        model = Path(args["model_repository"])
        weights = read_weights(model, settings, gains=gains_by_int8())
        self._shape = tuple(int(dim) for dim in config["input"][0]["dims"])
        self._outputs = [output["name"] for output in config["output"]]
        self._threads = int(settings["threads"]) or len(os.sched_getaffinity(0))
        # A single picture runs on all cores. Of many, each core takes its share: that
        # is faster than one run on all cores.
        self._alone = session(weights, self._threads)
        self._shared = session(weights, 1) if self._threads > 1 else self._alone
        self._pool = ThreadPoolExecutor(self._threads)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer all requests by one run over the pictures of all of them."""
        answers: list[Any] = [None] * len(requests)
        accepted: list[tuple[int, np.ndarray[Any, Any]]] = []
        for place, request in enumerate(requests):
            try:
                accepted.append((place, self._pixels(request)))
            except ValueError as error:
                answers[place] = failed(str(error), pb_utils.TritonError.INVALID_ARG)
        if accepted:
            asked = {
                name
                for place, _ in accepted
                for name in requests[place].requested_output_names()
            }
            names = [name for name in self._outputs if name in asked]
            for place, answer in self._answered(accepted, names):
                answers[place] = answer
        return answers

    def finalize(self) -> None:
        """Let go of the threads."""
        self._pool.shutdown()

    def _pixels(self, request: Any) -> np.ndarray[Any, Any]:
        tensor = pb_utils.get_input_tensor_by_name(request, "images")
        if tensor is None:
            raise ValueError("there is no input 'images'")
        pixels = np.from_dlpack(tensor)
        if pixels.dtype != np.uint8 or pixels.shape[1:] != self._shape:
            raise ValueError(
                f"'images' must be UINT8 [N, {', '.join(map(str, self._shape))}], "
                f"not {pixels.dtype} {list(pixels.shape)}"
            )
        return pixels

    def _answered(
        self, accepted: Sequence[tuple[int, np.ndarray[Any, Any]]], names: list[str]
    ) -> list[tuple[int, Any]]:
        try:
            results = self._run([pixels for _, pixels in accepted], names)
        except Exception as error:  # ONNX Runtime's errors share no class of their own
            answer = failed(f"ONNX Runtime: {error}", pb_utils.TritonError.INTERNAL)
            return [(place, answer) for place, _ in accepted]
        ends = np.cumsum([len(pixels) for _, pixels in accepted])
        answers = []
        for (place, pixels), end in zip(accepted, ends, strict=True):
            tensors = [
                tensor_of(name, result[end - len(pixels) : end])
                for name, result in zip(names, results, strict=True)
            ]
            answers.append((place, pb_utils.InferenceResponse(tensors)))
        return answers

    def _run(
        self, parts: Sequence[np.ndarray[Any, Any]], names: list[str]
    ) -> list[np.ndarray[Any, Any]]:
        """The named outputs for the pictures of all parts, in order."""
        pixels = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if len(pixels) == 1:
            return list(self._alone.run(names, {"images": pixels}))
        size = min(PART, math.ceil(len(pixels) / self._threads))
        shares = [pixels[at : at + size] for at in range(0, len(pixels), size)]
        run: Callable[[Any], Any] = lambda share: self._shared.run(  # noqa: E731
            names, {"images": share}
        )
        results = list(self._pool.map(run, shares))
        return [np.concatenate(one) for one in zip(*results, strict=True)]


def tensor_of(name: str, array: np.ndarray[Any, Any]) -> Any:
    """An output tensor that holds the array."""
    capsule = array.__dlpack__()
    tensor = pb_utils.Tensor.from_dlpack(name, capsule)
    # Triton marks what it has taken by a name of its own. Without the name that DLPack
    # asks for, NumPy prints a traceback for each answer.
    name_capsule(capsule, TAKEN)
    return tensor


def failed(message: str, code: int) -> Any:
    """The answer to a request that could not be carried out."""
    return pb_utils.InferenceResponse(
        output_tensors=[], error=pb_utils.TritonError(message, code)
    )


def read_weights(model: Path, settings: Mapping[str, str], *, gains: bool) -> bytes:
    """The ONNX file to run, as ``precision`` says.

    ``int8`` and ``fp32`` are what they are or an error; ``auto`` is int8 where there
    are such weights and the processor gains by them.

    Args:
        model: the model's folder, which holds configuration and weights.
        settings: the ``parameters`` of the configuration.
        gains: whether this processor computes faster in int8.

    Raises:
        TritonModelException: there are no such weights.
    """
    precision, native = settings["precision"], settings["weights_precision"]
    wants_int8 = precision == "int8" or (precision == "auto" and gains)
    if wants_int8 and native != "int8" and "int8_file" in settings:
        return checked_file(model / settings["int8_file"], settings["int8_sha256"])
    if precision == "int8" and native != "int8":
        raise pb_utils.TritonModelException("precision int8: there are no such weights")
    weights = checked_file(model / settings["weights_file"], settings["weights_sha256"])
    if native == "int8" and not wants_int8:
        return as_float(weights, required=precision == "fp32")
    return weights


def as_float(weights: bytes, *, required: bool) -> bytes:
    """The network of int8 weights computing in floats, where that can be had."""
    try:
        import onnx

        from lookalike.backbones import precision
    except ImportError as error:
        if required:
            raise pb_utils.TritonModelException(
                f"precision fp32 of int8 weights needs Lookalike itself: {error}"
            ) from error
        return weights
    network: bytes = precision.as_float(
        onnx.load_model_from_string(weights)
    ).SerializeToString()
    return network


def gains_by_int8(info: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this processor has instructions that make int8 faster than floats."""
    try:
        return bool(INT8_FLAGS & set(info.read_text(errors="replace").split()))
    except OSError:
        return False


def checked_file(path: Path, digest: str) -> bytes:
    """The bytes of a file, which must be the very one that was configured."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise pb_utils.TritonModelException(
            f"the weights {path} cannot be read: {error.strerror}"
        ) from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise pb_utils.TritonModelException(
            f"the weights {path} are not those of the configuration; write it anew "
            "with `lookalike backbone build`"
        )
    return data


def session(weights: bytes, threads: int) -> Any:
    """A loaded network that runs on this many threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Spinning threads take the cores away from decoding.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        weights, options, providers=["CPUExecutionProvider"]
    )
