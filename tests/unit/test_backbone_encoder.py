from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from encoders import CHANNELS, CLASSES, SIDE, encoder
from lookalike.backbones.encoder import Wishes, Wrapped, wrap
from lookalike.backbones.graph import Normalisation
from lookalike.backbones.proof import prove, two_pictures
from lookalike.errors import Misconfigured

Array = npt.NDArray[np.float32]

PLAIN = Normalisation((0, 0, 0), (1, 1, 1))


def answers(wrapped: Wrapped) -> dict[str, Array]:
    session = onnxruntime.InferenceSession(
        wrapped.model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    images = two_pictures(wrapped.side)
    return dict(zip(names, session.run(names, {"images": images}), strict=True))


def plainly(
    model: onnx.ModelProto, tensor: str, pixels: npt.NDArray[np.float64]
) -> Array:
    """What the encoder itself makes of planes that are ready for it."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.add(name=tensor)
    session = onnxruntime.InferenceSession(
        copy.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (answer,) = session.run([tensor], {"x": pixels.astype(np.float32)})
    return np.asarray(answer)


def unit(rows: Array) -> Array:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def imagenet(pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return np.asarray(((pictures / 255 - mean) / std).transpose(0, 3, 1, 2))


def test_a_vector_becomes_the_embedding_and_what_was_pooled_the_feature_map() -> None:
    model = encoder(head="vector")

    wrapped = wrap(model, Wishes())

    got = answers(wrapped)
    planes = imagenet(two_pictures(SIDE))
    assert (wrapped.side, wrapped.dimension) == (SIDE, CHANNELS)
    assert (wrapped.output, wrapped.feature_map) == ("vector", "features")
    expected = unit(plainly(model, "vector", planes))
    np.testing.assert_allclose(got["embedding"], expected, atol=1e-5)
    expected = plainly(model, "features", planes).transpose(0, 2, 3, 1)
    np.testing.assert_allclose(got["feature_map"], expected, rtol=2e-3, atol=2e-3)
    assert got["feature_map"].dtype == np.float16


@pytest.mark.parametrize("head", ["map", "pooled", "reshaped"])
def test_a_map_is_averaged_however_it_comes(head: str) -> None:
    model = encoder(head=head, shape=[1, 3, SIDE, SIDE])

    wrapped = wrap(model, Wishes())

    free = encoder(head="vector")
    expected = unit(plainly(free, "vector", imagenet(two_pictures(SIDE))))
    np.testing.assert_allclose(answers(wrapped)["embedding"], expected, atol=1e-5)
    assert wrapped.feature_map == "features"


def test_the_layer_before_a_classifier_can_be_named() -> None:
    wrapped = wrap(encoder(head="classes"), Wishes(output="vector"))

    assert wrapped.dimension == CHANNELS
    assert "MatMul" not in {node.op_type for node in wrapped.model.graph.node}
    assert not any("head" in w.name for w in wrapped.model.graph.initializer)
    assert prove(wrapped.model, SIDE) == CHANNELS


def test_what_is_flattened_is_a_feature_map_too() -> None:
    wrapped = wrap(encoder(head="flat"), Wishes())

    assert wrapped.dimension == CHANNELS * SIDE * SIDE
    assert wrapped.feature_map == "features"


def test_a_feature_map_can_be_named() -> None:
    wrapped = wrap(encoder(head="vector"), Wishes(feature_map="conv"))

    assert wrapped.feature_map == "conv"
    assert answers(wrapped)["feature_map"].min() < 0  # as before the ReLU


@pytest.mark.parametrize(
    ("wishes", "prepare"),
    [
        (Wishes(normalisation=PLAIN), lambda p: p / 255),
        (Wishes(normalisation=PLAIN, brightest=255), lambda p: p / 1),
        (Wishes(normalisation=PLAIN, colour="bgr"), lambda p: p[..., ::-1] / 255),
        (
            Wishes(
                normalisation=Normalisation((103.939, 116.779, 123.68), (1, 1, 1)),
                brightest=255,
                colour="bgr",
            ),
            lambda p: p[..., ::-1] - np.array([103.939, 116.779, 123.68]),
        ),
    ],
)
def test_pictures_are_prepared_as_asked_for(wishes: Wishes, prepare: object) -> None:
    assert callable(prepare)
    model = encoder(head="vector")

    got = answers(wrap(model, wishes))["embedding"]

    planes = prepare(two_pictures(SIDE).astype(np.float64)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(got, unit(plainly(model, "vector", planes)), atol=1e-5)


def nhwc(kind: int) -> onnx.ModelProto:
    """The same encoder as TensorFlow's tools write it: it turns the axes itself."""
    model = encoder(head="vector", shape=["n", 3, SIDE, SIDE])
    graph = model.graph
    graph.node[0].input[0] = "turned"
    turn = helper.make_node("Transpose", ["wide"], ["turned"], perm=[0, 3, 1, 2])
    cast = helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.FLOAT)
    body = [onnx.NodeProto.FromString(n.SerializeToString()) for n in graph.node]
    del graph.node[:]
    graph.node.extend([cast, turn, *body])
    del graph.input[:]
    shape = [None, SIDE, SIDE, 3]
    graph.input.append(helper.make_tensor_value_info("x", kind, shape))
    return model


