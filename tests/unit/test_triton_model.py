from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx
import pytest

from lookalike.backbones import find

SHA256 = hashlib.sha256


class TritonModelException(Exception):
    """What Triton's own module raises when a model cannot be loaded."""


@pytest.fixture(scope="module")
def model() -> Iterator[Any]:
    """The file as Triton imports it, with a stand-in for the module Triton brings."""
    name = "lookalike.backbones.triton_model"
    stand_in = ModuleType("triton_python_backend_utils")
    stand_in.TritonModelException = TritonModelException  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, stand_in.__name__, stand_in)
        yield importlib.import_module(name)
        sys.modules.pop(name)


def settings(folder: Path, precision: str, native: str, *, variant: bool) -> Any:
    (folder / "reference").write_bytes(b"reference")
    found = {
        "precision": precision,
        "weights_precision": native,
        "weights_file": "reference",
        "weights_sha256": SHA256(b"reference").hexdigest(),
    }
    if variant:
        (folder / "variant").write_bytes(b"variant")
        digest = SHA256(b"variant").hexdigest()
        found |= {"int8_file": "variant", "int8_sha256": digest}
    return found


@pytest.mark.parametrize(
    ("precision", "native", "variant", "gains", "expected"),
    [
        ("auto", "fp32", True, True, b"variant"),
        ("auto", "fp32", True, False, b"reference"),
        ("auto", "fp32", False, True, b"reference"),
        ("auto", "int8", False, True, b"reference"),
        ("fp32", "fp32", True, True, b"reference"),
        ("fp32", "fp16", True, True, b"reference"),
        ("int8", "fp32", True, False, b"variant"),
        ("int8", "int8", False, False, b"reference"),
    ],
)
def test_the_precision_decides_which_weights_run(
    model: Any,
    tmp_path: Path,
    precision: str,
    native: str,
    variant: bool,
    gains: bool,
    expected: bytes,
) -> None:
    given = settings(tmp_path, precision, native, variant=variant)

    assert model.read_weights(tmp_path, given, gains=gains) == expected


def test_int8_that_is_not_there_is_refused(model: Any, tmp_path: Path) -> None:
    given = settings(tmp_path, "int8", "fp32", variant=False)

    with pytest.raises(TritonModelException, match="no such weights"):
        model.read_weights(tmp_path, given, gains=True)


def test_int8_weights_compute_in_floats_where_int8_gains_nothing(
    model: Any, tmp_path: Path
) -> None:
    weights = find("resnet18").model_path.read_bytes()
    (tmp_path / "model.onnx").write_bytes(weights)
    given = {
        "precision": "auto",
        "weights_precision": "int8",
        "weights_file": "model.onnx",
        "weights_sha256": SHA256(weights).hexdigest(),
    }

    made = onnx.load_model_from_string(model.read_weights(tmp_path, given, gains=False))

    assert made.graph.output[0].name == "embedding"
    assert not [n for n in made.graph.node if n.op_type == "QuantizeLinear"]


def test_other_weights_than_those_configured_are_refused(
    model: Any, tmp_path: Path
) -> None:
    given = settings(tmp_path, "auto", "fp32", variant=False)
    (tmp_path / "reference").write_bytes(b"exchanged")

    with pytest.raises(TritonModelException, match="not those of the configuration"):
        model.read_weights(tmp_path, given, gains=True)


def test_missing_weights_are_named(model: Any, tmp_path: Path) -> None:
    given = settings(tmp_path, "auto", "fp32", variant=False)
    (tmp_path / "reference").unlink()

    with pytest.raises(TritonModelException, match="reference cannot be read"):
        model.read_weights(tmp_path, given, gains=True)


def test_a_processor_is_known_by_its_flags(model: Any, tmp_path: Path) -> None:
    (tmp_path / "new").write_text("flags : fpu avx512_vnni\n")
    (tmp_path / "old").write_text("flags : fpu avx2\n")

    assert model.gains_by_int8(tmp_path / "new")
    assert not model.gains_by_int8(tmp_path / "old")
    assert not model.gains_by_int8(tmp_path / "none")
