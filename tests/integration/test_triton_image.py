"""The commands of ``infra/triton``: without a GPU, with a stand-in for trtexec."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

import pictures
from lookalike.backbones import find
from lookalike.backends.onnxruntime import OnnxEmbedder
from lookalike.backends.triton import TritonEmbedder
from lookalike.images import Limits, decode_square
from servers.processes import Process, clean_environment, running
from servers.redis import free_port
from servers.triton import missing, server_command

INFRA = Path(__file__).parents[2] / "infra" / "triton"

TRTEXEC = """#!{python}
import json, pathlib, sys
if "--help" in sys.argv:
    print("&&&& RUNNING TensorRT.trtexec [TensorRT v101303] # trtexec --help")
    sys.exit()
values = dict(a.removeprefix("--").partition("=")[::2] for a in sys.argv[1:])
with open("{record}", "a") as file:
    print(json.dumps(values), file=file)
pathlib.Path("{record}.onnx").write_bytes(pathlib.Path(values["onnx"]).read_bytes())
if pathlib.Path("{record}.broken").exists():
    sys.exit("[E] Error[10]: Could not find any implementation for node")
pathlib.Path(values["saveEngine"]).write_bytes(b"a plan")
"""


@dataclass
class Machine:
    """A machine on which a plan may be built."""

    folder: Path
    gpus: list[str] = field(default_factory=lambda: ["9.0"])
    version: str = ""

    def __post_init__(self) -> None:
        (self.folder / "bin").mkdir()
        self.record = self.folder / "calls"
        self.models, self.plans = self.folder / "models", self.folder / "plans"
        self.plan = self.models / "resnet18" / "1" / "model.plan"
        self.has_trtexec()

    def has_trtexec(self) -> None:
        text = TRTEXEC.format(python=sys.executable, record=self.record)
        self.program("trtexec", text)

    def program(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        own = {
            "LOOKALIKE_DATA_DIR": str(self.folder / "data"),
            "TRITON_MODELS": str(self.models),
            "TRITON_PLANS": str(self.plans),
            "PATH": os.pathsep.join(
                (str(self.folder / "bin"), str(Path(sys.executable).parent), os.defpath)
            ),
        }
        return own | ({"TRT_VERSION": self.version} if self.version else {})

    def build_plan(self) -> subprocess.CompletedProcess[str]:
        lines = "".join(f"echo {gpu}\n" for gpu in self.gpus)
        failed = "" if self.gpus else "exit 9\n"
        self.program("nvidia-smi", f"#!/bin/sh\n{lines}{failed}")
        return subprocess.run(
            [sys.executable, str(INFRA / "build_plan.py")],
            env=clean_environment(self.environment),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def calls(self) -> list[dict[str, str]]:
        """What trtexec was asked for, each time."""
        if not self.record.exists():
            return []
        return [json.loads(line) for line in self.record.read_text().splitlines()]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


# --- build-plan ----------------------------------------------------------------------


def test_a_plan_is_built_for_every_batch_the_model_takes(machine: Machine) -> None:
    result = machine.build_plan()

    side = find("resnet18").geometry.side
    (call,) = machine.calls()
    assert result.returncode == 0, result.stderr
    assert machine.plan.read_bytes() == b"a plan"
    assert call["minShapes"] == f"images:1x{side}x{side}x3"
    assert call["optShapes"] == f"images:32x{side}x{side}x3"
    assert call["maxShapes"] == f"images:64x{side}x{side}x3"
    assert "stronglyTyped" in call


def test_tensorrt_gets_the_network_in_half_precision(machine: Machine) -> None:
    machine.build_plan()

    backbone = find("resnet18")
    pixels = np.stack(
        [
            decode_square(pictures.jpeg(seed), backbone.geometry, Limits())
            for seed in range(8)
        ]
    )
    half = Path(f"{machine.record}.onnx")
    session = onnxruntime.InferenceSession(half, providers=["CPUExecutionProvider"])
    vectors, feature_map = session.run(["embedding", "feature_map"], {"images": pixels})
    reference = OnnxEmbedder(backbone, threads=1).embed(pixels)
    assert vectors.dtype == np.float32
    assert feature_map.dtype == np.float16
    assert np.sum(vectors * reference, axis=1).min() > 0.99


def test_a_plan_is_built_once(machine: Machine) -> None:
    machine.build_plan()
    machine.plan.unlink()

    machine.build_plan()

    assert len(machine.calls()) == 1
    assert machine.plan.read_bytes() == b"a plan"


def test_another_gpu_needs_another_plan(machine: Machine) -> None:
    machine.build_plan()
    machine.gpus = ["8.0", "8.0"]

    machine.build_plan()

    assert len(machine.calls()) == 2
    assert len(list(machine.plans.glob("*.plan"))) == 2


def test_another_tensorrt_needs_another_plan(machine: Machine) -> None:
    machine.build_plan()
    machine.version = "11.4.0.1+cuda13.3"

    machine.build_plan()

    names = sorted(path.name for path in machine.plans.glob("*.plan"))
    assert len(machine.calls()) == 2
    assert ["trt101303" in name for name in names] == [True, False]


@pytest.mark.parametrize(
    ("gpus", "reason"), [([], "there is no GPU"), (["8.0", "9.0"], "different kinds")]
)
def test_without_one_kind_of_gpu_there_is_a_warning(
    machine: Machine, gpus: list[str], reason: str
) -> None:
    machine.gpus = gpus

    result = machine.build_plan()

    assert result.returncode == 0
    assert "WARNING" in result.stderr
    assert reason in result.stderr
    assert machine.calls() == []


def test_without_trtexec_there_is_a_warning(machine: Machine) -> None:
    (machine.folder / "bin" / "trtexec").unlink()

    result = machine.build_plan()

    assert result.returncode == 0
    assert "there is no trtexec" in result.stderr


def test_a_failed_build_leaves_no_plan_of_before(machine: Machine) -> None:
    machine.build_plan()
    machine.gpus = ["7.5"]
    Path(f"{machine.record}.broken").touch()

    result = machine.build_plan()

    assert result.returncode == 0
    assert "Could not find any implementation" in result.stderr
    assert not machine.plan.exists()


# --- start and ready -----------------------------------------------------------------


def recorded_start(machine: Machine, mode: str) -> tuple[list[str], str]:
    """The options that ``start`` gives to tritonserver, and what it says."""
    machine.program("tritonserver", '#!/bin/sh\nfor each; do echo "$each"; done\n')
    result = subprocess.run(
        [str(INFRA / "start"), mode],
        env=clean_environment(machine.environment),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines(), result.stderr


def test_a_gpu_with_a_plan_runs_the_default_configuration(machine: Machine) -> None:
    machine.build_plan()

    options, said = recorded_start(machine, "gpu")

    assert not [option for option in options if "model-config-name" in option]
    assert "--load-model=resnet18" in options
    assert "WARNING" not in said


def test_a_gpu_without_a_plan_runs_onnx_runtime_with_a_warning(
    machine: Machine,
) -> None:
    options, said = recorded_start(machine, "gpu")

    assert "--model-config-name=onnxruntime" in options
    assert "WARNING" in said


def test_without_a_gpu_onnx_runtime_is_no_surprise(machine: Machine) -> None:
    options, said = recorded_start(machine, "cpu")

    assert "--model-config-name=onnxruntime" in options
    assert "WARNING" not in said


@contextmanager
def started(machine: Machine, port: int) -> Iterator[Process]:
    """``start python`` with the real server."""
    command, environment = server_command()
    words = " ".join(f"'{word}'" for word in command)
    machine.program("tritonserver", f'#!/bin/sh\nexec {words} "$@"\n')
    options = [
        *("--grpc-address=127.0.0.1", f"--grpc-port={port}"),
        *("--allow-http=false", "--allow-metrics=false"),
    ]
    env = environment | machine.environment
    with running(
        [str(INFRA / "start"), "python", *options], machine.folder, env
    ) as process:
        yield process


def is_ready(machine: Machine, port: int) -> bool:
    env = machine.environment | {"LOOKALIKE_TRITON_URL": f"127.0.0.1:{port}"}
    return not subprocess.run(
        [sys.executable, str(INFRA / "ready.py")],
        env=clean_environment(env),
        capture_output=True,
        timeout=60,
        check=False,
    ).returncode


@pytest.mark.triton_server
@pytest.mark.skipif(bool(missing()), reason=missing())
def test_the_real_server_starts_serves_and_lets_nobody_else_load(
    machine: Machine,
) -> None:
    backbone, port = find("resnet18"), free_port()
    assert not is_ready(machine, port)

    with started(machine, port) as process:
        process.wait_until(lambda: "Started GRPC" in process.printed, "gRPC")
        side = backbone.geometry.side
        embedder = TritonEmbedder(backbone, f"127.0.0.1:{port}")
        vectors = embedder.embed(np.full((2, side, side, 3), 99, np.uint8))
        ready = is_ready(machine, port)
        with (
            triton.InferenceServerClient(f"127.0.0.1:{port}") as client,
            pytest.raises(InferenceServerException, match="restricted"),
        ):
            client.unload_model("resnet18")

    assert vectors.shape == (2, backbone.dimension)
    assert ready
