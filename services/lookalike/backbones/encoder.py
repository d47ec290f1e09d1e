"""Any ONNX image encoder made into a backbone, by surgery on its graph.

Before it: pixels are cast, turned and normalised as it expects them. Behind it: what
it makes of a picture becomes one vector of unit length, and the map it pools, where
one is found, the second output. Ranks are taken from a run, not from what the file
says, because many files say nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from lookalike.backbones import surgery
from lookalike.backbones.graph import Normalisation, checked, with_output_shapes
from lookalike.backbones.proof import CODE, opened
from lookalike.errors import Misconfigured

if TYPE_CHECKING:
    import onnx

Layout = Literal["nchw", "nhwc"]
Colour = Literal["rgb", "bgr"]

OLDEST_OPSET = 7  # the first whose arithmetic broadcasts

_PREFIX = "encoder/"
_TRIED = 8  # poolings looked at, from the end
_POOLS = ("GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "Flatten")


@dataclass(frozen=True)
class Wishes:
    """What a network expects and where its vector is; None means: find out.

    ``normalisation`` counts in pixels of 0 to ``brightest`` and in the order of the
    network's channels. ``output`` and ``feature_map`` may be any tensor in the graph,
    not only an output: the layer before a classifier, say.
    """

    side: int | None = None
    layout: Layout | None = None
    colour: Colour = "rgb"
    normalisation: Normalisation | None = None
    brightest: int = 1
    output: str | None = None
    feature_map: str | None = None


@dataclass(frozen=True)
class Wrapped:
    """A network that keeps the contract, and what was found out about it."""

    model: onnx.ModelProto
    side: int
    dimension: int
    output: str
    feature_map: str | None


@dataclass(frozen=True)
class _Input:
    name: str
    number: int  # ONNX's number of its type
    layout: Layout
    side: int


def load_encoder(path: Path) -> onnx.ModelProto:
    """An ONNX file, with the weights that lie in files beside it.

    Raises:
        Misconfigured: it is none, or cannot be read.
    """
    import onnx

    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's, onnx's and the system's
        raise Misconfigured(f"{path} is no ONNX file: {error}", code=CODE) from error
    if not model.graph.node:
        raise Misconfigured(f"{path} is no ONNX file: it holds no network", code=CODE)
    return model


def wrap(encoder: onnx.ModelProto, wishes: Wishes) -> Wrapped:
    """An encoder as a network that keeps the contract of a backbone.

    Raises:
        Misconfigured: it is no image encoder, what is wished is not in it, or its
            batch is fixed for good.
    """
    opset = surgery.opset(encoder)
    if opset < OLDEST_OPSET:
        raise _refused(
            f"it is of opset {opset}; {OLDEST_OPSET} or newer is needed. Export it "
            "again, or convert it with onnx.version_converter."
        )
    source = _input(encoder, wishes)
    free = surgery.with_free_batch(encoder, source.name)
    output = wishes.output or _only_output(free)
    surgery.require_tensor(free, output)
    maps = surgery.pooled(free, output, _POOLS)[:_TRIED]
    if wishes.feature_map is not None:
        surgery.require_tensor(free, wishes.feature_map)
        maps = [wishes.feature_map]
    shapes = _shapes(free, source, list(dict.fromkeys([output, *maps])))
    feature_map = _feature_map(wishes, shapes, [output, *maps])
    model = _assembled(free, source, wishes, output, feature_map, shapes)
    vector = model.graph.output[0].type.tensor_type
    dimension = vector.shape.dim[1].dim_value
    return Wrapped(model, source.side, dimension, output, feature_map)


def _feature_map(
    wishes: Wishes, shapes: dict[str, tuple[int, ...]], names: list[str]
) -> str | None:
    """The wished map, or the first of these that is one; None if none is."""
    wished = wishes.feature_map
    if wished is None:
        return next((name for name in names if _is_map(shapes[name])), None)
    if not _is_map(shapes[wished]):
        raise _refused(
            f"its {wished} has shape {_shown(shapes[wished])}; a feature map has 4 "
            "axes and more than one place"
        )
    return wished


# --- what goes in --------------------------------------------------------------------


def _input(encoder: onnx.ModelProto, wishes: Wishes) -> _Input:
    weights = {weight.name for weight in encoder.graph.initializer}
    found = [value for value in encoder.graph.input if value.name not in weights]
    if len(found) != 1:
        names = ", ".join(value.name for value in found) or "none"
        raise _refused(f"an image encoder has one input; it has {names}")
    kind = found[0].type.tensor_type
    sides = [side.dim_value for side in kind.shape.dim]
    allowed = {1: "float32", 10: "float16", 2: "uint8"}
    if len(sides) != 4 or kind.elem_type not in allowed:
        raise _refused(
            f"its input {found[0].name} has {len(sides)} axes of type "
            f"{kind.elem_type}; 4 axes of {', '.join(allowed.values())} are needed"
        )
    layout = wishes.layout or _layout(sides)
    height, width = sides[2:] if layout == "nchw" else sides[1:3]
    if height != width and height and width:
        raise _refused(f"its pictures are {height} x {width}; squares are needed")
    fixed = height or width
    if fixed and wishes.side and fixed != wishes.side:
        raise _refused(f"its pictures are {fixed} pixels wide, not {wishes.side}")
    side = wishes.side or fixed
    if not side:
        raise _refused("it takes pictures of any size; give one with --side")
    return _Input(found[0].name, kind.elem_type, layout, side)


def _layout(sides: list[int]) -> Layout:
    if sides[1] == 3 and sides[3] != 3:
        return "nchw"
    if sides[3] == 3 and sides[1] != 3:
        return "nhwc"
    raise _refused("its order of axes is not clear; give it with --layout")


# --- what comes out ------------------------------------------------------------------


def _only_output(encoder: onnx.ModelProto) -> str:
    names = [value.name for value in encoder.graph.output]
    if len(names) != 1:
        raise _refused(
            f"it has {len(names)} outputs; name one with --output: {', '.join(names)}"
        )
    return str(names[0])


def _shapes(
    encoder: onnx.ModelProto, source: _Input, names: list[str]
) -> dict[str, tuple[int, ...]]:
    """The shapes of tensors for a batch of two, seen in a run.

    The first is the one that becomes the vector, so it is looked at more closely.
    """
    side = source.side
    shape = (2, 3, side, side) if source.layout == "nchw" else (2, side, side, 3)
    kinds = {1: np.float32, 10: np.float16, 2: np.uint8}
    batch = np.random.default_rng(0).integers(0, 2, shape).astype(kinds[source.number])
    try:
        run = opened(surgery.ending_with(encoder, names))
        answers = run({source.name: batch}, names)
    except Misconfigured as error:
        raise _refused(
            f"it does not run for two pictures at once ({error.detail}). If its batch "
            "is fixed, export it again with a dynamic one."
        ) from error
    found = answers[0]
    if found.shape[:1] != (2,):
        raise _refused(
            f"its {names[0]} has shape {list(found.shape)} for two pictures; its first "
            "axis must be the batch. Export it again with a dynamic batch."
        )
    if found.dtype not in (np.float32, np.float16):
        raise _refused(f"its {names[0]} holds {found.dtype}, not floats")
    return {name: answer.shape for name, answer in zip(names, answers, strict=True)}


def _is_map(shape: tuple[int, ...]) -> bool:
    if len(shape) != 4 or shape[0] != 2:
        return False
    first, second = surgery.places(shape)
    return shape[first] * shape[second] > 1


def _shown(shape: tuple[int, ...]) -> str:
    return str(["N", *shape[1:]]).replace("'", "")


# --- the whole -----------------------------------------------------------------------


def _assembled(
    encoder: onnx.ModelProto,
    source: _Input,
    wishes: Wishes,
    output: str,
    feature_map: str | None,
    shapes: dict[str, tuple[int, ...]],
) -> onnx.ModelProto:
    from onnx import TensorProto, compose

    wanted = [output] if feature_map in (None, output) else [output, str(feature_map)]
    body = compose.add_prefix(surgery.ending_with(encoder, wanted), _PREFIX)
    del body.graph.output[:]
    seam = surgery.Seam(body, surgery.opset(encoder))
    pixels = _pixels(seam, source, wishes)
    seam.replace_input(_PREFIX + source.name, pixels, source.side)
    vector = _vector(seam, _PREFIX + output, shapes[output])
    vector = seam.last("Cast", [vector], to=TensorProto.FLOAT)
    seam.last("LpNormalization", [vector], "embedding", axis=1, p=2)
    seam.output("embedding", TensorProto.FLOAT)
    if feature_map is not None:
        half = seam.last("Cast", [_PREFIX + feature_map], to=TensorProto.FLOAT16)
        is_nchw = surgery.places(shapes[feature_map]) == (2, 3)
        order = [0, 2, 3, 1] if is_nchw else [0, 1, 2, 3]
        seam.last("Transpose", [half], "feature_map", perm=order)
        seam.output("feature_map", TensorProto.FLOAT16)
    return checked(with_output_shapes(seam.model))


def _pixels(seam: surgery.Seam, source: _Input, wishes: Wishes) -> str:
    """Nodes from ``images`` to what the encoder takes; gives the last one's output."""
    from onnx import TensorProto

    x = "images"
    is_raw = source.number == TensorProto.UINT8
    if not is_raw:
        # First, because TensorRT does nothing else with bytes.
        x = seam.first("Cast", [x], to=TensorProto.FLOAT)
    if wishes.colour == "bgr":
        order = seam.constant(np.array([2, 1, 0], np.int64))
        x = seam.first("Gather", [x, order], axis=3)
    if source.layout == "nchw":
        x = seam.first("Transpose", [x], perm=[0, 3, 1, 2])
    normalisation = wishes.normalisation or (None if is_raw else Normalisation())
    if normalisation is not None:
        if is_raw:
            raise _refused("it takes bytes and normalises itself: drop --mean, --std")
        factor = 255 / wishes.brightest
        shape = (1, 3, 1, 1) if source.layout == "nchw" else (1, 1, 1, 3)
        for operator, values in (
            ("Sub", normalisation.mean),
            ("Div", normalisation.std),
        ):
            scaled = (np.array(values, np.float64) * factor).astype(np.float32)
            x = seam.first(operator, [x, seam.constant(scaled.reshape(shape))])
    if source.number == TensorProto.FLOAT16:
        x = seam.first("Cast", [x], to=TensorProto.FLOAT16)
    return x


def _vector(seam: surgery.Seam, tensor: str, shape: tuple[int, ...]) -> str:
    """One row of numbers a picture: as it is, or the mean over the places of a map."""
    if len(shape) == 2:
        return tensor
    if len(shape) != 4:
        raise _refused(
            f"its {tensor.removeprefix(_PREFIX)} has shape {_shown(shape)}; a vector a "
            "picture (2 axes) or a map to be averaged (4 axes) is needed. Name another "
            "tensor with --output."
        )
    if _is_map(shape):
        tensor = seam.mean(tensor, surgery.places(shape))
    return seam.last("Flatten", [tensor], axis=1)


def _refused(reason: str) -> Misconfigured:
    return Misconfigured(f"the network cannot be added: {reason}", code=CODE)
