"""Proof that a network keeps the contract: it is run on two pictures.

Together and one by one, so that a network which only works for one batch size, or
mixes the pictures of a batch, is found before anything is embedded with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lookalike.errors import Misconfigured

if TYPE_CHECKING:
    import onnx

CODE = "backbone_refused"

_SAME = 1e-3  # int8 networks round differently in batches; measured well below this


def two_pictures(side: int) -> npt.NDArray[np.uint8]:
    """Two different pictures, the same every time: uint8 ``[2, side, side, 3]``.

    One of soft colours that run into each other, one of coloured tiles.
    """
    ramp = np.linspace(0, 255, side)
    soft = np.stack(
        [
            np.broadcast_to(ramp, (side, side)),
            np.broadcast_to(ramp[:, None], (side, side)),
            (ramp + ramp[:, None]) / 2,
        ],
        axis=2,
    )
    tiles = np.random.default_rng(0).integers(0, 256, (8, 8, 3))
    places = np.arange(side) * 8 // side
    return np.stack([soft, tiles[places][:, places]]).astype(np.uint8)


Inputs = Mapping[str, npt.NDArray[Any]]
Run = Callable[[Inputs, list[str]], list[npt.NDArray[Any]]]


def opened(model: onnx.ModelProto) -> Run:
    """A function that gives what a model answers, by ONNX Runtime on the CPU.

    It takes the inputs by name and the names of the outputs, and raises Misconfigured
    if the model cannot be run with them.

    Raises:
        Misconfigured: the model cannot be loaded.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is in the exception
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's errors share no class of their own
        raise _refused(f"cannot be loaded by ONNX Runtime: {error}") from error

    def run(inputs: Inputs, names: list[str]) -> list[npt.NDArray[Any]]:
        try:
            return [np.asarray(one) for one in session.run(names, inputs)]
        except Exception as error:  # as above
            raise _refused(f"cannot be run by ONNX Runtime: {error}") from error

    return run


def prove(model: onnx.ModelProto, side: int) -> int:
    """The length of the vectors of a network that keeps the contract.

    Raises:
        Misconfigured: it does not; the message says in what.
    """
    pictures = two_pictures(side)
    run = opened(model)
    (together,) = run({"images": pictures}, ["embedding"])
    if together.ndim != 2 or len(together) != 2 or together.dtype != np.float32:
        raise _refused(
            f"answers {together.dtype} {list(together.shape)} for two pictures instead "
            "of two float32 vectors"
        )
    if not (np.abs(np.linalg.norm(together, axis=1) - 1) < 1e-3).all():
        raise _refused("answers vectors that are not of unit length")
    apart = [run({"images": one[None]}, ["embedding"])[0] for one in pictures]
    if np.abs(np.concatenate(apart) - together).max() > _SAME:
        raise _refused("answers otherwise for a picture in a batch than for it alone")
    if np.array_equal(together[0], together[1]):
        raise _refused("answers the same vector for different pictures")
    return int(together.shape[1])


def _refused(reason: str) -> Misconfigured:
    return Misconfigured(f"the network {reason}", code=CODE)
