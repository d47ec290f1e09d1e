from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest

from checkpoints import NARROW
from lookalike.backbones import directories
from lookalike.backbones.graph import Normalisation
from lookalike.backbones.published import (
    ARCHITECTURES,
    PUBLISHED,
    Published,
    exported,
    published,
)
from lookalike.errors import Misconfigured
from reference_networks import NumpyLayers, features

Floats = npt.NDArray[np.floating[Any]]

SIDES = {"inception_v3": 107}  # so that something is left at its end


def pictures(side: int, count: int = 2) -> npt.NDArray[np.uint8]:
    generator = np.random.default_rng(1)
    return generator.integers(0, 256, (count, side, side, 3)).astype(np.uint8)


def ran(
    model: onnx.ModelProto, images: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float16]]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    embedding, feature_map = session.run(
        ["embedding", "feature_map"], {"images": images}
    )
    return embedding, feature_map


def cosines(a: Floats, b: Floats) -> Floats:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(axis=1) / lengths)


def normalised(
    images: npt.NDArray[np.uint8], normalisation: Normalisation
) -> npt.NDArray[np.float64]:
    planes = images.transpose(0, 3, 1, 2) / 255
    mean, std = (
        np.array(v)[:, None, None] for v in (normalisation.mean, normalisation.std)
    )
    return np.asarray((planes - mean) / std)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_exported_network_does_what_the_plain_one_does(architecture: str) -> None:
    weights = NARROW[architecture]()
    side = SIDES.get(architecture, 64)
    images = pictures(side)

    embedding, feature_map = ran(exported(weights, architecture, side=side), images)

    planes = normalised(images, PUBLISHED[architecture].normalisation)
    expected = features(architecture, NumpyLayers(weights), planes)
    assert expected.std() > 0.01
    assert cosines(embedding, expected.mean(axis=(2, 3))) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(
        feature_map, expected.transpose(0, 2, 3, 1), rtol=2e-3, atol=2e-3
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_exported_network_keeps_the_contract(architecture: str) -> None:
    side = SIDES.get(architecture, 64)

    model = exported(NARROW[architecture](), architecture, side=side)

    onnx.checker.check_model(model, full_check=True)
    for count in (1, 3):
        embedding, feature_map = ran(model, pictures(side, count))
        assert embedding.dtype == np.float32
        assert np.linalg.norm(embedding, axis=1) == pytest.approx(1, abs=1e-5)
        assert feature_map.dtype == np.float16
        assert feature_map.shape[0] == count
        assert feature_map.shape[3] == embedding.shape[1]
    shapes = [
        [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    ]
    channels = embedding.shape[1]
    places = feature_map.shape[1:3]
    assert shapes == [["N", side, side, 3], ["N", channels], ["N", *places, channels]]


def test_the_same_weights_give_the_same_bytes() -> None:
    one, other = (exported(NARROW["resnet18"](), "resnet18", side=32) for _ in "ab")

    assert one.SerializeToString() == other.SerializeToString()


@pytest.mark.parametrize(
    ("architecture", "weights", "reason"),
    [
        ("resnet18", "resnet50", r"layer1\.0\.conv3|downsample"),
        ("resnet34", "resnet18", r"no layer1\.2\.conv1\.weight"),
        ("resnet18", "resnet34", r"also has layer1\.2\."),
        ("resnet50", "vgg16", r"no (bn1|conv1)"),
        ("vgg16", "resnet18", r"no features\.0\.weight"),
        ("inception_v3", "resnet50", r"no Conv2d_1a_3x3"),
    ],
)
def test_weights_of_another_architecture_are_refused(
    architecture: str, weights: str, reason: str
) -> None:
    with pytest.raises(Misconfigured, match=reason) as caught:
        exported(NARROW[weights](), architecture)

    assert caught.value.code == "checkpoint_refused"


def test_weights_that_are_not_finite_are_refused() -> None:
    weights = NARROW["resnet18"]()
    weights["layer2.0.conv1.weight"][0, 0, 0, 0] = np.nan

    with pytest.raises(Misconfigured, match=r"layer2\.0\.conv1\.weight.*not finite"):
        exported(weights, "resnet18")


def test_an_unknown_architecture_is_refused_and_the_known_named() -> None:
    with pytest.raises(Misconfigured, match="resnet18, resnet34, resnet50"):
        exported({}, "alexnet")


def test_unknown_public_weights_are_refused_and_the_known_named() -> None:
    with pytest.raises(Misconfigured, match=r"resnet50.*add FILE\.onnx"):
        published("alexnet")


@pytest.mark.parametrize("one", PUBLISHED.values(), ids=lambda one: one.name)
def test_public_weights_are_named_as_their_digest_says(one: Published) -> None:
    assert one.file.endswith(f"-{one.sha256[:8]}.pth")
    assert len(one.sha256) in (8, 64)
    assert one.architecture in ARCHITECTURES
    assert one.default_name not in directories()
