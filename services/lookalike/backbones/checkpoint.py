"""Checkpoints of PyTorch read without PyTorch, and without trusting them.

A ``.pth`` file is a pickle, and a pickle is a program. The one that ``torch.save``
writes for weights needs a dictionary, the kinds of numbers, and one function that
makes a tensor of a stored piece of memory; our unpickler knows these and refuses
everything else. Two layouts are read: the zip file (PyTorch 1.6 and newer) and the
row of pickles of before, in which some published weights still come.
"""

from __future__ import annotations

import collections
import io
import math
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from lookalike.errors import Misconfigured

Weights = Mapping[str, npt.NDArray[Any]]

CODE = "checkpoint_refused"
MAX_PICKLE_BYTES = 64 * 2**20  # the description of 100,000 tensors takes 20 MB

# The first number of the older layout, and the only version of it.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001

_KINDS = {  # PyTorch's storage types; all files are little-endian
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "|b1",
}
# What training scripts put the weights into, beside the optimiser and the epoch.
_WRAPPERS = ("state_dict", "model_state_dict", "model")


def read_checkpoint(path: Path) -> Weights:
    """The tensors of a checkpoint by name, each an array of its own.

    A dictionary below ``state_dict``, ``model_state_dict`` or ``model`` is taken in
    place of the whole, and ``module.`` before every name is dropped.

    Raises:
        Misconfigured: the file cannot be read, is no checkpoint, or asks for anything
            but tensors; the code is ``checkpoint_refused``.
    """
    try:
        with path.open("rb") as file:
            read = _read_zip if zipfile.is_zipfile(file) else _read_legacy
            file.seek(0)
            found, storages = read(file)
        return _tensors(found, storages)
    except Misconfigured as error:
        raise Misconfigured(f"{path}: {error.detail}", code=CODE) from error
    except OSError as error:
        raise Misconfigured(
            f"{path} cannot be read: {error.strerror or error}", code=CODE
        ) from error
    except Exception as error:  # pickles and zip files break in many ways
        raise Misconfigured(
            f"{path} is no checkpoint that can be read ({type(error).__name__}: "
            f"{error}). Get the file again, or save it with torch.save(model."
            "state_dict(), ...).",
            code=CODE,
        ) from error


# --- the pickle ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Kind:
    """A storage type; not callable, so a pickle can do nothing but name it."""

    dtype: str


@dataclass(frozen=True, slots=True)
class _Storage:
    """A piece of memory that tensors are cut from, by its key."""

    key: str
    dtype: str
    count: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A tensor as the pickle describes it; offset and strides count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Rebuild:
    """Stands in for ``torch._utils._rebuild_tensor_v2``.

    An object with no attributes, because a pickle can set those of a function.
    """

    __slots__ = ()

    def __call__(
        self,
        storage: _Storage,
        offset: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        *_: object,  # whether it needs a gradient, hooks: nothing to us
    ) -> _Tensor:
        return _Tensor(storage, offset, tuple(shape), tuple(strides))


class _RebuildParameter:
    """Stands in for ``torch._utils._rebuild_parameter``: gives the tensor inside."""

    __slots__ = ()

    def __call__(self, data: _Tensor, *_: object) -> _Tensor:
        return data


_KNOWN: dict[tuple[str, str], object] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _Rebuild(),
    ("torch._utils", "_rebuild_parameter"): _RebuildParameter(),
    **{("torch", name): _Kind(dtype) for name, dtype in _KINDS.items()},
}


