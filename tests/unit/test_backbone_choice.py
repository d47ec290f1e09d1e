from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from lookalike.backbones import Backbone, Variant, digest_of_file
from lookalike.backbones.choice import choose
from lookalike.backbones.leaves import dead_leaves
from lookalike.backbones.parity import compare
from lookalike.backbones.processor import Int8Support, has_vnni, int8_support
from lookalike.backbones.quantise import quantise
from lookalike.backends.onnxruntime import OnnxEmbedder
from lookalike.errors import Misconfigured
from small_network import network, stored

FAST = Int8Support(True, "it can")
SLOW = Int8Support(False, "it cannot")
PICTURES = np.concatenate(list(dead_leaves(48, 24, shots=4)))


@pytest.fixture(scope="module")
def int8() -> bytes:
    return bytes(quantise(network(), [PICTURES]).SerializeToString())


def with_variant(folder: Path, int8: bytes) -> Backbone:
    backbone = stored(folder, network())
    path = folder / "1" / "model.int8.onnx"
    path.write_bytes(int8)
    variant = Variant("int8", path, digest_of_file(path), cosine=1, overlap=1)
    return dataclasses.replace(backbone, variants={"int8": variant})


def test_int8_is_chosen_where_it_was_checked_and_is_fast(
    tmp_path: Path, int8: bytes
) -> None:
    backbone = with_variant(tmp_path, int8)

    chosen = choose(backbone, "auto", FAST)

    assert chosen.precision == "int8"
    assert chosen.path == tmp_path / "1" / "model.int8.onnx"
    assert not chosen.convert


def test_float_is_chosen_where_int8_is_slow(tmp_path: Path, int8: bytes) -> None:
    backbone = with_variant(tmp_path, int8)

    chosen = choose(backbone, "auto", SLOW)

    assert (chosen.precision, chosen.path) == ("fp32", backbone.model_path)
    assert chosen.reason == "it cannot"


def test_float_is_chosen_where_there_is_no_int8(tmp_path: Path) -> None:
    chosen = choose(stored(tmp_path, network()), "auto", FAST)

    assert chosen.precision == "fp32"
    assert not chosen.convert


def test_what_is_set_is_taken_at_its_word(tmp_path: Path, int8: bytes) -> None:
    backbone = with_variant(tmp_path, int8)

    assert choose(backbone, "int8", SLOW).precision == "int8"
    assert choose(backbone, "fp32", FAST).precision == "fp32"


def test_int8_that_was_never_made_is_refused_with_the_way_to_it(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="lookalike backbone quantise small"):
        choose(stored(tmp_path, network()), "int8", FAST)


def test_a_damaged_variant_is_refused_before_the_first_picture(
    tmp_path: Path, int8: bytes
) -> None:
    backbone = with_variant(tmp_path, int8)
    (tmp_path / "1" / "model.int8.onnx").write_bytes(int8[:-1])

    with pytest.raises(Misconfigured, match=r"int8 variant .*model\.int8\.onnx"):
        OnnxEmbedder(backbone, threads=1, precision="int8")


def test_an_int8_reference_is_turned_into_float_where_int8_is_slow(
    tmp_path: Path, int8: bytes
) -> None:
    model = quantise(network(), [PICTURES])
    backbone = stored(tmp_path, model, precision="int8")

    assert not choose(backbone, "auto", FAST).convert
    assert choose(backbone, "auto", SLOW).convert
    assert choose(backbone, "fp32", FAST).convert


def test_an_int8_reference_and_its_float_network_embed_alike(tmp_path: Path) -> None:
    model = quantise(network(), [PICTURES])
    backbone = stored(tmp_path, model, precision="int8")

    int8 = OnnxEmbedder(backbone, threads=1, precision="int8").embed(PICTURES)
    fp32 = OnnxEmbedder(backbone, threads=1, precision="fp32").embed(PICTURES)

    assert compare(int8, fp32).cosine_mean > 0.999
    assert (int8 != fp32).any()


@pytest.mark.parametrize(
    ("line", "fast"),
    [
        ("flags\t\t: fpu avx2 avx512_vnni", True),
        ("flags\t\t: fpu avx_vnni", True),
        ("flags\t\t: fpu amx_int8", True),
        ("Features\t: fp asimd asimddp", True),
        ("flags\t\t: fpu avx2 fma", False),
        ("processor\t: 0", False),
    ],
)
def test_the_processors_flags_tell_whether_int8_is_fast(
    tmp_path: Path, line: str, fast: bool
) -> None:
    (tmp_path / "cpuinfo").write_text(f"vendor_id : Some\n{line}\n")

    support = int8_support(tmp_path / "cpuinfo")

    assert support.fast is fast
    assert support.reason


def test_where_nothing_is_known_int8_counts_as_slow(tmp_path: Path) -> None:
    support = int8_support(tmp_path / "nowhere")

    assert not support.fast
    assert "unknown" in support.reason
    assert has_vnni() is int8_support().fast
