from __future__ import annotations

import hashlib
import json
from pathlib import Path

import onnx
import pytest

from lookalike.backbones import directories, find, read, write_manifest
from lookalike.errors import Misconfigured
from lookalike.images import Geometry

WEIGHTS = b"not really a network"


def manifest(**changes: object) -> dict[str, object]:
    return {
        "name": "mine",
        "version": "3",
        "side": 32,
        "resize": 40,
        "filter": "bilinear",
        "dimension": 16,
        "metric": "cosine",
        "outputs": {"embedding": "FP32 [N, 16]"},
        "weights": {
            "file": "model.onnx",
            "sha256": hashlib.sha256(WEIGHTS).hexdigest(),
        },
        "about": {"licence": "CC0-1.0"},
    } | changes


def written(folder: Path, content: object) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "backbone.json").write_text(json.dumps(content))
    (folder / "model.onnx").write_bytes(WEIGHTS)
    return str(folder)


def test_the_bundled_backbone_is_found_by_its_name() -> None:
    backbone = find("resnet18")

    assert backbone.name == "resnet18"
    assert backbone.geometry == Geometry(side=112, resize=112)
    assert backbone.dimension == 512
    assert backbone.model_path.is_file()


def test_a_fingerprint_begins_with_the_name_and_is_always_the_same() -> None:
    fingerprint = find("resnet18").fingerprint

    name, _, digest = fingerprint.rpartition("-")
    assert name == "resnet18"
    assert len(bytes.fromhex(digest)) == 8
    assert fingerprint == find("resnet18").fingerprint


def test_the_bundled_network_keeps_the_contract() -> None:
    model = onnx.load(find("resnet18").model_path)

    onnx.checker.check_model(model, full_check=True)

    def shape(value: onnx.ValueInfoProto) -> list[object]:
        dims = value.type.tensor_type.shape.dim
        return [d.dim_param or d.dim_value for d in dims]

    kinds = onnx.TensorProto
    described = {
        value.name: (value.type.tensor_type.elem_type, shape(value))
        for value in (*model.graph.input, *model.graph.output)
    }
    assert described == {
        "images": (kinds.UINT8, ["N", 112, 112, 3]),
        "embedding": (kinds.FLOAT, ["N", 512]),
        "feature_map": (kinds.FLOAT16, ["N", 4, 4, 512]),
    }


def test_a_directory_with_a_manifest_is_a_backbone(tmp_path: Path) -> None:
    backbone = find(written(tmp_path / "any-folder", manifest()))

    assert backbone.name == "mine"
    assert backbone.version == "3"
    assert backbone.geometry == Geometry(side=32, resize=40)
    assert backbone.dimension == 16
    assert backbone.model_path == tmp_path / "any-folder" / "model.onnx"


@pytest.mark.parametrize(
    "change", [{"version": "4"}, {"resize": 41}, {"projection": "pca"}]
)
def test_what_changes_the_vectors_changes_the_fingerprint(
    tmp_path: Path, change: dict[str, object]
) -> None:
    before = find(written(tmp_path, manifest())).fingerprint

    after = find(written(tmp_path, manifest(**change))).fingerprint

    assert before != after


def test_prose_about_a_backbone_does_not_change_the_fingerprint(tmp_path: Path) -> None:
    before = find(written(tmp_path, manifest())).fingerprint

    corrected = manifest(about={"licence": "CC-BY-4.0", "quality": 0.7})
    after = find(written(tmp_path, corrected)).fingerprint

    assert before == after


def test_the_order_of_a_manifest_does_not_matter(tmp_path: Path) -> None:
    before = find(written(tmp_path, manifest())).fingerprint

    turned = dict(reversed(manifest().items()))
    after = find(written(tmp_path, turned)).fingerprint

    assert before == after


@pytest.mark.parametrize("name", ["resnet50", "", "/nowhere", "../resnet18"])
def test_an_unknown_backbone_is_refused_and_the_known_named(name: str) -> None:
    with pytest.raises(Misconfigured, match="Bundled: resnet18") as caught:
        find(name)

    assert caught.value.extra["known"] == ["resnet18"]


def test_other_weights_than_the_manifests_are_refused(tmp_path: Path) -> None:
    name = written(tmp_path, manifest())
    (tmp_path / "model.onnx").write_bytes(b"others")

    with pytest.raises(Misconfigured, match="SHA-256"):
        find(name)


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    name = written(tmp_path, manifest())
    (tmp_path / "model.onnx").unlink()

    with pytest.raises(Misconfigured, match=r"model\.onnx cannot be read"):
        find(name)


