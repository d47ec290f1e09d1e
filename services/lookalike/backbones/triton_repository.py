"""A backbone as a model of Triton: its configurations, and the code beside them.

One folder serves three ways to run it; Triton picks by ``--model-config-name``:

=================== ==================================================================
``config.pbtxt``    TensorRT on a GPU; ``1/model.plan`` is built on the target
``onnxruntime``     ``configs/onnxruntime.pbtxt``: Triton's ONNX Runtime, on the CPU
``python``          ``configs/python.pbtxt``: ONNX Runtime in the Python backend
=================== ==================================================================

Every configuration carries the backbone's fingerprint; clients refuse another.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lookalike.backbones import MANIFEST, Backbone, digest_of_file
from lookalike.errors import Misconfigured

if TYPE_CHECKING:
    import onnx

Chosen = Literal["auto", "fp32", "int8"]

MAX_BATCH = 64  # images in one run; a chunk of work is at most about that
PREFERRED = (32, 64)  # what the TensorRT plan is best at, see infra/triton/build-plan
QUEUE_DELAY_MICROSECONDS = 1_000  # a request waits this long for company
QUEUE_SIZE = 256  # waiting requests; one more is refused at once
QUEUE_TIMEOUT_MICROSECONDS = 10_000_000  # clients ask for less, never for more
TYPES = {1: "TYPE_FP32", 2: "TYPE_UINT8", 10: "TYPE_FP16"}  # by ONNX's number

_HEAD = """\
# Written by `lookalike backbone build {name}`; edit that, not this.
# {about}
name: "{name}"
backend: "{backend}"
default_model_filename: "{file}"
max_batch_size: {max_batch}
version_policy {{ latest {{ num_versions: 1 }} }}
"""

_TENSOR = """\
{kind} [
  {{
    name: "{name}"
    data_type: {type}
    dims: [ {dims} ]
  }}
]
"""

_SCHEDULING = """\
instance_group [ {{ count: {instances} kind: {where} }} ]

