"""Checkpoints as torch.save writes them, made without PyTorch, with random weights."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Weights = dict[str, Array]

MAGIC = 0x1950A86A20F9469CFC6C


# --- files ---------------------------------------------------------------------------


def text(value: str) -> bytes:
    """A string as an opcode of a pickle."""
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def whole(value: int) -> bytes:
    """A whole number as an opcode of a pickle."""
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    size = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def name(module: str, attribute: str) -> bytes:
    """A thing of a module, asked for by name."""
    return f"c{module}\n{attribute}\n".encode()


def row(*parts: bytes) -> bytes:
    """A tuple."""
    return b"(" + b"".join(parts) + b"t"


EMPTY = name("collections", "OrderedDict") + b")R"


def tensor(
    key: str,
    value: Array,
    *,
    offset: int = 0,
    count: int | None = None,
    shape: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
    kind: str = "FloatStorage",
) -> bytes:
    """The call that makes a tensor of the storage ``key``."""
    if strides is None:
        strides = tuple(stride // value.itemsize for stride in value.strides)
    storage = row(
        text("storage"),
        name("torch", kind),
        text(key),
        text("cpu"),
        whole(value.size if count is None else count),
    )
    arguments = row(
        storage + b"Q",
        whole(offset),
        row(*map(whole, value.shape if shape is None else shape)),
        row(*map(whole, strides)),
        b"\x89",
        EMPTY,
    )
    return name("torch._utils", "_rebuild_tensor_v2") + arguments + b"R"


def dictionary(entries: Mapping[str, bytes]) -> bytes:
    """An ordered dictionary of what other functions here return."""
    pairs = b"".join(text(key) + value for key, value in entries.items())
    return EMPTY + b"(" + pairs + b"u"


def pickled(value: bytes) -> bytes:
    """A whole pickle."""
    return b"\x80\x02" + value + b"."


def zipped(path: Path, content: bytes, storages: Mapping[str, bytes]) -> Path:
    """The file of today: a zip of a pickle and the storages."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/byteorder", "little")
        for key, memory in storages.items():
            archive.writestr(f"archive/data/{key}", memory)
    return path


def saved(path: Path, weights: Weights, *, below: str | None = None) -> Path:
    """A checkpoint of these weights, in the layout of today."""
    keys = {name: str(number) for number, name in enumerate(weights)}
    entries = dictionary({n: tensor(keys[n], weights[n]) for n in weights})
    if below is not None:
        entries = dictionary({"epoch": whole(3), below: entries})
    storages = {keys[name]: value.tobytes() for name, value in weights.items()}
    return zipped(path, pickled(entries), storages)


def saved_before_1_6(path: Path, weights: Weights) -> Path:
    """A checkpoint of these weights, in the layout before PyTorch 1.6."""
    keys = {name: str(number) for number, name in enumerate(weights)}
    entries = dictionary({n: tensor(keys[n], weights[n]) for n in weights})
    system = b"}(" + text("little_endian") + b"\x88" + b"u"
    listed = b"](" + b"".join(map(text, keys.values())) + b"e"
    content = b"".join(
        pickled(part) for part in (whole(MAGIC), whole(1001), system, entries, listed)
    )
    for value in weights.values():
        content += struct.pack("<q", value.size) + value.tobytes()
    path.write_bytes(content)
    return path


# --- weights -------------------------------------------------------------------------


