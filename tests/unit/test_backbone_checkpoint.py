from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import checkpoints
from checkpoints import dictionary, name, pickled, row, tensor, text, whole, zipped
from lookalike.backbones.checkpoint import read_checkpoint
from lookalike.errors import Misconfigured

VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)
WEIGHTS = {"layer.weight": VALUES, "layer.bias": VALUES[0].copy()}


def holding(path: Path, value: bytes) -> Path:
    """A checkpoint whose dictionary holds this under ``x``, and a storage ``0``."""
    content = pickled(dictionary({"x": value}))
    return zipped(path, content, {"0": VALUES.tobytes()})


def refused(path: Path, reason: str = "checkpoint|read|written") -> None:
    with pytest.raises(Misconfigured, match=reason) as caught:
        read_checkpoint(path)
    assert caught.value.code == "checkpoint_refused"
    assert str(path) in caught.value.detail


@pytest.mark.parametrize("save", [checkpoints.saved, checkpoints.saved_before_1_6])
def test_a_checkpoint_is_read_in_either_layout(
    tmp_path: Path, save: Callable[[Path, checkpoints.Weights], Path]
) -> None:
    found = read_checkpoint(save(tmp_path / "w.pth", WEIGHTS))

    assert list(found) == list(WEIGHTS)
    for key, value in WEIGHTS.items():
        assert np.array_equal(found[key], value)
        assert found[key].dtype == np.float32


@pytest.mark.parametrize("below", ["state_dict", "model_state_dict", "model"])
def test_weights_are_found_below_what_training_scripts_call_them(
    tmp_path: Path, below: str
) -> None:
    path = checkpoints.saved(tmp_path / "w.pth", WEIGHTS, below=below)

    assert list(read_checkpoint(path)) == list(WEIGHTS)


def test_the_prefix_of_parallel_training_is_dropped(tmp_path: Path) -> None:
    prefixed = {f"module.{key}": value for key, value in WEIGHTS.items()}

    found = read_checkpoint(checkpoints.saved(tmp_path / "w.pth", prefixed))

    assert list(found) == list(WEIGHTS)


def test_a_turned_tensor_is_read_turned(tmp_path: Path) -> None:
    path = holding(
        tmp_path / "w.pth", tensor("0", VALUES, shape=(4, 3), strides=(1, 4))
    )

    assert np.array_equal(read_checkpoint(path)["x"], VALUES.T)


class Hostile:
    """Runs a command when a plain unpickler reads it."""

    def __init__(self, command: str) -> None:
        self._command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self._command,)


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_program_in_a_pickle_is_refused_and_not_run(
    tmp_path: Path, is_zip: bool
) -> None:
    mark = tmp_path / "was-run"
    content = pickle.dumps({"x": Hostile(f"touch {mark}")}, protocol=2)
    path = tmp_path / "w.pth"
    if is_zip:
        zipped(path, content, {})
    else:
        path.write_bytes(content)

    refused(path, "asks for .*system, which weights do not need")

    assert not mark.exists()


@pytest.mark.parametrize(
    "asked",
    [
        ("builtins", "eval"),
        ("os", "system"),
        ("torch", "load"),
        ("torch", "nn.Module"),
        ("torch._utils", "_rebuild_tensor"),
        ("torch.nn.modules.linear", "Linear"),
        ("collections", "Counter"),
        ("numpy", "core.multiarray._reconstruct"),
    ],
)
def test_whatever_is_not_a_tensor_is_refused_by_name(
    tmp_path: Path, asked: tuple[str, str]
) -> None:
    path = holding(tmp_path / "w.pth", name(*asked) + b")R")

    refused(path, ".".join(asked))


def test_a_storage_type_cannot_be_called(tmp_path: Path) -> None:
    refused(holding(tmp_path / "w.pth", name("torch", "FloatStorage") + b")R"))


def test_what_is_allowed_cannot_be_given_other_attributes(tmp_path: Path) -> None:
    rebuild = name("torch._utils", "_rebuild_tensor_v2")
    state = row(b"}", b"}(" + text("__class__") + text("other") + b"u")

    refused(holding(tmp_path / "w.pth", rebuild + state + b"b"))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (tensor("0", VALUES, shape=(4, 4)), "outside its storage"),
        (tensor("0", VALUES, offset=1), "outside its storage"),
        (tensor("0", VALUES, strides=(100, 1)), "outside its storage"),
        (tensor("0", VALUES, offset=-1), "broken shape"),
        (tensor("0", VALUES, strides=(-4, 1)), "broken shape"),
        (tensor("0", VALUES, strides=(1,)), "broken shape"),
        (tensor("0", VALUES, shape=(2**40, 2**40), strides=(0, 0)), "outside"),
        (tensor("0", VALUES, count=2**40), "another length"),
        (tensor("0", VALUES, count=-1), "storage is broken"),
        (tensor("9", VALUES), "data/9"),
        (tensor("0", VALUES, kind="BFloat16Storage"), "torch.BFloat16Storage"),
        (whole(7), "no tensors"),
    ],
)
def test_a_tensor_that_cannot_be_is_refused(
    tmp_path: Path, value: bytes, reason: str
) -> None:
    refused(holding(tmp_path / "w.pth", value), reason)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no pickle",
        b"PK\x03\x04 cut",
        pickled(whole(1)),
        pickled(b"]"),
        b"\x80\x02",
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(content)

    refused(path)


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
@pytest.mark.parametrize("save", [checkpoints.saved, checkpoints.saved_before_1_6])
def test_a_checkpoint_cut_short_is_refused(
    tmp_path: Path,
    save: Callable[[Path, checkpoints.Weights], Path],
    keep: float,
) -> None:
    path = save(tmp_path / "w.pth", WEIGHTS)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])

    refused(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "none.pth", "cannot be read")