# Requests of several clients run together. Single pictures, which someone waits for,
# come with priority 1 and pass the batches of an ingestion. What does not fit into the
# queue, or waited longer than its client does, is refused instead of piling up.
dynamic_batching {{
  preferred_batch_size: [ {preferred} ]
  max_queue_delay_microseconds: {delay}
  priority_levels: 2
  default_priority_level: 2
  default_queue_policy {{
    timeout_action: REJECT
    default_timeout_microseconds: {timeout}
    allow_timeout_override: true
    max_queue_size: {queue}
  }}
}}
"""

_WARM_UP = """\
model_warmup [
  {{
    name: "{label}"
    batch_size: {batch}
    inputs {{
      key: "images"
      value {{ data_type: TYPE_UINT8 dims: [ {dims} ] random_data: true }}
    }}
  }}
]
"""

_PARAMETER = 'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}\n'


def build(backbone: Backbone, repository: Path, *, precision: Chosen = "auto") -> Path:
    """The model's folder in a repository of Triton, written anew.

    Weights and manifest are copied there unless the backbone lies there already.
    ``1/model.plan``, if there is one, is left as it is.

    Args:
        backbone: what to serve; its name is the model's name.
        repository: the folder that ``tritonserver --model-repository`` gets.
        precision: what the Python backend computes in.

    Raises:
        Misconfigured: the folder cannot be written, or the network is no backbone.
    """
    folder = repository / backbone.name
    texts = render(backbone, precision=precision)
    try:
        _copy(backbone, folder)
        for name, text in texts.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Misconfigured(f"{folder} cannot be written: {error}") from error
    return folder


def render(backbone: Backbone, *, precision: Chosen = "auto") -> dict[str, str]:
    """The text of each file of the model that is not the backbone itself, by path.

    Raises:
        Misconfigured: the network's file cannot be read.
    """
    return {
        "config.pbtxt": _tensorrt(backbone),
        "configs/onnxruntime.pbtxt": _onnxruntime(backbone),
        "configs/python.pbtxt": _python(backbone, precision),
        "1/model.py": Path(__file__).with_name("triton_model.py").read_text("utf-8"),
    }


# --- the three configurations --------------------------------------------------------


def _tensorrt(backbone: Backbone) -> str:
    network = _Network(backbone)
    return (
        _head(backbone, "tensorrt", "model.plan", "TensorRT, on a GPU.")
        + network.tensors
        + _scheduling(instances=2, where="KIND_GPU")
        + network.warm_up
        + _parameters({"fingerprint": backbone.fingerprint})
    )


def _onnxruntime(backbone: Backbone) -> str:
    network = _Network(backbone)
    file = backbone.model_path.name
    return (
        _head(backbone, "onnxruntime", file, "Triton's ONNX Runtime, on the CPU.")
        + network.tensors
        + _scheduling(instances=1, where="KIND_CPU")
        + network.warm_up
        + _parameters({"fingerprint": backbone.fingerprint})
    )


def _python(backbone: Backbone, precision: Chosen) -> str:
    network = _Network(backbone)
    about = "ONNX Runtime in Triton's Python backend, on the CPU."
    values = {
        "fingerprint": backbone.fingerprint,
        "precision": precision,
        "threads": "0",
        **_file("weights", backbone.directory, backbone.model_path),
        "weights_precision": backbone.precision,
    }
    if variant := backbone.variants.get("int8"):
        values |= _file("int8", backbone.directory, variant.checked_path())
    return (
        _head(backbone, "python", "model.py", about)
        + network.tensors
        + _scheduling(instances=2, where="KIND_CPU")
        + network.warm_up
        + "# threads: of one instance; 0 for all cores.\n"
        + _parameters(values)
    )


def _file(name: str, folder: Path, path: Path) -> dict[str, str]:
    inside = path.relative_to(folder).as_posix()
    return {f"{name}_file": inside, f"{name}_sha256": digest_of_file(path)}


def _head(backbone: Backbone, backend: str, file: str, about: str) -> str:
    return _HEAD.format(
        name=backbone.name,
        about=about,
        backend=backend,
        file=file,
        max_batch=MAX_BATCH,
    )


def _scheduling(*, instances: int, where: str) -> str:
    return _SCHEDULING.format(
        instances=instances,
        where=where,
        preferred=_listed(PREFERRED),
        delay=QUEUE_DELAY_MICROSECONDS,
        timeout=QUEUE_TIMEOUT_MICROSECONDS,
        queue=QUEUE_SIZE,
    )


def _parameters(values: Mapping[str, str]) -> str:
    return "".join(_PARAMETER.format(key=k, value=v) for k, v in values.items())


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


class _Network:
    """What a network's file says of its input and its outputs, as configuration."""

    def __init__(self, backbone: Backbone) -> None:
        import onnx

        try:
            graph = onnx.load(backbone.model_path).graph
        except Exception as error:  # protobuf's errors share no class with others
            raise Misconfigured(
                f"{backbone.model_path} is no ONNX file: {error}"
            ) from error
        side = backbone.geometry.side
        images = _tensor("input", "images", "TYPE_UINT8", (side, side, 3))
        outputs = [
            _tensor("output", value.name, *_kind(value.type.tensor_type))
            for value in graph.output
        ]
        self.tensors = "".join((images, *outputs))
        self.warm_up = "".join(
            _WARM_UP.format(label=label, batch=batch, dims=_listed((side, side, 3)))
            for label, batch in (("one picture", 1), ("a full batch", MAX_BATCH))
        )


def _tensor(kind: str, name: str, number: str, dims: Sequence[int]) -> str:
    return _TENSOR.format(kind=kind, name=name, type=number, dims=_listed(dims))


def _kind(tensor: onnx.TypeProto.Tensor) -> tuple[str, list[int]]:
    """Triton's type, and the extents of one picture; -1 for one that is not fixed."""
    dims = [dim.dim_value or -1 for dim in tensor.shape.dim][1:]
    return TYPES[tensor.elem_type], dims


# --- files ---------------------------------------------------------------------------


def _copy(backbone: Backbone, folder: Path) -> None:
    """Bring manifest and weights there, unless that is where they are."""
    if folder.resolve() == backbone.directory.resolve():
        return
    variants = [variant.checked_path() for variant in backbone.variants.values()]
    for path in (backbone.directory / MANIFEST, backbone.model_path, *variants):
        target = folder / path.relative_to(backbone.directory)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
