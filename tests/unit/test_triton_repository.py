from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from lookalike.backbones import Backbone, find, read, triton_repository, write_manifest
from lookalike.cli.backbone_build import build as build_command

REPOSITORY = Path(__file__).parents[2] / "model_repository"
CONFIGS = ["config.pbtxt", "configs/onnxruntime.pbtxt", "configs/python.pbtxt"]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return find("resnet18")


def parsed(text: str) -> Any:
    return text_format.Parse(text, model_config_pb2.ModelConfig())


@pytest.mark.parametrize("path", sorted(REPOSITORY.glob("*/backbone.json")))
def test_what_is_committed_is_what_is_rendered(path: Path) -> None:
    rendered = triton_repository.render(read(path.parent))

    committed = {
        name: (path.parent / name).read_text(encoding="utf-8") for name in rendered
    }

    name = path.parent.name
    assert committed == rendered, f"run: lookalike backbone build {name}"


@pytest.mark.parametrize("name", CONFIGS)
def test_each_configuration_keeps_the_embedding_contract(
    backbone: Backbone, name: str
) -> None:
    config = parsed(triton_repository.render(backbone)[name])

    side = backbone.geometry.side
    (images,) = config.input
    outputs = {output.name: output for output in config.output}
    assert config.name == "resnet18"
    assert (images.name, list(images.dims)) == ("images", [side, side, 3])
    assert images.data_type == model_config_pb2.TYPE_UINT8
    assert list(outputs["embedding"].dims) == [backbone.dimension]
    assert outputs["embedding"].data_type == model_config_pb2.TYPE_FP32
    assert outputs["feature_map"].data_type == model_config_pb2.TYPE_FP16
    assert config.parameters["fingerprint"].string_value == backbone.fingerprint


@pytest.mark.parametrize("name", CONFIGS)
def test_each_configuration_refuses_what_does_not_fit_in_its_queue(
    backbone: Backbone, name: str
) -> None:
    config = parsed(triton_repository.render(backbone)[name])

    policy = config.dynamic_batching.default_queue_policy
    assert policy.max_queue_size > 0
    assert policy.timeout_action == model_config_pb2.ModelQueuePolicy.REJECT
    assert policy.default_timeout_microseconds > 0
    assert policy.allow_timeout_override


@pytest.mark.parametrize("name", CONFIGS)
def test_each_configuration_warms_up_one_picture_and_a_full_batch(
    backbone: Backbone, name: str
) -> None:
    config = parsed(triton_repository.render(backbone)[name])

    batches = [warm_up.batch_size for warm_up in config.model_warmup]
    assert batches == [1, config.max_batch_size]


def test_the_graphics_card_is_for_tensorrt_alone(backbone: Backbone) -> None:
    configs = {
        name: parsed(text)
        for name, text in triton_repository.render(backbone).items()
        if name.endswith(".pbtxt")
    }

    gpu = model_config_pb2.ModelInstanceGroup.KIND_GPU
    on_gpu = {
        n for n, config in configs.items() if config.instance_group[0].kind == gpu
    }
    assert on_gpu == {"config.pbtxt"}
    assert [configs[name].backend for name in CONFIGS] == [
        "tensorrt",
        "onnxruntime",
        "python",
    ]


def test_a_model_is_complete_without_the_backbone_it_came_from(
    backbone: Backbone, tmp_path: Path
) -> None:
    folder = triton_repository.build(backbone, tmp_path / "models")

    copied = read(folder)
    assert copied.fingerprint == backbone.fingerprint
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")} == {
        "backbone.json",
        *CONFIGS,
        "1/model.onnx",
        "1/model.py",
    }


def test_a_plan_survives_a_new_build(backbone: Backbone, tmp_path: Path) -> None:
    folder = triton_repository.build(backbone, tmp_path)
    (folder / "1" / "model.plan").write_bytes(b"plan")

    triton_repository.build(backbone, tmp_path)

    assert (folder / "1" / "model.plan").read_bytes() == b"plan"


def test_a_checked_variant_is_served_beside_the_reference(
    backbone: Backbone, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    shutil.copytree(backbone.directory, own)
    shutil.copyfile(own / "1" / "model.onnx", own / "1" / "model.int8.onnx")
    digest = hashlib.sha256((own / "1" / "model.int8.onnx").read_bytes()).hexdigest()
    manifest = json.loads((own / "backbone.json").read_text())
    variant = {
        **{"file": "1/model.int8.onnx", "sha256": digest},
        **{"cosine": 0.999, "overlap": 0.98},
    }
    write_manifest(own, manifest | {"variants": {"int8": variant}})

    folder = triton_repository.build(read(own), tmp_path / "models", precision="int8")

    parameters = parsed((folder / "configs/python.pbtxt").read_text()).parameters
    values = {key: value.string_value for key, value in parameters.items()}
    assert values["precision"] == "int8"
    assert values["int8_file"] == "1/model.int8.onnx"
    assert values["int8_sha256"] == digest
    assert values["fingerprint"] == backbone.fingerprint
    assert (folder / "1" / "model.int8.onnx").exists()


def test_the_command_writes_the_model_and_says_where(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        build_command, ["resnet18", "--repository", str(tmp_path)]
    )

    assert result.exit_code == 0, result.output
    assert find("resnet18").fingerprint in result.output
    assert (tmp_path / "resnet18" / "configs" / "python.pbtxt").exists()
