"""Give a backbone's ONNX file its second output, ``feature_map``.

The feature map is what the network saw before pooling, FP16 ``[N, h, w, C]``: it
serves explanations and search by region. Used once, on the seed backbone; nothing
that runs needs it.

    python infra/backbone/add_feature_map.py seed.onnx model.onnx

The result is written only if the checker accepts it and ``embedding`` is the same,
bit for bit, for several batch sizes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper


def pooled(model: onnx.ModelProto) -> str:
    """The tensor that goes into the one global pooling."""
    pools = [n for n in model.graph.node if n.op_type == "GlobalAveragePool"]
    if len(pools) != 1:
        raise SystemExit(f"expected one GlobalAveragePool, found {len(pools)}")
    return str(pools[0].input[0])


def shape_of(model: onnx.ModelProto, tensor: str) -> tuple[int, int, int]:
    """Channels, height and width of a tensor ``[N, C, h, w]``."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    for value in inferred.graph.value_info:
        if value.name == tensor:
            _, *sides = (d.dim_value for d in value.type.tensor_type.shape.dim)
            channels, height, width = sides
            return channels, height, width
    raise SystemExit(f"the shape of {tensor} is not known")


def with_feature_map(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the model that also puts out what it pools."""
    source = pooled(model)
    channels, height, width = shape_of(model, source)
    grown = onnx.ModelProto()
    grown.CopyFrom(model)
    # Cast first: the transpose then moves half the bytes.
    grown.graph.node.append(
        helper.make_node("Cast", [source], ["feature_map_nchw"], to=TensorProto.FLOAT16)
    )
    grown.graph.node.append(
        helper.make_node(
            "Transpose", ["feature_map_nchw"], ["feature_map"], perm=[0, 2, 3, 1]
        )
    )
    grown.graph.output.append(
        helper.make_tensor_value_info(
            "feature_map", TensorProto.FLOAT16, ["N", height, width, channels]
        )
    )
    onnx.checker.check_model(grown, full_check=True)
    return grown


def compare(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    """Stop unless the embeddings agree bit for bit and the map pools to them."""
    old, new = (
        onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        for model in (before, after)
    )
    _, *sides = old.get_inputs()[0].shape
    generator = np.random.default_rng(0)
    for batch in (1, 3, 8):
        images = generator.integers(0, 256, (batch, *sides), np.uint8)
        (expected,) = old.run(["embedding"], {"images": images})
        embedding, features = new.run(["embedding", "feature_map"], {"images": images})
        if not np.array_equal(expected, embedding):
            raise SystemExit("the embedding changed")
        mean = features.astype(np.float32).mean(axis=(1, 2))
        cosine = (mean * embedding).sum(1) / np.linalg.norm(mean, axis=1)
        if cosine.min() < 0.9999:
            raise SystemExit("the feature map does not pool to the embedding")


def main() -> None:
    """Read one ONNX file, write the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    model = onnx.load(arguments.source)
    grown = with_feature_map(model)
    compare(model, grown)
    onnx.save(grown, arguments.target)


if __name__ == "__main__":
    main()