class _Random:
    """Weights of narrow networks that neither fade nor grow from layer to layer."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)
        self.weights: Weights = {}

    def conv(self, name: str, out: int, into: int, *kernel: int) -> None:
        deviation = (2 / (into * np.prod(kernel))) ** 0.5
        self.put(
            f"{name}.weight", self._generator.normal(0, deviation, (out, into, *kernel))
        )

    def bias(self, name: str, out: int) -> None:
        self.put(f"{name}.bias", self._generator.normal(0, 0.1, out))

    def norm(self, name: str, channels: int) -> None:
        parts = {
            "weight": (0.5, 1.2),
            "bias": (-0.3, 0.3),
            "running_mean": (-0.3, 0.3),
            "running_var": (0.5, 2.0),
        }
        for part, (low, high) in parts.items():
            self.put(f"{name}.{part}", self._generator.uniform(low, high, channels))

    def put(self, name: str, value: npt.NDArray[np.float64]) -> None:
        self.weights[name] = value.astype(np.float32)


def resnet(
    blocks: tuple[int, ...],
    *,
    bottleneck: bool,
    groups: int = 1,
    widening: int = 1,
    base: int = 8,
    seed: int = 0,
) -> Weights:
    """Random weights of a ResNet that is ``64 / base`` times narrower than usual."""
    random = _Random(seed)
    random.conv("conv1", base, 3, 7, 7)
    random.norm("bn1", base)
    into = base
    for stage, count in enumerate(blocks, start=1):
        planes = base * 2 ** (stage - 1)
        out = planes * (4 if bottleneck else 1)
        inner = planes * widening
        kernels = (1, 3, 1) if bottleneck else (3, 3)
        for number in range(count):
            block = f"layer{stage}.{number}"
            widths = (into, inner, inner, out) if bottleneck else (into, out, out)
            for layer, kernel in enumerate(kernels, start=1):
                before, after = widths[layer - 1], widths[layer]
                shared = groups if bottleneck and layer == 2 else 1
                random.conv(
                    f"{block}.conv{layer}", after, before // shared, kernel, kernel
                )
                random.norm(f"{block}.bn{layer}", after)
            if number == 0 and (stage > 1 or into != out):
                random.conv(f"{block}.downsample.0", out, into, 1, 1)
                random.norm(f"{block}.downsample.1", out)
            into = out
    random.put("fc.weight", np.zeros((10, into)))
    random.put("fc.bias", np.zeros(10))
    return random.weights


def vgg16(seed: int = 0) -> Weights:
    """Random weights of a VGG-16, eight times narrower than usual."""
    random = _Random(seed)
    layers = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    widths = (8, 8, 16, 16, 32, 32, 32, 64, 64, 64, 64, 64, 64)
    into = 3
    for layer, out in zip(layers, widths, strict=True):
        random.conv(f"features.{layer}", out, into, 3, 3)
        random.bias(f"features.{layer}", out)
        into = out
    random.put("classifier.0.weight", np.zeros((10, into)))
    return random.weights


def inception_v3(seed: int = 0) -> Weights:
    """Random weights of an Inception-v3, eight times narrower than usual."""
    random = _Random(seed)
    for name, out, into, *kernel in _inception_layers():
        random.conv(f"{name}.conv", out // 8, into // 8 if into > 3 else 3, *kernel)
        random.norm(f"{name}.bn", out // 8)
    random.put("AuxLogits.fc.weight", np.zeros((10, 8)))
    return random.weights


Layer = tuple[str, int, int, int, int]  # name, channels out and in, kernel


def _inception_layers() -> Iterator[Layer]:
    yield "Conv2d_1a_3x3", 32, 3, 3, 3
    yield "Conv2d_2a_3x3", 32, 32, 3, 3
    yield "Conv2d_2b_3x3", 64, 32, 3, 3
    yield "Conv2d_3b_1x1", 80, 64, 1, 1
    yield "Conv2d_4a_3x3", 192, 80, 3, 3
    for block, into, pooled in (("5b", 192, 32), ("5c", 256, 64), ("5d", 288, 64)):
        yield from _block_a(f"Mixed_{block}", into, pooled)
    yield "Mixed_6a.branch3x3", 384, 288, 3, 3
    yield "Mixed_6a.branch3x3dbl_1", 64, 288, 1, 1
    yield "Mixed_6a.branch3x3dbl_2", 96, 64, 3, 3
    yield "Mixed_6a.branch3x3dbl_3", 96, 96, 3, 3
    for block, inner in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
        yield from _block_c(f"Mixed_{block}", inner)
    yield "Mixed_7a.branch3x3_1", 192, 768, 1, 1
    yield "Mixed_7a.branch3x3_2", 320, 192, 3, 3
    yield "Mixed_7a.branch7x7x3_1", 192, 768, 1, 1
    yield "Mixed_7a.branch7x7x3_2", 192, 192, 1, 7
    yield "Mixed_7a.branch7x7x3_3", 192, 192, 7, 1
    yield "Mixed_7a.branch7x7x3_4", 192, 192, 3, 3
    for block, into in (("7b", 1280), ("7c", 2048)):
        yield from _block_e(f"Mixed_{block}", into)


def _block_a(name: str, into: int, pooled: int) -> Iterator[Layer]:
    yield f"{name}.branch1x1", 64, into, 1, 1
    yield f"{name}.branch5x5_1", 48, into, 1, 1
    yield f"{name}.branch5x5_2", 64, 48, 5, 5
    yield f"{name}.branch3x3dbl_1", 64, into, 1, 1
    yield f"{name}.branch3x3dbl_2", 96, 64, 3, 3
    yield f"{name}.branch3x3dbl_3", 96, 96, 3, 3
    yield f"{name}.branch_pool", pooled, into, 1, 1


def _block_c(name: str, inner: int) -> Iterator[Layer]:
    yield f"{name}.branch1x1", 192, 768, 1, 1
    yield f"{name}.branch7x7_1", inner, 768, 1, 1
    yield f"{name}.branch7x7_2", inner, inner, 1, 7
    yield f"{name}.branch7x7_3", 192, inner, 7, 1
    yield f"{name}.branch7x7dbl_1", inner, 768, 1, 1
    yield f"{name}.branch7x7dbl_2", inner, inner, 7, 1
    yield f"{name}.branch7x7dbl_3", inner, inner, 1, 7
    yield f"{name}.branch7x7dbl_4", inner, inner, 7, 1
    yield f"{name}.branch7x7dbl_5", 192, inner, 1, 7
    yield f"{name}.branch_pool", 192, 768, 1, 1


def _block_e(name: str, into: int) -> Iterator[Layer]:
    yield f"{name}.branch1x1", 320, into, 1, 1
    yield f"{name}.branch3x3_1", 384, into, 1, 1
    yield f"{name}.branch3x3_2a", 384, 384, 1, 3
    yield f"{name}.branch3x3_2b", 384, 384, 3, 1
    yield f"{name}.branch3x3dbl_1", 448, into, 1, 1
    yield f"{name}.branch3x3dbl_2", 384, 448, 3, 3
    yield f"{name}.branch3x3dbl_3a", 384, 384, 1, 3
    yield f"{name}.branch3x3dbl_3b", 384, 384, 3, 1
    yield f"{name}.branch_pool", 192, into, 1, 1


# Random weights of every architecture, narrow, so that all of them take no time.
NARROW: Mapping[str, Callable[[], Weights]] = {
    "resnet18": lambda: resnet((2, 2, 2, 2), bottleneck=False),
    "resnet34": lambda: resnet((3, 4, 6, 3), bottleneck=False),
    "resnet50": lambda: resnet((3, 4, 6, 3), bottleneck=True),
    "resnet101": lambda: resnet((3, 4, 23, 3), bottleneck=True),
    "resnet152": lambda: resnet((3, 8, 36, 3), bottleneck=True),
    "wide_resnet50_2": lambda: resnet((3, 4, 6, 3), bottleneck=True, widening=2),
    "wide_resnet101_2": lambda: resnet((3, 4, 23, 3), bottleneck=True, widening=2),
    "resnext50_32x4d": lambda: resnet(
        (3, 4, 6, 3), bottleneck=True, groups=32, widening=4
    ),
    "resnext101_32x8d": lambda: resnet(
        (3, 4, 23, 3), bottleneck=True, groups=32, widening=8
    ),
    "vgg16": vgg16,
    "inception_v3": inception_v3,
}
