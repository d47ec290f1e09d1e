"""The table of the model card: every method on the same pictures.

``python table.py --photographs DIR --tiny DIR --backbone model.onnx ...`` prints JSON.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from evaluate import (
    Pixels,
    Vectors,
    leave_one_out,
    photographs,
    tiny_accuracy,
    unit,
)
from network import Student
from PIL import Image

Embed = Callable[[Pixels], Vectors]


def network(path: Path) -> tuple[Embed, int]:
    """A backbone's model.onnx on one core, and its side."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"]
    )
    side = session.get_inputs()[0].shape[1]

    def embed(pixels: Pixels) -> Vectors:
        return np.concatenate(
            [
                session.run(["embedding"], {"images": pixels[start : start + 16]})[0]
                for start in range(0, len(pixels), 16)
            ]
        )

    return embed, int(side)


def teacher(path: Path) -> Embed:
    """The teacher's 1,280 features, as its classifier takes them."""
    from teacher import Teacher, top

    net, layers = Teacher(path), top(path)

    def embed(pixels: Pixels) -> Vectors:
        vectors = []
        for picture in pixels:
            linear = (net.map(picture).astype(np.float32) - net.zero) * net.scale
            features = np.clip(linear @ layers["weight"].T + layers["bias"], 0, 6)
            vectors.append(features.mean((0, 1)))
        return np.stack(vectors)

    return embed


def untrained(side: int) -> Embed:
    """The pooled last block of a ResNet-18 with random weights (seed 0)."""
    torch.manual_seed(0)
    student = Student()
    student.head = torch.nn.Identity()
    student.train()  # statistics of the batch: nothing is trained

    @torch.no_grad()
    def embed(pixels: Pixels) -> Vectors:
        vectors = []
        for start in range(0, len(pixels), 200):
            part = torch.from_numpy(pixels[start : start + 200]).permute(0, 3, 1, 2)
            vectors.append(student(part.float()).mean((2, 3)).numpy())
        return np.concatenate(vectors)

    return embed


def histogram(pixels: Pixels) -> Vectors:
    """Colours in 4 x 4 x 4 bins, float ``[N, 64]``; square roots (Hellinger)."""
    bins = (pixels // 64).astype(np.int64) @ np.array([16, 4, 1])
    counts = [np.bincount(each.ravel(), minlength=64) for each in bins]
    return np.sqrt(np.stack(counts).astype(np.float32))


def grey(pixels: Pixels) -> Vectors:
    """64 x 64 grey pixels less their mean: cosine is then Pearson's correlation."""
    rows = [
        np.asarray(
            Image.fromarray(picture)
            .convert("L")
            .resize((64, 64), Image.Resampling.BOX),
            np.float32,
        ).ravel()
        for picture in pixels
    ]
    stacked = np.stack(rows)
    return stacked - stacked.mean(1, keepdims=True) + 1e-6


def altered_found(embed: Embed, folder: Path, side: int, count: int = 100) -> int:
    """Of ``count`` pictures, how many find themselves in the first three.

    The query is the picture cropped to 80 % of each side, mirrored, and encoded as
    JPEG of quality 70.
    """
    from evaluate import square

    names = sorted(folder.glob("*/*.jpg"))
    known = unit(embed(np.stack([square(Image.open(name), side) for name in names])))
    chosen = np.random.default_rng(0).choice(len(names), count, replace=False)
    queries = []
    for place in chosen:
        picture = Image.open(names[place]).convert("RGB")
        width, height = picture.size
        box = (width // 10, height // 10, width - width // 10, height - height // 10)
        copy = picture.crop(box).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        file = io.BytesIO()
        copy.save(file, "JPEG", quality=70)
        queries.append(square(Image.open(file), side))
    scores = unit(embed(np.stack(queries))) @ known.T
    top = np.argsort(-scores, axis=1)[:, :3]
    return int((top == chosen[:, None]).any(1).sum())


def row(embed: Embed, side: int, options: argparse.Namespace) -> dict[str, object]:
    """All figures of one method."""
    pixels, labels = photographs(options.photographs, side)
    embed(pixels[:16])
    times = []
    for _ in range(3):
        start = time.process_time()
        vectors = embed(pixels[:256])
        times.append((time.process_time() - start) / 256 * 1000)
    vectors = embed(pixels)
    result: dict[str, object] = {
        "side": side,
        "dimension": vectors.shape[1],
        "ms_an_image": round(float(np.median(times)), 2),
        **leave_one_out(vectors, labels),
        "altered_in_first_3": altered_found(embed, options.photographs, side),
    }
    if options.tiny:
        result["tiny_20nn"] = round(
            tiny_accuracy(embed, options.tiny, side, options.per_class, options.asked),
            4,
        )
    return result


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--tiny", type=Path)
    parser.add_argument("--backbone", type=Path, nargs="*", default=[])
    parser.add_argument("--teacher", type=Path)
    parser.add_argument(
        "--plain", action="store_true", help="pixels, colours, untrained"
    )
    parser.add_argument("--per-class", type=int, default=100, help="of Tiny ImageNet")
    parser.add_argument("--asked", type=int, default=10_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for path in options.backbone:
        embed, side = network(path)
        show(str(path), row(embed, side, options))
    if options.teacher:
        show("teacher", row(teacher(options.teacher), 224, options))
    if options.plain:
        show("untrained ResNet-18", row(untrained(112), 112, options))
        show("colour histogram, 64 bins", row(histogram, 112, options))
        show("grey 64 x 64 pixels, Pearson", row(grey, 112, options))


def show(name: str, figures: dict[str, object]) -> None:
    """One line of JSON."""
    print(json.dumps({"method": name, **figures}), flush=True)


if __name__ == "__main__":
    main()
