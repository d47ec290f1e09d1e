"""The teacher: a public 8-bit MobileNetV2, read for its linear bottlenecks."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter

SIDE = 224
MAP = (7, 7, 320)  # the last bottleneck, before the 1 x 1 convolution to 1,280

# Tensors of tf2_mobilenet_v2_1.0_224_ptq.tflite, as its interpreter numbers them.
ANSWER = 176
# The last map of each resolution: [28, 28, 32], [14, 14, 96], [7, 7, 160], and MAP.
LEVELS = (130, 156, 167, 170)
TOP_WEIGHT, TOP_BIAS, CLASSES_WEIGHT, CLASSES_BIAS = 105, 106, 107, 108


class Teacher:
    """Says what it sees in squares of 224 pixels.

    ``scales`` and ``zeros`` belong to the levels: a real value is
    ``(map - zero) * scale``. ``scale`` and ``zero`` are the last level's.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        self._net = Interpreter(model_content=_opened(path), num_threads=threads)
        self._net.allocate_tensors()
        self._entry = self._net.get_input_details()[0]["index"]
        quantised = [
            answer["quantization"] for answer in self._net.get_output_details()
        ]
        self.scales, self.zeros = zip(*quantised, strict=True)
        self.scale, self.zero = quantised[-1]

    def maps(self, pixels: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.int8]]:
        """The maps of one view ``[224, 224, 3]``, one of each level."""
        self._net.set_tensor(self._entry, pixels[None])
        self._net.invoke()
        return [self._net.get_tensor(level)[0] for level in LEVELS]

    def map(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int8]:
        """The last map ``[7, 7, 320]`` of one view ``[224, 224, 3]``."""
        return self.maps(pixels)[-1]


def top(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    """The layers after the map: to 1,280 features, and to the 1,001 classes."""
    net = Interpreter(str(path))
    net.allocate_tensors()
    details = {tensor["index"]: tensor for tensor in net.get_tensor_details()}

    def real(index: int) -> npt.NDArray[np.float32]:
        values = net.get_tensor(index).astype(np.float32)
        scales = details[index]["quantization_parameters"]["scales"]
        return values * scales.reshape((-1,) + (1,) * (values.ndim - 1))

    return {
        "weight": real(TOP_WEIGHT).reshape(1280, 320),
        "bias": real(TOP_BIAS),
        "classes": real(CLASSES_WEIGHT).reshape(1001, 1280),
        "classes_bias": real(CLASSES_BIAS),
    }


def _opened(path: Path) -> bytes:
    """The network with its levels as answers.

    In the file, a graph's outputs are a vector: a count, then numbers of tensors. A
    field of the graph holds the distance to it. A new vector is added at the end.
    """
    network = bytearray(path.read_bytes())
    places = _places(network, struct.pack("<ii", 1, ANSWER))
    if len(places) != 2:  # the last operation's outputs, then the graph's
        raise SystemExit(f"{path} is not the network this was written for")
    (field,) = (
        place
        for place in range(0, places[1], 4)
        if place + struct.unpack_from("<I", network, place)[0] == places[1]
    )
    network += bytes(-len(network) % 4)
    struct.pack_into("<I", network, field, len(network) - field)
    network += struct.pack(f"<{1 + len(LEVELS)}i", len(LEVELS), *LEVELS)
    return bytes(network)


def _places(network: bytearray, wanted: bytes) -> list[int]:
    return [
        place
        for place in range(0, len(network) - 8, 4)
        if network[place : place + len(wanted)] == wanted
    ]
