from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from encoders import CHANNELS, SIDE, encoder
from lookalike.backbones import Backbone
from lookalike.backbones.encoder import Wishes, wrap
from lookalike.backbones.projection import fit, projected
from lookalike.backbones.store import Description, store
from lookalike.errors import Misconfigured
from lookalike.images import Geometry

Array = npt.NDArray[np.float32]


@pytest.fixture
def backbone(tmp_path: Path) -> Backbone:
    """A backbone of six numbers."""
    model = wrap(encoder(head="vector"), Wishes()).model
    return store(tmp_path, model, Description("small", Geometry(SIDE, SIDE)))


def batches(count: int, seed: int = 0) -> Iterator[npt.NDArray[np.uint8]]:
    """Pictures of very different brightness, so that directions differ in spread."""
    generator = np.random.default_rng(seed)
    for start in range(0, count, 8):
        size = min(8, count - start)
        shape = (size, SIDE, SIDE, 3)
        colour = generator.integers(0, 200, (size, 1, 1, 3))
        yield (colour + generator.integers(0, 56, shape)).astype(np.uint8)


def embedded(model: bytes, pictures: npt.NDArray[np.uint8]) -> Array:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (embedding,) = session.run(["embedding"], {"images": pictures})
    return np.asarray(embedding)


def pooled(backbone: Backbone, pictures: npt.NDArray[np.uint8]) -> Array:
    """Embeddings before the unit length: the mean of the feature map."""
    session = onnxruntime.InferenceSession(
        backbone.model_path, providers=["CPUExecutionProvider"]
    )
    (feature_map,) = session.run(["feature_map"], {"images": pictures})
    return np.asarray(feature_map.astype(np.float32).mean(axis=(1, 2)))


def test_the_projection_is_that_of_principal_components(backbone: Backbone) -> None:
    projection = fit(backbone, batches(400), 3)

    rows = np.concatenate([pooled(backbone, batch) for batch in batches(400)])
    centred = rows - rows.mean(axis=0)
    _, spreads, directions = np.linalg.svd(centred, full_matrices=False)
    share = (spreads[:3] ** 2).sum() / (spreads**2).sum()
    assert projection.pictures == 400
    assert projection.explained == pytest.approx(share, abs=1e-3)
    agreement = np.abs((projection.directions * directions[:3].T).sum(axis=0))
    assert agreement == pytest.approx(1, abs=1e-2)


def test_the_projected_network_projects_before_the_unit_length(
    backbone: Backbone,
) -> None:
    projection = fit(backbone, batches(100), 4)

    model = projected(backbone, projection)

    pictures = next(batches(8, seed=9))
    turned = (pooled(backbone, pictures) - projection.mean) @ projection.directions
    expected = turned / np.linalg.norm(turned, axis=1, keepdims=True)
    got = embedded(model.SerializeToString(), pictures)
    assert got.shape == (8, 4)
    np.testing.assert_allclose(got, expected, atol=5e-3)


def test_the_feature_map_stays_as_it_is(backbone: Backbone) -> None:
    model = projected(backbone, fit(backbone, batches(100), 4))

    names = {output.name for output in model.graph.output}
    assert names == {"embedding", "feature_map"}


def test_the_same_pictures_give_the_same_network(backbone: Backbone) -> None:
    one, other = (
        projected(backbone, fit(backbone, batches(100), 4)).SerializeToString()
        for _ in "ab"
    )

    assert one == other


def test_too_few_pictures_are_refused_and_their_number_named(
    backbone: Backbone,
) -> None:
    with pytest.raises(
        Misconfigured, match=r"at least 8 pictures.*there are 7"
    ) as caught:
        fit(backbone, batches(7), 4)

    assert caught.value.code == "too_few_pictures"


@pytest.mark.parametrize("dimension", [0, CHANNELS, CHANNELS + 1])
def test_a_projection_that_shortens_nothing_is_refused(
    backbone: Backbone, dimension: int
) -> None:
    with pytest.raises(Misconfigured, match="have 6 numbers"):
        fit(backbone, batches(100), dimension)
