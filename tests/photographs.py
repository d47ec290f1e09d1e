"""The 1,000 real photographs the platform is tried on."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image as Pillow
from PIL import ImageOps

BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data" / "clothing"


@dataclass(frozen=True)
class Photograph:
    """One photograph: its id, its category and its bytes."""

    id: str
    category: str
    path: Path

    def read(self) -> bytes:
        return self.path.read_bytes()


def folder() -> Path:
    """Where the photographs lie; LOOKALIKE_PHOTOGRAPHS overrides."""
    return Path(os.environ.get("LOOKALIKE_PHOTOGRAPHS", BESIDE))


def load() -> list[Photograph]:
    """All photographs in order of id; skips the test where there are none."""
    labels = folder() / "labels.csv"
    if not labels.exists():
        pytest.skip(
            f"the photographs are not there: set LOOKALIKE_PHOTOGRAPHS ({labels})"
        )
    with labels.open() as file:
        rows = [(row["file"], row["category"]) for row in csv.DictReader(file)]
    return [
        Photograph(id=name, category=category, path=folder() / name)
        for name, category in sorted(rows)
    ]


def altered(data: bytes) -> bytes:
    """A copy cropped to 80 % of each side, mirrored, encoded again at quality 70."""
    with Pillow.open(io.BytesIO(data)) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")
    width, height = image.size
    left, top = width // 10, height // 10
    cropped = image.crop((left, top, left + width * 8 // 10, top + height * 8 // 10))
    file = io.BytesIO()
    ImageOps.mirror(cropped).save(file, "JPEG", quality=70)
    return file.getvalue()
