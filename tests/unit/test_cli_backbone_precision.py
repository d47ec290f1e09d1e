from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import numpy_helper
from PIL import Image

from lookalike.backbones import digest_of_file, read
from lookalike.backbones.leaves import dead_leaves
from lookalike.backbones.quantise import quantise
from lookalike.cli import main
from small_network import SIDE, network, stored


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the backbone ``small``."""
    monkeypatch.setenv("LOOKALIKE_BACKBONES_DIR", str(tmp_path / "backbones"))
    folder = tmp_path / "backbones" / "small"
    stored(folder, network())
    return folder


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["backbone", *map(str, arguments)])


def pictures(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number, square in enumerate(np.concatenate(list(dead_leaves(count, SIDE)))):
        Image.fromarray(square).save(folder / f"{number:03}.png")
    return folder


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 90 pictures."""
    return pictures(tmp_path_factory.mktemp("pictures") / "mine", 90)


def test_a_good_int8_network_is_registered(place: Path) -> None:
    before = read(place)

    result = call("quantise", "small")

    assert result.exit_code == 0, result.output
    after = read(place)
    assert after.fingerprint == before.fingerprint
    assert after.variants["int8"].checked_path() == place / "1" / "model.int8.onnx"
    assert after.variants["int8"].cosine >= 0.99
    assert "folded into the first layer: exact" in result.output
    assert "weak evidence" in result.output


def test_an_int8_network_is_calibrated_and_compared_on_own_pictures(
    place: Path, mine: Path
) -> None:
    result = call("quantise", "small", "--images", mine)

    assert result.exit_code == 0, result.output
    assert "60 of 90 pictures" in result.output


def test_too_few_pictures_are_refused(place: Path, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "mine", 60)

    result = call("quantise", "small", "--images", folder)

    assert result.exit_code == 2
    assert "holds 60 pictures" in result.output


def test_a_bad_int8_network_is_not_registered_and_leaves_no_file(
    place: Path, mine: Path
) -> None:
    # One number so great that 255 steps to it leave none for the others.
    model = network()
    (bias,) = (t for t in model.graph.initializer if t.name == "head_bias")
    values = numpy_helper.to_array(bias).copy()
    values[0] = 2000
    bias.CopyFrom(numpy_helper.from_array(values, "head_bias"))
    stored(place, model)

    result = call("quantise", "small", "--images", mine)

    assert result.exit_code == 1, result.output
    assert "Not registered: needed are a mean cosine of 0.99" in result.output
    assert "variants" not in json.loads((place / "backbone.json").read_text())
    assert [path.name for path in (place / "1").iterdir()] == ["model.onnx"]


def test_an_int8_reference_is_not_quantised(place: Path, mine: Path) -> None:
    made = quantise(network(), [np.concatenate(list(dead_leaves(32, SIDE)))])
    stored(place, made, precision="int8")

    result = call("quantise", "small", "--images", mine)

    assert result.exit_code == 2
    assert "int8 already" in result.output


def test_a_check_shows_how_all_that_runs_agrees(place: Path, mine: Path) -> None:
    assert call("quantise", "small", "--images", mine).exit_code == 0

    result = call("check", "small", "--images", mine)

    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.output.splitlines()]
    (row,) = (line for line in lines if line[:1] == ["int8"])
    assert float(row[1]) > 0.99
    assert row[-1] == "ok"


def test_an_int8_reference_is_checked_against_its_float_network(
    place: Path, mine: Path
) -> None:
    made = quantise(network(), list(dead_leaves(64, SIDE)))
    stored(place, made, precision="int8")

    result = call("check", "small", "--images", mine)

    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in result.output.splitlines()[2:4]] == [
        "int8",
        "fp32",
    ]


def test_a_variant_of_another_network_fails_the_check(place: Path, mine: Path) -> None:
    other = quantise(network(seed=5), list(dead_leaves(64, SIDE)))
    assert call("quantise", "small", "--images", mine).exit_code == 0
    path = place / "1" / "model.int8.onnx"
    onnx.save(other, path)
    manifest = json.loads((place / "backbone.json").read_text())
    manifest["variants"]["int8"]["sha256"] = digest_of_file(path)
    (place / "backbone.json").write_text(json.dumps(manifest))

    result = call("check", "small", "--images", mine)

    assert result.exit_code == 1
    assert "They do not agree" in result.output


def test_a_damaged_variant_is_named_and_made_again(place: Path, mine: Path) -> None:
    assert call("quantise", "small", "--images", mine).exit_code == 0
    (place / "1" / "model.int8.onnx").write_bytes(b"damaged")

    refused = call("check", "small", "--images", mine)

    assert refused.exit_code == 2
    assert "int8 variant" in refused.output
    assert call("quantise", "small", "--images", mine).exit_code == 0
    assert call("check", "small", "--images", mine).exit_code == 0


def test_with_nothing_to_compare_a_check_says_what_to_do(
    place: Path, mine: Path
) -> None:
    result = call("check", "small", "--images", mine)

    assert result.exit_code == 2
    assert "lookalike backbone quantise small" in result.output
