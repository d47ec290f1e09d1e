"""What int8 gains on this processor, and what uint8 pictures cost.

A float backbone is quantised here, on generated pictures unless it has an int8 variant.
Three networks then take turns on one thread, round after round, on the same pictures:

======== ============================================================================
fp32     the float network, uint8 pictures in
int8     the quantised one, uint8 pictures in: what runs in production
float in the same int8 network, normalised float32 NCHW in, as if somebody else had
         prepared the pictures for free
======== ============================================================================

Printed are images a second, the ratio int8 / fp32, and the overhead of uint8, the time
of int8 over that of float in: medians over the rounds, with lowest and highest. Times
are of this thread alone (``time.thread_time``), so that other load disturbs them less.

    PYTHONPATH=tests python -m benchmarks.precision [NAME] [--batch 1,8] [--rounds 9]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper

from lookalike.backbones import Backbone, find
from lookalike.backbones.leaves import dead_leaves
from lookalike.backbones.precision import as_float
from lookalike.backbones.processor import int8_support
from lookalike.backbones.quantise import folding_of, quantise
from lookalike.backbones.wiring import Wiring
from lookalike.config import Settings

FASTER, OVERHEAD = 3.0, 0.03  # what int8 must gain, and uint8 may cost
SECONDS = 0.15  # of one network in one round, about

Feed = Mapping[str, npt.NDArray[Any]]


def main() -> int:
    """Print the tables; exit status 1 if a median misses its mark."""
    options = _options()
    backbone = find(options.name, [Settings().backbones])
    support = int8_support()
    fp32, int8 = _both(backbone)
    side = backbone.geometry.side
    print(f"{backbone.fingerprint}, side {side}; {support.reason}")
    print(f"normalisation folded: {folding_of(int8)}")
    good = True
    for batch in map(int, options.batch.split(",")):
        good &= _measure(fp32, int8, side, batch, options.rounds)
    return 0 if good else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", default="resnet18")
    parser.add_argument("--batch", default="1,8,16")
    parser.add_argument("--rounds", type=int, default=15)
    return parser.parse_args()


def _both(backbone: Backbone) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The float and the int8 network of a backbone, whichever is its reference."""
    reference = onnx.load(backbone.model_path)
    if backbone.precision == "int8":
        return as_float(reference), reference
    if variant := backbone.variants.get("int8"):
        return reference, onnx.load(variant.checked_path())
    return reference, quantise(reference, dead_leaves(64, backbone.geometry.side))


def _measure(
    fp32: onnx.ModelProto, int8: onnx.ModelProto, side: int, batch: int, rounds: int
) -> bool:
    (pixels,) = dead_leaves(batch, side, seed=2, batch=batch)
    prepared, floats = _taking_floats(int8, pixels)
    contenders: dict[str, tuple[Any, Feed]] = {
        "fp32": (_session(fp32), {"images": pixels}),
        "int8": (_session(int8), {"images": pixels}),
        "float in": (_session(prepared), floats),
    }
    seconds = _seconds(contenders, rounds)
    for name, times in seconds.items():
        print(f"  batch {batch:2} {name:9} {_spread([batch / t for t in times])} img/s")
    gain = _ratios(seconds["fp32"], seconds["int8"])
    cost = [ratio - 1 for ratio in _ratios(seconds["int8"], seconds["float in"])]
    print(f"  batch {batch:2} int8 / fp32 {_spread(gain, '.2f')}")
    print(f"  batch {batch:2} uint8 overhead {_spread(cost, '+.1%')}")
    return statistics.median(gain) >= FASTER and statistics.median(cost) <= OVERHEAD


def _ratios(above: list[float], below: list[float]) -> list[float]:
    return [a / b for a, b in zip(above, below, strict=True)]


def _spread(values: list[float], form: str = ".0f") -> str:
    middle, least, greatest = statistics.median(values), min(values), max(values)
    return f"{middle:{form}} ({least:{form}} to {greatest:{form}})"


def _taking_floats(
    int8: onnx.ModelProto, pixels: npt.NDArray[np.uint8]
) -> tuple[onnx.ModelProto, Feed]:
    """The network with a float input in place of the pixels, and what it takes."""
    model = onnx.ModelProto()
    model.CopyFrom(int8)
    graph = model.graph
    wiring = Wiring(graph)
    (through,) = (
        node
        for node in graph.node
        if node.op_type == "DequantizeLinear"
        and (maker := wiring.producer(node.input[0])) is not None
        and maker.op_type == "Transpose"
    )
    before = {node.output[0] for node in wiring.before([through])}
    scale, zero_point = (wiring.constant(name) for name in through.input[1:])
    assert scale is not None
    assert zero_point is not None
    frame = wiring.constant("frame/mask")
    if frame is not None:
        widths = [(0, 0), (0, 0), (0, 0), (0, 0)]
        known = wiring.constant("frame/widths")
        assert known is not None
        widths = list(zip(known[:4].tolist(), known[4:].tolist(), strict=True))
        pixels = np.pad(pixels, widths) | frame
    levels = pixels.transpose(0, 3, 1, 2).astype(np.float32)
    floats = np.ascontiguousarray((levels - np.float32(zero_point)) * scale)
    kept = [node for node in graph.node if node.output[0] not in before]
    quantising = helper.make_node(
        "QuantizeLinear", ["floats", *through.input[1:]], [through.input[0]]
    )
    del graph.node[:]
    graph.node.extend([quantising, through, *kept])
    shape = ["N", *floats.shape[1:]]
    graph.input[0].CopyFrom(
        helper.make_tensor_value_info("floats", TensorProto.FLOAT, shape)
    )
    return model, {"floats": floats}


def _session(model: onnx.ModelProto) -> Any:
    """As ``lookalike.backends.onnxruntime`` makes it for many images."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _seconds(
    contenders: Mapping[str, tuple[Any, Feed]], rounds: int
) -> dict[str, list[float]]:
    """Seconds of one run of each, in every round."""
    repeats = {}
    for name, (session, feed) in contenders.items():
        session.run(["embedding"], feed)
        started = time.thread_time()
        session.run(["embedding"], feed)
        once = time.thread_time() - started
        repeats[name] = max(1, round(SECONDS / once))
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, (session, feed) in contenders.items():
            started = time.thread_time()
            for _ in range(repeats[name]):
                session.run(["embedding"], feed)
            taken[name].append((time.thread_time() - started) / repeats[name])
    return taken


if __name__ == "__main__":
    sys.exit(main())
