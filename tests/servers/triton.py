"""A real Triton server for tests, without Docker and without a GPU.

The wheel ``nvidia-pytriton`` carries ``tritonserver`` with its Python backend (not the
ONNX Runtime and TensorRT backends, which are in NVIDIA's image alone). It is installed
once, without its dependencies, into a virtual environment of its own below ``.cache``,
because it is no dependency of ours. It is old, with known holes: good for tests on
this machine, never a server to run.
"""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from servers.milvus import ServerMissing
from servers.redis import free_port

VERSION = "0.7.0"  # of the wheel; the server in it is 2.51.0
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
CACHE = Path(__file__).parents[2] / ".cache"
ENVIRONMENT = CACHE / "triton-venv"
REPOSITORY = Path(__file__).parents[2] / "model_repository"
START_SECONDS = 90.0


def install() -> None:
    """Bring the server's program below ``.cache``, once for all processes.

    Raises:
        ServerMissing: it cannot be had; says why.
    """
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "triton-venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = ENVIRONMENT / f"ready-{VERSION}-{PYTHON}"
        if done.exists():
            return
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        _run(sys.executable, "-m", "venv", str(ENVIRONMENT))
        wheel = f"nvidia-pytriton=={VERSION}"
        python = str(ENVIRONMENT / "bin" / "python")
        _run(python, "-m", "pip", "install", "-q", "--no-deps", wheel)
        _join_backend()
        done.touch()


def _run(*command: str) -> None:
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=900, check=False
    )
    if result.returncode != 0:
        last = (result.stderr or result.stdout).strip().splitlines()[-3:]
        raise ServerMissing(f"{' '.join(command[:5])} failed: {' / '.join(last)}")


def _join_backend() -> None:
    """Put the stub of this Python's version beside the Python backend."""
    stub = _packages() / "pytriton/tritonserver/python_backend_stubs" / PYTHON
    if not stub.is_dir():
        raise ServerMissing(f"the wheel has no Triton stub for Python {PYTHON}")
    folder = _backends() / "python"
    shutil.copytree(_packages() / "pytriton/tritonserver/backends/python", folder)
    shutil.copy2(stub / "triton_python_backend_stub", folder)


def _packages() -> Path:
    return next(ENVIRONMENT.glob("lib/python3*/site-packages"))


def _backends() -> Path:
    return ENVIRONMENT / "backends"


@functools.cache
def missing() -> str:
    """Why there can be no server here; empty if there can."""
    try:
        install()
    except ServerMissing as error:
        return str(error)
    return ""


def server_command() -> tuple[list[str], dict[str, str]]:
    """The beginning of the server's command line, and the environment it needs."""
    program = _packages() / "pytriton/tritonserver/bin/tritonserver"
    libraries = [
        str(_packages() / "nvidia_pytriton.libs"),
        str(sysconfig.get_config_var("LIBDIR")),  # libpython, for the stub
    ]
    return [str(program), f"--backend-directory={_backends()}"], {
        "LD_LIBRARY_PATH": os.pathsep.join(libraries),
        # Triton's Python is isolated: it finds packages only where it is told to.
        "LOOKALIKE_SITE_PACKAGES": sysconfig.get_paths()["purelib"],
    }


class TritonServer:
    """One server, which can be frozen, killed and started again on the same ports.

    Args:
        folder: for its log.
        repository: the models it serves, all of them unless ``models`` says which.
        config: which of a model's ``configs/NAME.pbtxt``; empty for ``config.pbtxt``.
        models: names; the server then loads and unloads models on request.
    """

    def __init__(
        self,
        folder: Path,
        *,
        repository: Path = REPOSITORY,
        config: str = "python",
        models: Sequence[str] = (),
    ) -> None:
        if problem := missing():
            raise ServerMissing(problem)
        self._options = [f"--model-repository={repository}"]
        if config:
            self._options.append(f"--model-config-name={config}")
        if models:
            self._options.append("--model-control-mode=explicit")
            self._options += [f"--load-model={name}" for name in models]
        self.log = folder / "triton.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0  # of gRPC
        self._http_port = 0

    @property
    def url(self) -> str:
        """What ``LOOKALIKE_TRITON_URL`` takes."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start and wait until every model is loaded.

        Raises:
            ServerMissing: it does not start; ends with what it logged.
        """
        for _ in range(3):  # another program can take a port first
            self.port = self.port or free_port()
            self._http_port = self._http_port or free_port()
            if self._started():
                return
            if "address already in use" not in self.logged.lower():
                break
            self.port = self._http_port = 0
        raise ServerMissing(f"Triton does not start: {self.logged[-3000:]}")

    @property
    def logged(self) -> str:
        """Everything it wrote so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def _started(self) -> bool:
        self._process = self._spawn()
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(urllib.error.URLError, OSError):
                address = f"http://127.0.0.1:{self._http_port}/v2/health/ready"
                with urllib.request.urlopen(address, timeout=2) as answer:
                    if answer.status == 200:
                        return True
            time.sleep(0.05)
        self.kill()
        return False

    def _spawn(self) -> subprocess.Popen[bytes]:
        program, environment = server_command()
        command = [
            *program,
            *self._options,
            *("--http-address=127.0.0.1", f"--http-port={self._http_port}"),
            *("--grpc-address=127.0.0.1", f"--grpc-port={self.port}"),
            *("--allow-metrics=false", "--exit-timeout-secs=5"),
        ]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command,
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def processes(self) -> list[psutil.Process]:
        """The server and its children."""
        assert self._process is not None
        server = psutil.Process(self._process.pid)
        return [server, *server.children(recursive=True)]

    def stubs(self) -> list[psutil.Process]:
        """The processes in which the models' Python runs."""
        return [each for each in self.processes() if "backend_stub" in each.name()]

    def kill(self) -> None:
        """End it and its stubs at once, as a power cut would."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(timeout=30)
            self._process = None

    def freeze(self) -> None:
        """Leave it there, but not answering."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, number)


@contextmanager
def running_triton(
    folder: Path,
    *,
    repository: Path = REPOSITORY,
    config: str = "python",
    models: Sequence[str] = (),
) -> Iterator[TritonServer]:
    """A server for the time of the block.

    Raises:
        ServerMissing: there can be none on this machine; says why.
    """
    server = TritonServer(folder, repository=repository, config=config, models=models)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def write_model(
    repository: Path,
    name: str,
    edits: Mapping[str, str] | None = None,
    code: str = "",
) -> None:
    """A copy of the bundled model under another name, changed as a test needs it.

    Args:
        repository: where to.
        name: of the copy.
        edits: in ``configs/python.pbtxt``: what to replace, and by what.
        code: added at the end of ``model.py``.
    """
    bundled, folder = REPOSITORY / "resnet18", repository / name
    shutil.copytree(bundled, folder)
    path = folder / "configs" / "python.pbtxt"
    text = path.read_text()
    for old, new in {'name: "resnet18"': f'name: "{name}"', **(edits or {})}.items():
        assert old in text, old
        text = text.replace(old, new)
    path.write_text(text)
    with (folder / "1" / "model.py").open("a") as file:
        file.write(code)
