from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from lookalike.backbones.folding import fold, take_pixels
from lookalike.backbones.leaves import dead_leaves
from lookalike.backbones.parity import compare
from lookalike.backbones.precision import as_float, dequantised
from lookalike.backbones.quantise import folding_of, quantise
from lookalike.backbones.rounding import steady
from lookalike.backbones.wiring import Wiring
from lookalike.errors import Misconfigured
from small_network import EVEN, IMAGENET, Layout, network, run

PICTURES = np.concatenate(list(dead_leaves(96, 24, shots=4)))
OTHERS = np.concatenate(list(dead_leaves(64, 24, shots=4, seed=1)))
BATCHES = [PICTURES[start : start + 16] for start in range(0, 96, 16)]


def folded_only(model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
    """The network with its normalisation folded and nothing else quantised."""
    upgraded = onnx.version_converter.convert_version(model, 18)
    folded = fold(upgraded)
    assert folded is not None
    whole = onnx.ModelProto()
    whole.CopyFrom(folded.model)
    graph, x = whole.graph, folded.tensor
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(folded.scale), "s"),
            numpy_helper.from_array(np.array(folded.zero_point), "z"),
        ]
    )
    for node in graph.node:
        if node.input[0] == x:
            node.input[0] = "again"
    pair = [
        onnx.helper.make_node("QuantizeLinear", [x, "s", "z"], ["q"]),
        onnx.helper.make_node("DequantizeLinear", ["q", "s", "z"], ["again"]),
    ]
    nodes = [*pair, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    take_pixels(whole, folded, model.graph.input[0])
    return whole, folded.note


@pytest.mark.parametrize("layout", ["transpose-first", "normalise-first", "by-255"])
def test_one_whole_mean_for_all_channels_folds_exactly(layout: Layout) -> None:
    model = network(*EVEN, layout=layout)

    folded, note = folded_only(model)

    assert note == "exact"
    assert Counter(node.op_type for node in folded.graph.node)["Sub"] == 0
    expected, expected_map = run(model, OTHERS)
    answer, feature_map = run(folded, OTHERS)
    np.testing.assert_allclose(answer, expected, atol=2e-5)
    np.testing.assert_allclose(feature_map, expected_map, rtol=1e-3, atol=5e-3)


@pytest.mark.parametrize("layout", ["transpose-first", "normalise-first", "by-255"])
def test_a_mean_for_each_channel_folds_exactly_inside_a_frame(layout: Layout) -> None:
    model = network(*IMAGENET, layout=layout)

    folded, note = folded_only(model)

    assert note == "exact, framed"
    expected, _ = run(model, OTHERS)
    answer, _ = run(folded, OTHERS)
    # Half a grey level at the border is all that is lost.
    assert compare(expected, answer).cosine_min > 0.9999


def test_without_padding_a_mean_for_each_channel_needs_no_frame() -> None:
    model = network(*IMAGENET, padding=0)

    folded, note = folded_only(model)

    assert note == "exact"
    assert "Pad" not in {node.op_type for node in folded.graph.node}
    np.testing.assert_allclose(run(folded, OTHERS)[0], run(model, OTHERS)[0], atol=2e-5)


def test_the_frame_has_the_colour_that_stands_for_zero() -> None:
    model = onnx.version_converter.convert_version(network(*IMAGENET), 18)

    folded = fold(model)

    assert folded is not None
    assert folded.frame is not None
    framed = folded.frame.around(OTHERS[:1])
    assert framed.shape == (1, 26, 26, 3)
    assert framed[0, 0, 5].tolist() == [124, 116, 104]
    assert (framed[0, 1:-1, 1:-1] == OTHERS[0]).all()


def test_pixels_are_the_quantised_numbers_to_the_last_bit() -> None:
    made = quantise(network(*EVEN), BATCHES)
    normalising = onnx.ModelProto()
    normalising.CopyFrom(made)
    graph = normalising.graph
    (taken,) = (node for node in graph.node if "images" in node.input)
    (through,) = (node for node in graph.node if taken.output[0] in node.input)
    mean, std = (
        numpy_helper.from_array(np.array(v), n) for n, v in zip("ms", EVEN, strict=True)
    )
    steps = [
        onnx.helper.make_node("Cast", ["images"], ["f"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Transpose", ["f"], ["t"], perm=[0, 3, 1, 2]),
        onnx.helper.make_node("Sub", ["t", "m"], ["c"]),
        onnx.helper.make_node("Div", ["c", "s"], ["x"]),
        onnx.helper.make_node(
            "QuantizeLinear", ["x", *through.input[1:]], list(taken.output)
        ),
    ]
    nodes = [*steps, *(node for node in graph.node if node != taken)]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend([mean, std])

    answers = run(made, OTHERS)

    for answer, expected in zip(answers, run(normalising, OTHERS), strict=True):
        np.testing.assert_array_equal(answer, expected)


@pytest.mark.parametrize("constants", [EVEN, IMAGENET])
def test_an_int8_network_keeps_contract_and_vectors(
    constants: tuple[npt.ArrayLike, npt.ArrayLike],
) -> None:
    model = network(*constants)

    made = quantise(model, BATCHES)

    assert made.graph.input[0] == model.graph.input[0]
    assert [o.name for o in made.graph.output] == ["embedding", "feature_map"]
    expected, _ = run(model, OTHERS)
    answer, feature_map = run(made, OTHERS)
    assert compare(expected, answer).cosine_mean > 0.999
    np.testing.assert_allclose(np.linalg.norm(answer, axis=1), 1, atol=1e-5)
    assert feature_map.dtype == np.float16
    assert feature_map.shape == (64, 12, 12, 16)


def test_every_convolution_and_sum_runs_in_integers(tmp_path: Path) -> None:
    made = quantise(network(*EVEN), BATCHES)
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    session = onnxruntime.InferenceSession(
        made.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )

    session.run(None, {"images": OTHERS})

    events = json.loads(Path(session.end_profiling()).read_text())
    ran = Counter(
        event["args"]["op_name"]
        for event in events
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time")
    )
    assert ran["QLinearConv"] == 4
    assert ran["QLinearAdd"] == 1
    assert ran["Conv"] == ran["Add"] == ran["QuantizeLinear"] == 0


def test_quantising_twice_gives_the_same_file() -> None:
    model = network(*IMAGENET)

    made = [quantise(model, BATCHES).SerializeToString() for _ in range(2)]

    assert made[0] == made[1]


def test_an_unknown_normalisation_stays_in_float_and_is_said() -> None:
    model = network(*EVEN)
    (scaled,) = (node for node in model.graph.node if node.op_type == "Div")
    scaled.op_type = "Sub"
    crooked = onnx.helper.make_node("Tanh", ["crooked_in"], list(scaled.output))
    scaled.output[0] = "crooked_in"
    model.graph.node.insert(list(model.graph.node).index(scaled) + 1, crooked)

    made = quantise(model, BATCHES)

    assert folding_of(made) == "none"
    agreement = compare(run(model, OTHERS)[0], run(made, OTHERS)[0])
    assert agreement.cosine_mean > 0.99


def test_a_quantised_network_is_not_quantised_again() -> None:
    made = quantise(network(), BATCHES)

    with pytest.raises(Misconfigured, match="quantised already"):
        quantise(made, BATCHES)


@pytest.mark.parametrize("batches", [[], [PICTURES[:0]]])
def test_without_pictures_nothing_is_quantised(
    batches: list[npt.NDArray[np.uint8]],
) -> None:
    with pytest.raises(Misconfigured, match="no pictures"):
        quantise(network(), batches)


def test_no_network_is_refused(tmp_path: Path) -> None:
    model = network()
    model.graph.node[3].op_type = "NoSuchOperator"
    onnx.save(model, tmp_path / "broken.onnx")

    with pytest.raises(Misconfigured, match="ONNX Runtime cannot load"):
        quantise(tmp_path / "broken.onnx", BATCHES)


def test_the_float_network_of_an_int8_one_agrees_with_both() -> None:
    model = network(*IMAGENET)
    made = quantise(model, BATCHES)

    plain = as_float(made)

    onnx.checker.check_model(plain, full_check=True)
    kinds = {node.op_type for node in plain.graph.node}
    assert kinds.isdisjoint({"QuantizeLinear", "DequantizeLinear", "BitwiseOr"})
    answer, _ = run(plain, OTHERS)
    assert compare(run(made, OTHERS)[0], answer).cosine_mean > 0.999
    assert compare(run(model, OTHERS)[0], answer).cosine_min > 0.9999


def test_pixels_are_cast_before_anything_else_happens_to_them() -> None:
    plain = as_float(quantise(network(), BATCHES))

    (first,) = (node for node in plain.graph.node if "images" in node.input)

    assert first.op_type == "Cast"
    assert plain.graph.input[0] == network().graph.input[0]


def test_a_float_network_stays_as_it_is() -> None:
    model = network()

    assert as_float(model).SerializeToString() == model.SerializeToString()


def test_rounded_weights_keep_the_sum_of_every_kernel() -> None:
    weights = np.random.default_rng(0).normal(0, 1, (8, 5, 3, 3)).astype(np.float32)

    rounded = steady(weights)

    steps = np.abs(weights).max((1, 2, 3)) / 127
    lost = (rounded - weights).sum((2, 3)).cumsum(1) / steps[:, None]
    assert np.abs(lost).max() < 0.51
    assert (np.abs(rounded - weights) <= 1.001 * steps[:, None, None, None]).all()
    np.testing.assert_array_equal(steady(rounded), rounded)


def test_onnx_runtime_takes_the_rounded_weights_as_they_are() -> None:
    model = network(*EVEN)

    made = quantise(model, BATCHES)

    wiring = Wiring(made.graph)
    original = Wiring(model.graph)
    (node,) = (
        n
        for n in made.graph.node
        if n.op_type == "Conv" and n.input[1].startswith("first_weight")
    )
    maker = wiring.producer(node.input[1])
    assert maker is not None
    kept = dequantised(maker, wiring)
    weights = original.constant("first_weight")
    assert kept is not None
    assert weights is not None
    np.testing.assert_allclose(kept, steady(weights), rtol=1e-6)


def test_generated_pictures_are_always_the_same() -> None:
    again = np.concatenate(list(dead_leaves(96, 24, shots=4)))

    np.testing.assert_array_equal(again, PICTURES)
    assert not np.array_equal(next(dead_leaves(96, 24, seed=1)), PICTURES[:16])
    assert PICTURES.shape == (96, 24, 24, 3)
    assert PICTURES.dtype == np.uint8