def test_a_network_of_the_other_layout_is_fed_in_its_own() -> None:
    got = answers(wrap(nhwc(TensorProto.FLOAT), Wishes()))["embedding"]

    planes = imagenet(two_pictures(SIDE))
    expected = unit(plainly(encoder(head="vector"), "vector", planes))
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_a_network_that_takes_bytes_gets_them_as_they_are() -> None:
    got = answers(wrap(nhwc(TensorProto.UINT8), Wishes()))["embedding"]

    planes = two_pictures(SIDE).transpose(0, 3, 1, 2).astype(np.float64)
    expected = unit(plainly(encoder(head="vector"), "vector", planes))
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_a_network_of_half_precision_answers_in_float() -> None:
    wrapped = wrap(encoder(head="vector", kind=TensorProto.FLOAT16), Wishes())

    got = answers(wrapped)

    assert got["embedding"].dtype == np.float32
    assert prove(wrapped.model, SIDE) == CHANNELS


@pytest.mark.parametrize("opset", [9, 13, 18, 21])
def test_old_and_new_operators_are_understood(opset: int) -> None:
    wrapped = wrap(encoder(head="map", opset=opset), Wishes())

    assert prove(wrapped.model, SIDE) == CHANNELS


def test_a_network_for_any_size_gets_the_one_asked_for() -> None:
    model = encoder(head="vector", shape=["n", 3, "h", "w"])

    wrapped = wrap(model, Wishes(side=24))

    assert wrapped.side == 24
    assert answers(wrapped)["feature_map"].shape == (2, 24, 24, CHANNELS)


@pytest.mark.parametrize(
    ("model", "wishes", "reason"),
    [
        (encoder(), Wishes(output="nothing"), r"no tensor 'nothing'.*classes, vector"),
        (encoder(), Wishes(feature_map="nothing"), "no tensor 'nothing'"),
        (encoder(head="two"), Wishes(), "2 outputs.*--output: vector, classes"),
        (encoder(head="tokens"), Wishes(), r"\[N, 6, 256\].*--output"),
        (encoder(), Wishes(feature_map="vector"), r"shape \[N, 6\].*4 axes"),
        (encoder(), Wishes(side=20), "16 pixels wide, not 20"),
        (encoder(shape=["n", 3, "h", "w"]), Wishes(), "give one with --side"),
        (encoder(shape=["n", 3, 16, 20]), Wishes(), "16 x 20; squares"),
        (encoder(shape=["n", 3, 16]), Wishes(), "3 axes"),
        (encoder(shape=["n", "c", "h", "w"]), Wishes(), "--layout"),
        (encoder(kind=TensorProto.DOUBLE), Wishes(), "float32, float16, uint8"),
        (encoder(opset=6), Wishes(), "opset 6; 7 or newer"),
        (
            nhwc(TensorProto.UINT8),
            Wishes(normalisation=PLAIN),
            "drop --mean, --std",
        ),
    ],
)
def test_what_cannot_be_added_is_refused_with_its_reason(
    model: onnx.ModelProto, wishes: Wishes, reason: str
) -> None:
    with pytest.raises(Misconfigured, match=reason) as caught:
        wrap(model, wishes)

    assert caught.value.code == "backbone_refused"


def test_a_batch_that_is_fixed_for_good_is_refused() -> None:
    model = encoder(head="vector", shape=[1, 3, SIDE, SIDE])
    token = numpy_helper.from_array(np.ones((1, 2), np.float32), "token")
    model.graph.initializer.append(token)
    joined = helper.make_node("Concat", ["token", "vector"], ["joined"], axis=1)
    model.graph.node.append(joined)

    with pytest.raises(Misconfigured, match="export it again with a dynamic"):
        wrap(model, Wishes(output="joined"))


def test_a_block_that_weighs_channels_is_not_taken_for_the_end() -> None:
    model = encoder(head="vector")
    graph = model.graph
    extra = [
        helper.make_node("GlobalAveragePool", ["features"], ["squeezed"]),
        helper.make_node("Mul", ["features", "squeezed"], ["weighed"]),
    ]
    graph.node[2].input[0] = "weighed"
    body = [onnx.NodeProto.FromString(n.SerializeToString()) for n in graph.node]
    del graph.node[:]
    graph.node.extend([*body[:2], *extra, *body[2:]])

    assert wrap(model, Wishes()).feature_map == "weighed"


def constant_answer() -> onnx.ModelProto:
    model = wrap(encoder(head="vector"), Wishes()).model
    (scaling,) = [n for n in model.graph.node if "embedding" in n.output]
    zero = numpy_helper.from_array(np.zeros(1, np.float32), "zero")
    one = numpy_helper.from_array(np.ones(1, np.float32), "one")
    model.graph.initializer.extend([zero, one])
    inner = scaling.input[0]
    at = list(model.graph.node).index(scaling)
    model.graph.node.insert(at, helper.make_node("Mul", [inner, "zero"], ["none"]))
    model.graph.node.insert(at + 1, helper.make_node("Add", ["none", "one"], ["all"]))
    model.graph.node[at + 2].input[0] = "all"
    return model


def test_a_network_that_answers_everything_alike_is_refused() -> None:
    with pytest.raises(Misconfigured, match="the same vector for different pictures"):
        prove(constant_answer(), SIDE)


def test_classes_are_no_embedding_but_may_be_asked_for() -> None:
    assert wrap(encoder(), Wishes()).dimension == CLASSES
