"""Normalisation folded into the first convolution's quantisation.

A network begins ``x = factor * pixel + offset``. Quantised, its first convolution takes
``x = scale * (q - zero_point)`` with ``q`` in 0..255: with ``scale = factor`` and
``zero_point = -offset / factor`` the pixel itself is ``q``, and normalising costs
nothing. This is exact when all channels share factor and offset and the zero point is
a whole number, since then a padding of zeros is a padding of ``zero_point``.

Otherwise the channels' differences go into the weights and the bias:
``w * x = (w * factor / scale) * scale * (q - zero_point) + w * rest`` with
``rest = offset + factor * zero_point``. Where a kernel reaches over the border, the
padding would then stand for ``rest`` instead of zero, ten grey levels with ImageNet's
means; that alone cost 8 points of top-10 overlap on a 64-pixel network. So the pixels
get a frame of the colour that stands for zero, and the convolution pads no more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from lookalike.backbones.normalisation import (
    CHANNELS,
    Normalisation,
    find_normalisation,
)
from lookalike.backbones.wiring import (
    Wiring,
    attribute,
    replace_nodes,
    set_constant,
)

Pixels = npt.NDArray[np.uint8]  # [N, S, S, 3], RGB

WHOLE = 1e-3  # grey levels by which a zero point may miss a whole number
FRAME_OPSET = 18  # the first with BitwiseOr, which lays the frame


@dataclass(frozen=True)
class Frame:
    """What is laid around the pixels: its widths in pixels, and its colour."""

    top: int
    left: int
    bottom: int
    right: int
    colour: npt.NDArray[np.uint8]  # [3]

    def around(self, pixels: Pixels) -> Pixels:
        """The pixels in their frame."""
        framed = np.pad(pixels, self.widths)
        return framed | self.mask(pixels.shape[1])

    @property
    def widths(self) -> tuple[tuple[int, int], ...]:
        """Before and after, for each axis of ``[N, S, S, 3]``."""
        return (0, 0), (self.top, self.bottom), (self.left, self.right), (0, 0)

    def mask(self, side: int) -> Pixels:
        """The frame's colour around zeros: ``[1, S + widths, S + widths, 3]``."""
        inner = np.zeros((1, side, side, CHANNELS), bool)
        inside = np.pad(~inner, self.widths)
        return np.where(inside, np.uint8(0), self.colour)