def test_weights_outside_the_directory_are_refused(tmp_path: Path) -> None:
    weights = {"file": "../model.onnx", "sha256": hashlib.sha256(WEIGHTS).hexdigest()}
    (tmp_path / "model.onnx").write_bytes(WEIGHTS)
    name = written(tmp_path / "inner", manifest(weights=weights))

    with pytest.raises(Misconfigured, match="inside the backbone's directory"):
        find(name)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"name": "../evil"}, "'name'"),
        ({"name": 3}, "'name'"),
        ({"version": ""}, "'version'"),
        ({"side": "64"}, "'side'"),
        ({"side": True}, "'side'"),
        ({"side": 41}, "'resize'"),
        ({"dimension": 0}, "'dimension'"),
        ({"filter": "lanczos"}, "'filter'"),
        ({"weights": None}, "'weights'"),
        ({"weights": {"file": "model.onnx"}}, "'sha256'"),
    ],
)
def test_a_wrong_manifest_is_refused_and_the_field_named(
    tmp_path: Path, change: dict[str, object], named: str
) -> None:
    name = written(tmp_path, manifest(**change))

    with pytest.raises(Misconfigured, match=named):
        find(name)


@pytest.mark.parametrize("content", ["", "{", "[]", "\udcff"])
def test_a_manifest_that_is_no_json_object_is_refused(
    tmp_path: Path, content: str
) -> None:
    (tmp_path / "backbone.json").write_text(content, errors="surrogateescape")

    with pytest.raises(Misconfigured, match=r"backbone\.json"):
        find(str(tmp_path))


def test_an_added_backbone_is_found_by_its_name(tmp_path: Path) -> None:
    directory = tmp_path / "backbones" / "mine"
    directory.parent.mkdir()
    written(directory, manifest())

    found = find("mine", [tmp_path / "nowhere", tmp_path / "backbones"])

    assert found.directory == directory
    assert directories([tmp_path / "backbones"])["mine"] == directory


def test_a_bundled_backbone_hides_an_added_one_of_its_name(tmp_path: Path) -> None:
    written(tmp_path / "resnet18", manifest(name="resnet18"))

    assert find("resnet18", [tmp_path]).dimension != 16


def test_an_unknown_name_is_answered_with_the_added_ones_too(tmp_path: Path) -> None:
    written(tmp_path / "mine", manifest())

    with pytest.raises(Misconfigured, match=r"Added here: mine\."):
        find("other", [tmp_path])


def test_weights_are_float_unless_the_manifest_says_otherwise(tmp_path: Path) -> None:
    weights = {"file": "model.onnx", "sha256": hashlib.sha256(WEIGHTS).hexdigest()}

    assert find(written(tmp_path, manifest())).precision == "fp32"
    int8 = manifest(weights={**weights, "precision": "int8"})
    assert find(written(tmp_path, int8)).precision == "int8"
    odd = manifest(weights={**weights, "precision": "int4"})
    with pytest.raises(Misconfigured, match="fp32, fp16, int8"):
        find(written(tmp_path, odd))


VARIANT = {"file": "model.int8.onnx", "sha256": "0" * 64, "cosine": 1, "overlap": 0.97}


def test_a_variant_does_not_change_the_fingerprint(tmp_path: Path) -> None:
    before = find(written(tmp_path, manifest()))

    after = find(written(tmp_path, manifest(variants={"int8": VARIANT})))

    assert after.fingerprint == before.fingerprint
    assert after.variants["int8"].path == tmp_path / "model.int8.onnx"
    assert after.variants["int8"].overlap == 0.97


@pytest.mark.parametrize(
    ("variants", "wrong"),
    [
        ([], "variants"),
        ({"int4": VARIANT}, "int4"),
        ({"int8": {**VARIANT, "file": "../model.onnx"}}, "file"),
        ({"int8": {**VARIANT, "cosine": "high"}}, "cosine"),
        ({"int8": {**VARIANT, "overlap": 2}}, "overlap"),
    ],
)
def test_a_wrong_variant_is_refused_by_its_key(
    tmp_path: Path, variants: object, wrong: str
) -> None:
    name = written(tmp_path, manifest(variants=variants))

    with pytest.raises(Misconfigured, match=f"'{wrong}' must be"):
        find(name)


def test_a_manifest_is_written_whole_and_leaves_nothing_else(tmp_path: Path) -> None:
    written(tmp_path, manifest())

    write_manifest(tmp_path, manifest(version="4"))

    assert read(tmp_path).version == "4"
    assert {path.name for path in tmp_path.iterdir()} == {"backbone.json", "model.onnx"}


def test_a_manifest_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot be written"):
        write_manifest(tmp_path / "nowhere", manifest())
