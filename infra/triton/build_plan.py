#!/usr/bin/env python3
"""Build a backbone's TensorRT plan on the machine that will run it.

A plan fits one TensorRT version and one GPU architecture, and contains code that runs
when it is loaded, so it is neither committed nor downloaded. Plans are kept by what
they depend on: the digest of the network, the shapes, TensorRT's version and the GPU's
architecture. Where there is no GPU or no ``trtexec``, or the build fails, the model is
left without a plan, with a warning and status 0: ``start`` then serves it by ONNX
Runtime.

    build-plan [NAME]

==========================  ===========================================================
``LOOKALIKE_BACKBONE``      which backbone, if NAME is not given; ``resnet18``
``TRITON_MODELS``           Triton's repository; ``/var/lib/triton/models``
``TRITON_PLANS``            where plans are kept; ``/var/lib/triton/plans``
==========================  ===========================================================
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnx

from lookalike.backbones import Backbone, find
from lookalike.backbones.half import as_half
from lookalike.backbones.precision import as_float
from lookalike.backbones.triton_repository import MAX_BATCH, PREFERRED, build
from lookalike.config import Settings
from lookalike.errors import LookalikeError

SMALLEST, BEST, LARGEST = 1, PREFERRED[0], MAX_BATCH
TRTEXEC = "/usr/src/tensorrt/bin/trtexec"  # where NVIDIA's images keep it
BUILD_SECONDS = 3600


class NoPlan(Exception):
    """There can be no plan here; says why."""


@dataclass(frozen=True)
class Target:
    """What a plan is built for."""

    trtexec: str
    version: str
    architecture: str  # compute capability, such as 9.0


def main(arguments: list[str]) -> int:
    """Exit status 0 if the model can be served, with a plan or without."""
    name = arguments[0] if arguments else os.environ.get("LOOKALIKE_BACKBONE", "")
    repository = Path(os.environ.get("TRITON_MODELS", "/var/lib/triton/models"))
    plans = Path(os.environ.get("TRITON_PLANS", "/var/lib/triton/plans"))
    try:
        backbone = find(name or "resnet18", [Settings().backbones])
        model = build(backbone, repository)
    except LookalikeError as error:
        print(f"build-plan: {error.detail}", file=sys.stderr)
        return 2
    placed = model / "1" / "model.plan"
    try:
        plan = plan_of(backbone, target(), plans)
    except NoPlan as error:
        # One of another GPU, or of other weights, would not load or would mislead.
        placed.unlink(missing_ok=True)
        print(
            f"build-plan: WARNING: {error}; {backbone.name} will be served by ONNX "
            "Runtime",
            file=sys.stderr,
        )
        return 0
    put(plan, placed)
    print(f"{placed}: {plan.name}")
    return 0


def target() -> Target:
    """The GPU and the TensorRT of this machine."""
    architectures = set(_said("nvidia-smi", "--query-gpu=compute_cap").split())
    if len(architectures) != 1:
        raise NoPlan(
            f"the GPUs here are of different kinds ({', '.join(sorted(architectures))})"
            if architectures
            else "there is no GPU"
        )
    trtexec = shutil.which("trtexec") or shutil.which(TRTEXEC)
    if trtexec is None:
        raise NoPlan(f"there is no trtexec in PATH, nor {TRTEXEC}")
    return Target(trtexec, _version(trtexec), architectures.pop())


def _said(*command: str) -> str:
    try:
        done = subprocess.run(
            [*command, "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def _version(trtexec: str) -> str:
    """TensorRT's version: from the image, else from what trtexec prints first."""
    if version := os.environ.get("TRT_VERSION"):
        return version
    done = subprocess.run(
        [trtexec, "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    found = re.search(r"TensorRT v(\d+)", done.stdout + done.stderr)
    if found is None:
        raise NoPlan(f"{trtexec} does not say which TensorRT it belongs to")
    return found[1]


def plan_of(backbone: Backbone, target: Target, plans: Path) -> Path:
    """The plan, built unless it is there already."""
    side = backbone.geometry.side
    # Weights in int8 become floats again: TensorRT has no unsigned activations.
    network = as_half(as_float(onnx.load(backbone.model_path)))
    data = network.SerializeToString(deterministic=True)
    shapes = {
        f"--{name}Shapes": f"images:{batch}x{side}x{side}x3"
        for name, batch in (("min", SMALLEST), ("opt", BEST), ("max", LARGEST))
    }
    meaning = repr((hashlib.sha256(data).hexdigest(), shapes)).encode()
    version = re.sub(r"[^0-9A-Za-z.]", "-", target.version)
    key = f"{hashlib.sha256(meaning).hexdigest()[:16]}-trt{version}"
    plan = plans / f"{backbone.name}-{key}-sm{target.architecture}.plan"
    if not plan.exists():
        plans.mkdir(parents=True, exist_ok=True)
        _build(data, [f"{k}={v}" for k, v in shapes.items()], target, plan)
    return plan


def _build(network: bytes, shapes: list[str], target: Target, plan: Path) -> None:
    with tempfile.TemporaryDirectory(dir=plan.parent) as folder:
        source, made = Path(folder) / "model.onnx", Path(folder) / "model.plan"
        source.write_bytes(network)
        command = [
            *(target.trtexec, f"--onnx={source}", f"--saveEngine={made}"),
            # Every layer as the graph says, which is in half precision. TensorRT 11
            # knows no other way; 10 needs to be told.
            "--stronglyTyped",
            *shapes,
            "--skipInference",
        ]
        print("build-plan: building, which takes minutes:", *command, file=sys.stderr)
        log = plan.with_suffix(".log")
        try:
            with log.open("wb") as output:
                subprocess.run(
                    command,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=BUILD_SECONDS,
                    check=True,
                )
        except (OSError, subprocess.SubprocessError) as error:
            last = log.read_text(errors="replace").strip().splitlines()[-5:]
            raise NoPlan(f"trtexec failed, see {log}: {error}: {last}") from error
        if not made.exists():
            raise NoPlan(f"trtexec made no plan, see {log}")
        made.replace(plan)


def put(plan: Path, placed: Path) -> None:
    """Copy in one step: Triton sees the old plan or the new one."""
    new = placed.with_suffix(".new")
    shutil.copyfile(plan, new)
    new.replace(placed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
