"""What every embedder must do: the fake one, ONNX Runtime and a Triton server alike."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import pictures
from fakes import FakeEmbedder
from lookalike.backbones import find
from lookalike.backends.onnxruntime import OnnxEmbedder
from lookalike.backends.triton import TritonEmbedder
from lookalike.errors import BadEmbedding
from lookalike.images import Limits, decode_square
from lookalike.interfaces import Embedder, Pixels, Vectors
from servers import triton

REAL = OnnxEmbedder(find("resnet18"), threads=2)


WAYS = [
    "fake",
    "onnxruntime",
    pytest.param("triton", marks=pytest.mark.triton_server),
]


@pytest.fixture(scope="module")
def triton_embedder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedder]:
    if problem := triton.missing():
        pytest.skip(problem)
    with triton.running_triton(tmp_path_factory.mktemp("triton")) as server:
        embedder = TritonEmbedder(REAL.backbone, server.url)
        yield embedder
        embedder.close()


@pytest.fixture(scope="module", params=WAYS)
def embedder(request: pytest.FixtureRequest) -> Embedder:
    if request.param == "triton":
        found: Embedder = request.getfixturevalue("triton_embedder")
        return found
    return FakeEmbedder() if request.param == "fake" else REAL


def squares(embedder: Embedder, count: int, first: int = 0) -> Pixels:
    return np.stack(
        [
            decode_square(pictures.jpeg(seed), embedder.geometry, Limits())
            for seed in range(first, first + count)
        ]
    )


def close(one: Vectors, other: Vectors) -> bool:
    return bool((np.sum(one * other, axis=1) > 0.9999).all())


def test_vectors_have_the_promised_shape(embedder: Embedder) -> None:
    vectors = embedder.embed(squares(embedder, 3))

    assert vectors.shape == (3, embedder.dimension)
    assert vectors.dtype == np.float32


def test_vectors_are_of_unit_length(embedder: Embedder) -> None:
    vectors = embedder.embed(squares(embedder, 5))

    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)


@pytest.mark.parametrize("value", [0, 255])
def test_a_picture_of_one_colour_has_a_vector_too(
    embedder: Embedder, value: int
) -> None:
    side = embedder.geometry.side

    vectors = embedder.embed(np.full((1, side, side, 3), value, np.uint8))

    assert np.isclose(np.linalg.norm(vectors[0]), 1, atol=1e-3)


def test_the_same_picture_has_the_same_vector_alone_and_among_others(
    embedder: Embedder,
) -> None:
    pixels = squares(embedder, 4)

    together = embedder.embed(pixels)
    alone = np.concatenate([embedder.embed(pixels[i : i + 1]) for i in range(4)])

    assert close(together, alone)


def test_different_pictures_have_different_vectors(embedder: Embedder) -> None:
    vectors = embedder.embed(squares(embedder, 6))

    similarity = vectors @ vectors.T
    assert similarity[~np.eye(6, dtype=bool)].max() < 0.999


def test_many_pictures_keep_their_order(embedder: Embedder) -> None:
    pixels = squares(embedder, 5)
    order = np.random.default_rng(0).integers(0, 5, 70)

    vectors = embedder.embed(pixels[order])

    assert close(vectors, embedder.embed(pixels)[order])


def test_no_pictures_have_no_vectors(embedder: Embedder) -> None:
    side = embedder.geometry.side

    vectors = embedder.embed(np.empty((0, side, side, 3), np.uint8))

    assert vectors.shape == (0, embedder.dimension)


def test_several_threads_may_embed_at_once(embedder: Embedder) -> None:
    pixels = squares(embedder, 8)
    expected = embedder.embed(pixels)

    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda i: embedder.embed(pixels[i : i + 1]), range(8)))

    assert close(np.concatenate(parts), expected)


def test_the_pixels_may_be_read_only(embedder: Embedder) -> None:
    pixels = squares(embedder, 2)
    pixels.flags.writeable = False

    assert embedder.embed(pixels).shape == (2, embedder.dimension)


def test_what_is_no_square_of_pixels_is_a_mistake(embedder: Embedder) -> None:
    side = embedder.geometry.side

    with pytest.raises((ValueError, BadEmbedding), match="expected"):
        embedder.embed(np.zeros((1, side, side + 1, 3), np.uint8))


def test_feature_maps_have_the_promised_shape(embedder: Embedder) -> None:
    maps = embedder.feature_maps(squares(embedder, 20))

    count, height, width, channels = maps.shape
    assert count == 20
    assert height == width > 1
    assert channels > 1
    assert maps.dtype == np.float32


def test_feature_maps_keep_their_order(embedder: Embedder) -> None:
    pixels = squares(embedder, 18)

    together = embedder.feature_maps(pixels)
    alone = np.concatenate([embedder.feature_maps(pixels[i : i + 1]) for i in (0, 17)])

    flat = [maps.reshape(2, -1) for maps in (together[[0, 17]], alone)]
    lengths = [np.linalg.norm(one, axis=1) for one in flat]
    assert ((flat[0] * flat[1]).sum(axis=1) > 0.999 * lengths[0] * lengths[1]).all()


def test_the_top_of_a_picture_is_the_top_of_its_feature_map(
    embedder: Embedder,
) -> None:
    side = embedder.geometry.side
    plain = np.full((1, side, side, 3), 128, np.uint8)
    changed = plain.copy()
    noise = np.random.default_rng(0).integers(0, 256, (side // 4, side // 4, 3))
    changed[0, : side // 4, : side // 4] = noise

    moved = np.abs(embedder.feature_maps(changed) - embedder.feature_maps(plain)).sum(
        axis=(0, 3)
    )

    assert moved.argmax() == 0


def test_a_fingerprint_says_which_vectors_may_be_compared(embedder: Embedder) -> None:
    assert embedder.fingerprint
    assert embedder.fingerprint == embedder.fingerprint.strip()


@pytest.mark.triton_server
def test_onnx_runtime_and_triton_give_the_same_vectors(
    triton_embedder: Embedder,
) -> None:
    pixels = squares(REAL, 40)

    vectors = triton_embedder.embed(pixels)

    assert close(vectors, REAL.embed(pixels))
    assert triton_embedder.fingerprint == REAL.fingerprint


def test_a_re_encoded_picture_stays_close() -> None:
    image = pictures.photograph(5)
    good, poor = (
        decode_square(
            pictures.encoded(image, "JPEG", quality=quality), REAL.geometry, Limits()
        )
        for quality in (95, 60)
    )

    one, other = REAL.embed(np.stack([good, poor]))

    assert float(one @ other) > 0.97
