from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from lookalike.backbones import read
from lookalike.backbones.parity import Parity, compare, register
from lookalike.errors import Misconfigured
from small_network import network, stored

GOOD = Parity(cosine_mean=0.995, cosine_min=0.9, overlap=0.97, pictures=100)


def vectors(count: int = 40, seed: int = 0) -> npt.NDArray[np.float32]:
    made = np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)
    unit: npt.NDArray[np.float32] = made / np.linalg.norm(made, axis=1, keepdims=True)
    return unit


def test_the_same_vectors_agree_in_everything() -> None:
    agreement = compare(vectors(), vectors())

    assert agreement.cosine_mean == pytest.approx(1)
    assert agreement.cosine_min == pytest.approx(1)
    assert agreement.overlap == 1
    assert agreement.pictures == 40
    assert agreement.passes


def test_turning_all_vectors_alike_keeps_the_neighbours_but_not_the_cosines() -> None:
    turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(8, 8)))

    agreement = compare(vectors(), (vectors() @ turn).astype(np.float32))

    assert agreement.overlap == 1
    assert agreement.cosine_mean < 0.9
    assert not agreement.passes


def test_the_overlap_is_the_share_of_neighbours_that_both_name() -> None:
    reference, other = vectors(), vectors(seed=1)

    found = compare(reference, other, k=3).overlap

    shared = 0
    for i in range(40):
        named = []
        for rows in (reference, other):
            others = sorted(set(range(40)) - {i}, key=lambda j: -(rows[i] @ rows[j]))
            named.append(set(others[:3]))
        shared += len(named[0] & named[1])
    assert found == pytest.approx(shared / (40 * 3))


@pytest.mark.parametrize(
    ("cosine", "overlap", "passes"),
    [(0.99, 0.95, True), (0.9899, 1, False), (1, 0.9499, False)],
)
def test_both_floors_must_be_kept(cosine: float, overlap: float, passes: bool) -> None:
    assert Parity(cosine, cosine, overlap, 100).passes is passes


def test_vectors_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(ValueError, match="10 nearest"):
        compare(vectors(10), vectors(10))
    with pytest.raises(ValueError, match=r"\[40, 8\] and \[39, 8\]"):
        compare(vectors(), vectors()[1:])


def test_registering_a_variant_leaves_the_fingerprint(tmp_path: Path) -> None:
    backbone = stored(tmp_path, network())
    path = tmp_path / "1" / "model.int8.onnx"
    path.write_bytes(b"a network")

    register(backbone, path, GOOD)

    after = read(tmp_path)
    assert after.fingerprint == backbone.fingerprint
    variant = after.variants["int8"]
    assert variant.checked_path() == path
    assert (variant.cosine, variant.overlap) == (0.995, 0.97)


def test_other_weights_change_the_fingerprint(tmp_path: Path) -> None:
    before = stored(tmp_path, network()).fingerprint

    after = stored(tmp_path, network(seed=1)).fingerprint

    assert before != after


def test_what_agrees_too_little_is_not_registered(tmp_path: Path) -> None:
    backbone = stored(tmp_path, network())
    path = tmp_path / "1" / "model.int8.onnx"
    path.write_bytes(b"a network")

    with pytest.raises(Misconfigured, match=r"top-10 overlap 0\.940, at least 0\.95"):
        register(backbone, path, Parity(0.999, 0.99, 0.94, 100))

    assert not read(tmp_path).variants


def test_a_damaged_variant_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "1" / "model.int8.onnx"
    backbone = stored(tmp_path, network())
    path.write_bytes(b"a network")
    register(backbone, path, GOOD)
    path.write_bytes(b"a nutwork")

    variant = read(tmp_path).variants["int8"]

    with pytest.raises(Misconfigured, match=r"int8 variant .*model\.int8\.onnx is not"):
        variant.checked_path()
    path.unlink()
    with pytest.raises(Misconfigured, match="cannot be read"):
        variant.checked_path()
