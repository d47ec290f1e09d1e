"""Make a trained network the bundled backbone: 8 bits, manifest and configurations.

``python bundle.py float.onnx --views views --repository ../../model_repository``

The 8-bit network becomes the reference, since the float one is too large to commit.
The manifest's ``about`` is written by hand afterwards.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from evaluate import RESIZE, unit
from source import sample

from lookalike.backbones import digest_of_file, read, write_manifest
from lookalike.backbones.parity import compare
from lookalike.backbones.quantise import quantise
from lookalike.backbones.triton_repository import build


def vectors(model: onnx.ModelProto, pixels: np.ndarray) -> np.ndarray:
    """What a network makes of the pixels."""
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    parts = [
        session.run(["embedding"], {"images": pixels[start : start + 16]})[0]
        for start in range(0, len(pixels), 16)
    ]
    return unit(np.concatenate(parts))


def main() -> None:
    """Quantise, compare, and write the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="the float network")
    parser.add_argument("--views", type=Path, required=True)
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--count", type=int, default=512, help="views to calibrate on")
    options = parser.parse_args()
    network = onnx.load(options.model)
    side = network.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    seen = sample(options.views, side, 2 * options.count)
    rng = np.random.default_rng(1)
    order = rng.permutation(len(seen))
    own, others = seen[order[: options.count]], seen[order[options.count :]]
    batches = (own[start : start + 16] for start in range(0, len(own), 16))
    small = quantise(network, batches)
    print(compare(vectors(network, others), vectors(small, others)))

    folder = options.repository / "resnet18"
    weights = folder / "1" / "model.onnx"
    onnx.save(small, weights)
    manifest = json.loads((folder / "backbone.json").read_text())
    places = [d.dim_value for d in small.graph.output[1].type.tensor_type.shape.dim]
    manifest |= {
        "side": side,
        "resize": round(side * RESIZE),
        "outputs": {
            "embedding": "FP32 [N, 512], unit length",
            "feature_map": f"FP16 [N, {places[1]}, {places[2]}, {places[3]}], "
            "before pooling",
        },
        "weights": {
            "file": "1/model.onnx",
            "sha256": digest_of_file(weights),
            "precision": "int8",
        },
    }
    write_manifest(folder, manifest)
    build(read(folder), options.repository)


if __name__ == "__main__":
    main()
