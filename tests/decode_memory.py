"""How much memory decoding one picture takes, measured in a process of its own.

As a program: ``decode_memory.py FILE SIDE`` prints bytes and seconds as JSON.
"""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image

from lookalike.errors import BadImage
from lookalike.formats import detect
from lookalike.images import Geometry, Limits, decode_square

ALL = ("JPEG", "PNG", "WEBP", "GIF", "TIFF")
NO_LIMITS = Limits(
    formats=ALL, max_bytes=10**9, max_pixels=10**9, max_decode_bytes=10**12
)
SIDE = 112


def decode_memory(file: Path, side: int = SIDE) -> tuple[int, float]:
    """Bytes of resident memory above those before at the peak, and seconds."""
    done = subprocess.run(
        [sys.executable, "-P", __file__, str(file), str(side)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    peak, seconds = json.loads(done.stdout)
    return peak, seconds


def _resident(which: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(which):
            return int(line.split()[1]) * 1024
    raise ValueError(which)


def _measure(file: Path, side: int) -> tuple[int, float]:
    data, geometry = file.read_bytes(), Geometry(side=side, resize=side * 8 // 7)
    _decode_a_small_one(detect(data[:512]) or "PNG", geometry)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _resident("VmRSS")
    started = time.perf_counter()
    with contextlib.suppress(BadImage):  # what was taken until then counts as well
        decode_square(data, geometry, NO_LIMITS)
    return _resident("VmHWM") - before, time.perf_counter() - started


def _decode_a_small_one(name: str, geometry: Geometry) -> None:
    """Load and set up what the first picture of a format alone would be charged for."""
    small = io.BytesIO()
    Image.new("RGB", (50, 50)).save(small, name)
    decode_square(small.getvalue(), geometry, NO_LIMITS)


if __name__ == "__main__":
    Image.MAX_IMAGE_PIXELS = None
    print(json.dumps(_measure(Path(sys.argv[1]), int(sys.argv[2]))))
