"""How well embeddings search: measured on pictures that no training saw."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn

Pixels = npt.NDArray[np.uint8]  # [N, S, S, 3]
Vectors = npt.NDArray[np.float32]  # [N, D]

# Shorter side before the middle square is taken, in sides. Training zooms in, so the
# most of a picture is seen without (FixRes, arXiv 1906.06423).
RESIZE = 1.0


def square(picture: Image.Image, side: int) -> Pixels:
    """The middle square, uint8 ``[side, side, 3]``: as the product prepares it."""
    picture = picture.convert("RGB")
    scale = round(side * RESIZE) / min(picture.size)
    width, height = (round(length * scale) for length in picture.size)
    picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - side) // 2, (height - side) // 2
    return np.asarray(picture.crop((left, top, left + side, top + side)))


def photographs(folder: Path, side: int) -> tuple[Pixels, npt.NDArray[np.str_]]:
    """The pictures and categories of a folder with ``labels.csv``."""
    with (folder / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    pixels = np.stack([square(Image.open(folder / row["file"]), side) for row in rows])
    return pixels, np.array([row["category"] for row in rows])


def unit(vectors: Vectors) -> Vectors:
    """Each row at length 1."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def leave_one_out(vectors: Vectors, labels: npt.NDArray[np.str_]) -> dict[str, float]:
    """Precision@1, @10 and mean average precision by cosine.

    Each picture queries all others; a picture of the same label is relevant.
    """
    vectors = unit(vectors)
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :-1]
    relevant = labels[order] == labels[:, None]
    found = np.cumsum(relevant, axis=1)
    precision = found / np.arange(1, relevant.shape[1] + 1)
    average = (precision * relevant).sum(1) / np.maximum(1, relevant.sum(1))
    return {
        "precision_at_1": round(float(relevant[:, 0].mean()), 4),
        "precision_at_10": round(float(relevant[:, :10].mean()), 4),
        "map": round(float(average.mean()), 4),
    }


def nearest_neighbours(
    known: Vectors, labels: npt.NDArray[np.int64], asked: Vectors, k: int = 20
) -> npt.NDArray[np.int64]:
    """The label that most of the ``k`` nearest by cosine carry, weighted by it."""
    known, asked = unit(known), unit(asked)
    answers = []
    for start in range(0, len(asked), 1000):
        scores = asked[start : start + 1000] @ known.T
        top = np.argpartition(-scores, k, axis=1)[:, :k]
        votes = np.zeros((len(scores), int(labels.max()) + 1), np.float32)
        rows = np.arange(len(scores))[:, None]
        weight = np.exp(np.take_along_axis(scores, top, 1) / 0.07)
        np.add.at(votes, (rows, labels[top]), weight)
        answers.append(votes.argmax(1))
    return np.concatenate(answers)


def tiny_files(folder: Path, per_class: int, asked: int) -> tuple[list, list]:
    """Training files and validation files of Tiny ImageNet, each with its class."""
    names = sorted(path.name for path in (folder / "train").iterdir())
    number = {name: index for index, name in enumerate(names)}
    known = [
        (path, number[name])
        for name in names
        for path in sorted((folder / "train" / name / "images").iterdir())[:per_class]
    ]
    rows = (folder / "val" / "val_annotations.txt").read_text().splitlines()[:asked]
    cells = [row.split("\t") for row in rows]
    return known, [(folder / "val" / "images" / c[0], number[c[1]]) for c in cells]


def tiny_accuracy(
    embed: Callable[[Pixels], Vectors],
    folder: Path,
    side: int,
    per_class: int = 25,
    asked: int = 2000,
) -> float:
    """Share of Tiny ImageNet validation pictures classified by 20 neighbours."""

    def read(
        files: Iterable[tuple[Path, int]],
    ) -> tuple[Vectors, npt.NDArray[np.int64]]:
        files = list(files)
        vectors = []
        for start in range(0, len(files), 256):
            pictures = [Image.open(path) for path, _ in files[start : start + 256]]
            whole = (side, side)
            pixels = [
                np.asarray(p.convert("RGB").resize(whole, Image.Resampling.BILINEAR))
                for p in pictures
            ]
            vectors.append(embed(np.stack(pixels)))
        return np.concatenate(vectors), np.array([label for _, label in files])

    known, questions = tiny_files(folder, per_class, asked)
    vectors, labels = read(known)
    queries, truth = read(questions)
    return float((nearest_neighbours(vectors, labels, queries) == truth).mean())


def embedder(student: nn.Module) -> Callable[[Pixels], Vectors]:
    """The student as a function from pixels to unit vectors."""

    @torch.no_grad()
    def embed(pixels: Pixels) -> Vectors:
        student.eval()
        device = next(student.parameters()).device
        vectors = []
        for start in range(0, len(pixels), 128):
            part = torch.from_numpy(np.ascontiguousarray(pixels[start : start + 128]))
            part = part.to(device)
            planes = part.permute(0, 3, 1, 2).float()
            planes = planes.contiguous(memory_format=torch.channels_last)
            vectors.append(student(planes).mean((2, 3)).cpu().numpy())
        return unit(np.concatenate(vectors))

    return embed


def evaluate(
    student: nn.Module, side: int, tiny: Path | None, folder: Path | None
) -> dict[str, object]:
    """A short measurement during training."""
    embed = embedder(student)
    result: dict[str, object] = {"side": side}
    if folder is not None:
        pixels, labels = photographs(folder, side)
        result |= leave_one_out(embed(pixels), labels)
    if tiny is not None:
        result["tiny_20nn"] = tiny_accuracy(embed, tiny, side, 15, 1000)
    return result