@dataclass(frozen=True)
class Folded:
    """A network without its normalisation, and what takes its place.

    ``model`` takes the float tensor ``tensor`` ``[N, 3, h, w]``, which is
    ``scale * (pixel - zero_point)`` of the pixels, in their frame if there is one.
    """

    model: onnx.ModelProto
    tensor: str
    scale: np.float32
    zero_point: np.uint8
    frame: Frame | None
    note: str  # how true it is, in words

    def input_of(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        """What ``model`` takes for squares of pixels."""
        framed = pixels if self.frame is None else self.frame.around(pixels)
        levels = framed.transpose(0, 3, 1, 2).astype(np.float32)
        return (levels - np.float32(self.zero_point)) * self.scale


def fold(model: onnx.ModelProto) -> Folded | None:
    """The network with its normalisation folded away; None where none is recognised.

    What is recognised: ``find_normalisation``.
    """
    found = find_normalisation(model.graph)
    if found is None:
        return None
    scale = np.float32(found.factor.mean())
    wanted = -found.offset / found.factor
    zero_point = np.uint8(np.clip(np.rint(wanted.mean()), 0, 255))
    alike = np.ptp(found.factor) == 0
    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    frame, note = None, "exact"
    if not alike or (np.abs(wanted - zero_point) >= WHOLE).any():
        frame, note = _frame(folded, found)
        rest = found.offset + found.factor * float(zero_point)
        for node in found.convolutions:
            _reweigh(folded.graph, node, found.factor / float(scale), rest)
    _begin_at(folded.graph, found, frame)
    return Folded(folded, found.tensor, scale, zero_point, frame, note)


def take_pixels(
    model: onnx.ModelProto, folded: Folded, images: onnx.ValueInfoProto
) -> None:
    """Give a quantised network its input ``images`` back, uint8 ``[N, S, S, 3]``.

    The quantisation of ``folded.tensor`` is replaced by the pixels, framed and
    transposed.
    """
    graph = model.graph
    (quantised,) = (
        node
        for node in graph.node
        if node.op_type == "QuantizeLinear" and node.input[0] == folded.tensor
    )
    nodes, pixels = [], images.name
    if folded.frame is not None:
        side = images.type.tensor_type.shape.dim[1].dim_value
        before, after = zip(*folded.frame.widths, strict=True)
        set_constant(graph, "frame/widths", np.array([*before, *after], np.int64))
        set_constant(graph, "frame/mask", folded.frame.mask(side))
        nodes = [
            helper.make_node("Pad", [pixels, "frame/widths"], ["frame/room"], "room"),
            helper.make_node(
                "BitwiseOr", ["frame/room", "frame/mask"], ["framed"], "frame"
            ),
        ]
        pixels = "framed"
    transposed = helper.make_node(
        "Transpose", [pixels], list(quantised.output), "pixels", perm=[0, 3, 1, 2]
    )
    kept = [node for node in graph.node if node != quantised]
    replace_nodes(graph, [*nodes, transposed, *kept])
    graph.input[0].CopyFrom(images)


def _frame(model: onnx.ModelProto, found: Normalisation) -> tuple[Frame | None, str]:
    """The frame in place of the convolution's own padding, which is taken from it."""
    graph = model.graph
    names = {node.output[0] for node in found.convolutions}
    convolutions = [node for node in graph.node if node.output[0] in names]
    pads = {tuple(attribute(node, "pads", (0, 0, 0, 0))) for node in convolutions}
    automatic = {attribute(node, "auto_pad", b"NOTSET") for node in convolutions}
    if automatic == {b"NOTSET"} and pads == {(0, 0, 0, 0)}:
        return None, "exact"
    opset = max(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    if automatic != {b"NOTSET"} or len(pads) != 1 or opset < FRAME_OPSET:
        return None, "exact but at the border"
    for node in convolutions:
        kept = [a for a in node.attribute if a.name != "pads"]
        del node.attribute[:]
        node.attribute.extend(kept)
    colour = np.clip(np.rint(-found.offset / found.factor), 0, 255).astype(np.uint8)
    top, left, bottom, right = pads.pop()
    return Frame(top, left, bottom, right, colour), "exact, framed"


def _begin_at(
    graph: onnx.GraphProto, found: Normalisation, frame: Frame | None
) -> None:
    """Drop what normalises; what it gave is the input now."""
    gone = {node.output[0] for node in found.nodes}
    replace_nodes(graph, [node for node in graph.node if node.output[0] not in gone])
    side = graph.input[0].type.tensor_type.shape.dim[1].dim_value
    height = side if frame is None else side + frame.top + frame.bottom
    width = side if frame is None else side + frame.left + frame.right
    graph.input[0].CopyFrom(
        helper.make_tensor_value_info(
            found.tensor, TensorProto.FLOAT, ["N", CHANNELS, height, width]
        )
    )


def _reweigh(
    graph: onnx.GraphProto,
    convolution: onnx.NodeProto,
    factor: npt.NDArray[np.float64],
    rest: npt.NDArray[np.float64],
) -> None:
    """Multiply weights by channel; the bias takes what they make of ``rest``."""
    wiring = Wiring(graph)
    (node,) = (n for n in graph.node if n.output[0] == convolution.output[0])
    weight = wiring.constant(node.input[1])
    assert weight is not None  # _takes_channels saw it
    added = np.einsum("ochw,c->o", weight.astype(np.float64), rest)
    bias = wiring.constant(node.input[2]) if len(node.input) > 2 else None
    name = node.output[0]
    set_constant(
        graph,
        f"{name}/weight",
        (weight * factor[:, None, None]).astype(np.float32),
    )
    set_constant(
        graph,
        f"{name}/bias",
        (added if bias is None else bias + added).astype(np.float32),
    )
    del node.input[1:]
    node.input.extend([f"{name}/weight", f"{name}/bias"])
