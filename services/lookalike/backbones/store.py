"""Where backbones that are not bundled are kept, and how one gets there: whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lookalike.backbones import (
    NAME,
    Backbone,
    Precision,
    digest_of_file,
    directories,
    read,
    write_manifest,
)
from lookalike.backbones.proof import prove
from lookalike.backbones.triton_repository import build
from lookalike.errors import Misconfigured
from lookalike.images import Geometry

if TYPE_CHECKING:
    import onnx

WEIGHTS = "1/model.onnx"


@dataclass(frozen=True)
class Description:
    """What a manifest says of a network that the network does not say itself.

    ``meaning`` is added to what the fingerprint covers; ``about`` is prose.
    """

    name: str
    geometry: Geometry
    precision: Precision = "fp32"
    version: str = "1"
    meaning: Mapping[str, object] = field(default_factory=dict)
    about: Mapping[str, object] = field(default_factory=dict)


def check_free(name: str, place: Path) -> None:
    """Return if a new backbone may get this name.

    Raises:
        Misconfigured: it cannot be a name, or another backbone has it.
    """
    if not NAME.fullmatch(name):
        raise Misconfigured(
            f"a backbone cannot be called {name!r}: use at most 64 lower-case letters, "
            "digits, '.', '_' and '-', a letter or digit first"
        )
    if (taken := directories([place]).get(name)) is not None:
        raise Misconfigured(
            f"there is a backbone {name!r} already, in {taken}. Choose another name "
            "with --name"
            + ("." if taken.parent != place else ", or remove that folder."),
            code="backbone_exists",
        )


def store(place: Path, model: onnx.ModelProto, description: Description) -> Backbone:
    """Keep a network as a backbone below ``place``, once it is proven to work.

    Raises:
        Misconfigured: the name is taken, the network does not keep the contract, or
            the folder cannot be written.
    """
    check_free(description.name, place)
    dimension = prove(model, description.geometry.side)
    with _staged(place, description.name) as directory:
        weights = directory / WEIGHTS
        weights.parent.mkdir(parents=True)
        weights.write_bytes(model.SerializeToString())
        manifest = {
            "name": description.name,
            "version": description.version,
            "side": description.geometry.side,
            "resize": description.geometry.resize,
            "filter": "bilinear",
            "dimension": dimension,
            "metric": "cosine",
            "outputs": _outputs(model, dimension),
            "weights": {
                "file": WEIGHTS,
                "sha256": digest_of_file(weights),
                "precision": description.precision,
            },
            **description.meaning,
            "about": dict(description.about),
        }
        write_manifest(directory, manifest)
        build(read(directory), directory.parent)
    return read(place / description.name)


def adopt(place: Path, directory: Path) -> Backbone:
    """Keep a copy of what is a backbone already, in another directory.

    Raises:
        Misconfigured: it is none, does not work, or its name is taken.
    """
    import onnx

    backbone = read(directory)
    check_free(backbone.name, place)
    dimension = prove(onnx.load(backbone.model_path), backbone.geometry.side)
    if dimension != backbone.dimension:
        raise Misconfigured(
            f"{directory}: its vectors have {dimension} numbers, and its manifest says "
            f"{backbone.dimension}"
        )
    with _staged(place, backbone.name) as staged:
        build(backbone, staged.parent)
    return read(place / backbone.name)


@contextmanager
def _staged(place: Path, name: str) -> Iterator[Path]:
    """A directory to fill; it becomes ``place / name`` if all goes well.

    The folder around it begins with a dot, where no backbone is looked for.
    """
    staging = place / f".new-{name}-{os.getpid()}"
    directory = staging / name
    try:
        try:
            directory.mkdir(parents=True)
            yield directory
            directory.rename(place / name)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise Misconfigured(
            f"{place} cannot be written: {error.strerror or error}"
        ) from error


def _outputs(model: onnx.ModelProto, dimension: int) -> dict[str, str]:
    described = {"embedding": f"FP32 [N, {dimension}], unit length"}
    for value in model.graph.output:
        if value.name == "feature_map":
            sides = [side.dim_value or "?" for side in value.type.tensor_type.shape.dim]
            shape = ", ".join(map(str, ["N", *sides[1:]]))
            described["feature_map"] = f"FP16 [{shape}], before pooling"
    return described