class _Unpickler(pickle.Unpickler):
    """Reads what tensors need and refuses anything else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise Misconfigured(
                f"it asks for {module}.{name}, which weights do not need. A checkpoint "
                "can run any program, so nothing but tensors is read; save the weights "
                "alone: torch.save(model.state_dict(), ...)."
            )
        return _KNOWN[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        word, kind, key, _place, count, *view = pid
        if word != "storage" or not isinstance(kind, _Kind) or any(view):
            raise Misconfigured("it holds something else than plain tensors")
        if not isinstance(key, str) or not isinstance(count, int) or count < 0:
            raise Misconfigured("its description of a storage is broken")
        return _Storage(key, kind.dtype, count)


Found = tuple[object, Mapping[str, bytes]]


def _read_zip(file: BinaryIO) -> Found:
    """The layout since PyTorch 1.6: ``NAME/data.pkl`` and ``NAME/data/KEY``."""
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        (pickled,) = [name for name in entries if name.endswith("/data.pkl")]
        folder = pickled.removesuffix("data.pkl")
        if entries[pickled].file_size > MAX_PICKLE_BYTES:
            raise Misconfigured("its description of the tensors is too long")
        order = folder + "byteorder"
        if order in entries and archive.read(order) != b"little":
            raise Misconfigured("it was written on a big-endian machine")
        found = _Unpickler(io.BytesIO(archive.read(pickled))).load()
        storages = {}
        for storage in {tensor.storage for _, tensor in _named(found)}:
            entry = entries[f"{folder}data/{storage.key}"]
            if entry.file_size != storage.count * np.dtype(storage.dtype).itemsize:
                raise Misconfigured(f"its storage {storage.key} has another length")
            storages[storage.key] = archive.read(entry)
    return found, storages


def _read_legacy(file: BinaryIO) -> Found:
    """The layout before: five pickles, then every storage after its length."""
    if _Unpickler(file).load() != _LEGACY_MAGIC:
        raise Misconfigured("it is not a file that torch.save has written")
    if _Unpickler(file).load() != _LEGACY_PROTOCOL:
        raise Misconfigured("it is of a version that is not known")
    system = _Unpickler(file).load()
    if not isinstance(system, dict) or not system.get("little_endian", False):
        raise Misconfigured("it was written on a big-endian machine")
    found = _Unpickler(file).load()
    keys = _Unpickler(file).load()
    known = {tensor.storage.key: tensor.storage for _, tensor in _named(found)}
    storages = {}
    for key in keys:
        if key not in known:
            # Its kind of numbers, and so its length, is only in what we do not read.
            raise Misconfigured(f"its storage {key} belongs to no tensor of weights")
        storage = known[key]
        if int.from_bytes(file.read(8), "little") != storage.count:
            raise Misconfigured(f"its storage {key} has another length")
        storages[key] = file.read(storage.count * np.dtype(storage.dtype).itemsize)
    return found, storages


# --- tensors -------------------------------------------------------------------------


def _named(found: object) -> Iterator[tuple[str, _Tensor]]:
    """The tensors of what was unpickled, with their names."""
    if not isinstance(found, dict):
        raise Misconfigured("it holds no dictionary of tensors")
    inner = [found[key] for key in _WRAPPERS if isinstance(found.get(key), dict)]
    named = [
        (name, value)
        for name, value in (inner[0] if inner else found).items()
        if isinstance(name, str) and isinstance(value, _Tensor)
    ]
    if not named:
        raise Misconfigured("it holds no tensors")
    prefix = "module."  # of DataParallel
    cut = len(prefix) if all(name.startswith(prefix) for name, _ in named) else 0
    yield from ((name[cut:], tensor) for name, tensor in named)


def _tensors(found: object, storages: Mapping[str, bytes]) -> Weights:
    return {
        name: _array(name, tensor, storages[tensor.storage.key])
        for name, tensor in _named(found)
    }


def _array(name: str, tensor: _Tensor, memory: bytes) -> npt.NDArray[Any]:
    """One tensor as a contiguous array, after a check that it lies in its storage."""
    flat = np.frombuffer(memory, tensor.storage.dtype)
    numbers = (tensor.offset, *tensor.shape, *tensor.strides)
    if len(tensor.shape) != len(tensor.strides) or not all(
        isinstance(number, int) and number >= 0 for number in numbers
    ):
        raise Misconfigured(f"its tensor {name} has a broken shape")
    last = tensor.offset + sum(
        (side - 1) * stride
        for side, stride in zip(tensor.shape, tensor.strides, strict=True)
    )
    if math.prod(tensor.shape) > flat.size or last >= max(flat.size, 1):
        raise Misconfigured(f"its tensor {name} lies outside its storage")
    step = flat.itemsize
    view = np.lib.stride_tricks.as_strided(
        flat[tensor.offset :],
        tensor.shape,
        [stride * step for stride in tensor.strides],
        writeable=False,
    )
    return np.array(view)
