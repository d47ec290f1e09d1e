from __future__ import annotations

import hashlib
import json
import re
import socket
from collections.abc import Iterator, MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from click.testing import CliRunner, Result

import checkpoints
import encoders
import pictures
from checkpoints import NARROW
from encoders import CHANNELS, SIDE, encoder
from lookalike.backbones import find
from lookalike.backbones.published import PUBLISHED, Published
from lookalike.backends.onnxruntime import OnnxEmbedder
from lookalike.cli import main
from lookalike.cli.backbone import COMMANDS
from lookalike.images import Geometry
from servers.files import FileServer, serving


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this installation keeps its backbones."""
    folder = tmp_path / "backbones"
    monkeypatch.setenv("LOOKALIKE_BACKBONES_DIR", str(folder))
    return folder


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A narrow ResNet-18 as torch.save writes it."""
    return checkpoints.saved(tmp_path / "mine.pth", NARROW["resnet18"]())


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    return encoders.saved(tmp_path / "encoder.onnx", encoder(head="vector"))


@pytest.fixture
def mirror(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A mirror whose resnet50 is a narrow ResNet-18, of its own digest."""
    content = checkpoint.read_bytes()
    narrow = replace(
        PUBLISHED["resnet50"],
        architecture="resnet18",
        sha256=hashlib.sha256(content).hexdigest(),
        geometry=Geometry(side=64, resize=72),
    )
    table = cast(MutableMapping[str, Published], PUBLISHED)
    monkeypatch.setitem(table, "resnet50", narrow)
    with serving(content) as server:
        monkeypatch.setenv("LOOKALIKE_BACKBONE_MIRROR", server.url)
        yield server


def backbone(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["backbone", *map(str, arguments)])


def listed() -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = json.loads(
        backbone("list", "--json").stdout
    )
    return found


def length_of_vectors(name: str, place: Path) -> int:
    """What the backbone makes of two squares, by the same road as ingestion."""
    found = find(name, [place])
    side = found.geometry.side
    squares = np.random.default_rng(0).integers(0, 256, (2, side, side, 3))
    vectors = OnnxEmbedder(found, threads=1).embed(squares.astype(np.uint8))
    return int(vectors.shape[1])


# --- list ----------------------------------------------------------------------------


def test_the_list_names_what_is_here_and_what_can_be_fetched(place: Path) -> None:
    result = backbone("list")

    assert result.exit_code == 0, result.output
    assert find("resnet18").fingerprint in result.stdout
    for name in PUBLISHED:
        assert name in result.stdout


def test_the_list_is_there_for_programs_too(place: Path, checkpoint: Path) -> None:
    backbone("export", checkpoint, "--architecture", "resnet18", "--name", "mine")

    found = listed()

    mine, bundled = found["here"]
    own = find("mine", [place])
    assert bundled["name"] == "resnet18"
    assert mine["fingerprint"] == own.fingerprint
    assert (mine["side"], mine["dimension"]) == (224, own.dimension)
    assert mine["precision"] == ["fp32"]
    assert [one["name"] for one in found["fetchable"]] == list(PUBLISHED)


def test_a_broken_backbone_does_not_hide_the_others(place: Path) -> None:
    (place / "bad").mkdir(parents=True)
    (place / "bad" / "backbone.json").write_text("{")

    result = backbone("list")

    assert result.exit_code == 0
    assert "resnet18" in result.stdout
    assert "bad/backbone.json cannot be read" in result.stdout.replace("\n", "")


# --- add -----------------------------------------------------------------------------


def test_an_onnx_encoder_becomes_a_backbone(place: Path, onnx_file: Path) -> None:
    result = backbone("add", onnx_file, "--name", "mine", "--licence", "CC0-1.0")

    assert result.exit_code == 0, result.output
    found = find("mine", [place])
    assert found.fingerprint in result.stdout
    assert found.geometry == Geometry(side=SIDE, resize=18)
    assert found.manifest["outputs"] == {
        "embedding": f"FP32 [N, {CHANNELS}], unit length",
        "feature_map": f"FP16 [N, {SIDE}, {SIDE}, {CHANNELS}], before pooling",
    }
    assert listed()["here"][0]["licence"] == "CC0-1.0"
    assert length_of_vectors("mine", place) == CHANNELS


def test_an_added_backbone_is_a_model_of_triton(place: Path, onnx_file: Path) -> None:
    backbone("add", onnx_file, "--name", "mine")

    fingerprint = find("mine", [place]).fingerprint
    for name in ("config.pbtxt", "configs/onnxruntime.pbtxt", "configs/python.pbtxt"):
        assert fingerprint in (place / "mine" / name).read_text()
    assert [path.name for path in place.iterdir()] == ["mine"]


def test_a_ready_backbone_is_taken_in_as_it_is(place: Path, tmp_path: Path) -> None:
    first = tmp_path / "elsewhere"
    environment = {"LOOKALIKE_BACKBONES_DIR": str(first)}
    file = encoders.saved(tmp_path / "e.onnx", encoder(head="vector"))
    CliRunner().invoke(
        main, ["backbone", "add", str(file), "--name", "mine"], env=environment
    )

    result = backbone("add", first / "mine")

    assert result.exit_code == 0, result.output
    there, here = find(str(first / "mine")), find("mine", [place])
    assert there.fingerprint == here.fingerprint
    assert here.directory == place / "mine"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--name", "resnet18"], "already.*--name"),
        (["--name", "No Such Name"], "lower-case"),
        (["--name", "m", "--output", "nothing"], "no tensor 'nothing'"),
        (["--name", "m", "--dimension", "7"], "gives 6 numbers, not 7"),
        (["--name", "m", "--resize", "8"], "less than the side"),
        (["--name", "m", "--std", "1,0,1"], "above 0"),
        (["--name", "m", "--mean", "a,b,c"], "neither one number nor three"),
        ([], "needs a --name"),
    ],
)
def test_what_cannot_be_added_leaves_nothing_behind(
    place: Path, onnx_file: Path, options: list[str], reason: str
) -> None:
    result = backbone("add", onnx_file, *options)

    assert result.exit_code == 2
    assert "Traceback" not in result.output
    output = " ".join(result.output.split())
    assert re.search(reason, output), output
    assert not place.exists() or not list(place.iterdir())


def test_a_file_that_is_no_network_is_refused(place: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.onnx"
    file.write_bytes(b"nonsense")

    result = backbone("add", file, "--name", "mine")

    assert result.exit_code == 2
    assert "is no ONNX file" in result.output


def test_a_name_is_given_once(place: Path, onnx_file: Path) -> None:
    backbone("add", onnx_file, "--name", "mine")

    result = backbone("add", onnx_file, "--name", "mine")

    assert result.exit_code == 2
    assert "there is a backbone 'mine' already" in result.output


# --- fetch and export ----------------------------------------------------------------


def test_public_weights_are_fetched_checked_and_exported(
    place: Path, mirror: FileServer
) -> None:
    result = backbone("fetch", "resnet50")

    assert result.exit_code == 0, result.output
    found = find("resnet50", [place])
    assert found.geometry == Geometry(side=64, resize=72)
    assert found.fingerprint in result.stdout
    assert length_of_vectors("resnet50", place) == found.dimension
    assert not [path for path in place.rglob("*") if path.suffix == ".pth"]


def test_a_broken_download_is_resumed(place: Path, mirror: FileServer) -> None:
    mirror.cuts = [100_000]

    result = backbone("fetch", "resnet50")

    assert result.exit_code == 0, result.output
    assert mirror.asked == ["", "bytes=100000-"]


def test_what_was_fetched_is_not_fetched_again(place: Path, mirror: FileServer) -> None:
    backbone("fetch", "resnet50")

    result = backbone("fetch", "resnet50")

    assert result.exit_code == 0
    assert "is here already" in result.stdout
    assert len(mirror.asked) == 1


def test_public_weights_can_be_brought_by_hand(
    place: Path, mirror: FileServer, checkpoint: Path
) -> None:
    result = backbone("fetch", "resnet50", "--file", checkpoint, "--name", "mine")

    assert result.exit_code == 0, result.output
    assert mirror.asked == []
    assert checkpoint.exists()
    assert find("mine", [place]).dimension == 64


def test_a_mirror_with_another_file_is_refused(place: Path, mirror: FileServer) -> None:
    mirror.content += b"more"

    result = backbone("fetch", "resnet50", "--mirror", mirror.url + "/")

    assert result.exit_code == 2
    said = " ".join(result.output.split())
    assert "its SHA-256 is" in said
    assert "lookalike backbone fetch resnet50 --file" in said
    assert not list(place.rglob("*.pth*"))


def test_a_wrong_file_brought_by_hand_is_refused(place: Path, checkpoint: Path) -> None:
    result = backbone("fetch", "resnet34", "--file", checkpoint)

    assert result.exit_code == 2
    assert PUBLISHED["resnet34"].sha256 in result.output.replace("\n", "")


def test_a_mirror_without_the_file_is_named(place: Path, mirror: FileServer) -> None:
    mirror.statuses = [404]

    result = backbone("fetch", "resnet50")

    assert result.exit_code == 2
    assert f"{mirror.url}/resnet50-0676ba61.pth answers 404" in result.output


def test_offline_the_error_says_where_to_put_the_file(place: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # never listens, so connections are refused
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"

        result = backbone("fetch", "resnet101", "--mirror", address)

    assert result.exit_code == 2
    assert f"{address}/resnet101-63fe2227.pth cannot be downloaded" in result.output
    assert (
        "lookalike backbone fetch resnet101 --file PATH/resnet101-63fe2227.pth"
        in result.output
    )


def test_unknown_weights_are_refused_and_the_known_named(place: Path) -> None:
    result = backbone("fetch", "alexnet")

    assert result.exit_code == 2
    assert "resnet50" in result.output


def test_a_checkpoint_of_ones_own_is_exported(place: Path, checkpoint: Path) -> None:
    result = backbone(
        *("export", checkpoint, "--architecture", "resnet18", "--name", "mine"),
        *("--side", 96, "--resize", 100, "--mean", "0.5", "--std", "0.25,0.25,0.25"),
    )

    assert result.exit_code == 0, result.output
    assert find("mine", [place]).geometry == Geometry(side=96, resize=100)
    assert length_of_vectors("mine", place) == 64


def test_a_checkpoint_of_another_architecture_is_refused(
    place: Path, checkpoint: Path
) -> None:
    result = backbone(
        "export", checkpoint, "--architecture", "resnet34", "--name", "mine"
    )

    assert result.exit_code == 2
    assert "is not of a resnet34" in result.output
    assert not place.exists() or not list(place.iterdir())


# --- fit-projection ------------------------------------------------------------------


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    pictures.folder_of_photographs(folder, 24)
    (folder / "0005.jpg").write_bytes(b"no picture")
    return folder


def test_a_projection_makes_a_new_backbone(
    place: Path, onnx_file: Path, photographs: Path
) -> None:
    backbone("add", onnx_file, "--name", "mine")

    result = backbone(
        "fit-projection", "mine", "--images", photographs, "--dimension", 4
    )

    assert result.exit_code == 0, result.output
    long, short = find("mine", [place]), find("mine-4", [place])
    assert short.dimension == 4
    assert short.fingerprint != long.fingerprint
    assert short.geometry == long.geometry
    assert length_of_vectors("mine-4", place) == 4
    assert "of the variance of 23 pictures; 1 could not be read" in result.stdout


def test_the_same_pictures_elsewhere_give_the_same_fingerprint(
    place: Path, onnx_file: Path, photographs: Path, tmp_path: Path
) -> None:
    backbone("add", onnx_file, "--name", "mine")
    options = ("--dimension", 4, "--sample", 12)
    backbone("fit-projection", "mine", "--images", photographs, *options)
    first = find("mine-4", [place]).fingerprint
    (place / "mine-4").rename(tmp_path / "first")

    moved = photographs.rename(tmp_path / "moved")
    backbone("fit-projection", "mine", "--images", moved, *options)

    assert find("mine-4", [place]).fingerprint == first


def test_too_few_pictures_are_refused_before_any_is_read(
    place: Path, onnx_file: Path, photographs: Path
) -> None:
    result = backbone("fit-projection", "resnet18", "--images", photographs)

    assert result.exit_code == 2
    assert "have 512 numbers" in result.output  # 512 would not be shorter

    result = backbone(
        "fit-projection", "resnet18", "--images", photographs, "--dimension", 100
    )

    assert result.exit_code == 2
    assert "at least 200 pictures; there are 24" in " ".join(result.output.split())


# --- the group -----------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_it_does(command: str) -> None:
    result = backbone(command, "--help")

    assert result.exit_code == 0, result.exception
    assert command in backbone("--help").stdout
