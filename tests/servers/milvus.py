"""A real Milvus 2.3.5 server for the tests, without Docker.

The wheel ``milvus==2.3.5`` carries the standalone server. It is installed once, into a
virtual environment of its own below ``.cache``, because it is no dependency of ours.

The wheel's own starter is not used: it moves to the next port without a word when
its port is busy, and its embedded etcd insists on port 2380, so that two servers
cannot share a machine. Here every port is chosen free, etcd's among them, and the
unpacked program is started directly.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import functools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

VERSION = "2.3.5"
CACHE = Path(__file__).parents[2] / ".cache"
ENVIRONMENT = CACHE / "milvus-venv"
PROGRAM = ENVIRONMENT / f"milvus-{VERSION}"
SHARED_URI = "LOOKALIKE_TEST_MILVUS_URI"  # a server that runs already, if set
START_SECONDS = 120.0
ATTEMPTS = 3

PORTS = (
    "proxy_port",
    "proxy_internal_port",
    "root_coord_port",
    "query_coord_port",
    "query_node_port",
    "index_coord_port",
    "index_node_port",
    "data_coord_port",
    "data_node_port",
    "etcd_port",
)

UNPACK = """
import sys, milvus
milvus._initialize_data_files(sys.argv[1])
"""

CONFIGURE = """
import json, sys, milvus
milvus.MilvusServerConfig(data_dir=sys.argv[1], **json.loads(sys.argv[2])).resolve()
"""


class ServerMissing(Exception):
    """The server cannot be had on this machine; says why."""


@contextmanager
def milvus_server() -> Iterator[str]:
    """The address of a running Milvus 2.3.5 server, such as http://127.0.0.1:23456.

    The first use in a process starts it and the end of the process stops it, so all
    tests of a session share one. ``LOOKALIKE_TEST_MILVUS_URI`` names a server to use
    instead, so that several processes can share one.

    Raises:
        ServerMissing: it cannot be installed or does not start; says why.
    """
    yield os.environ.get(SHARED_URI) or _started_once().uri


def milvus_process() -> int | None:
    """The id of the process of ``milvus_server``, while it runs and was started here.

    None for a server of somebody else's, and before the first use.
    """
    if os.environ.get(SHARED_URI) or not _started_once.cache_info().currsize:
        return None
    return _started_once().process_id


@contextmanager
def own_milvus_server(env: Mapping[str, str]) -> Iterator[str]:
    """The address of a server with settings of its own, for the time of the block.

    Args:
        env: settings of Milvus as it reads them from its environment, such as
            ``COMMON_SECURITY_AUTHORIZATIONENABLED``.

    Raises:
        ServerMissing: it cannot be installed or does not start; says why.
    """
    with running_milvus(env) as server:
        yield server.uri


@functools.cache
def _started_once() -> MilvusServer:
    server = MilvusServer({})
    server.start()
    return server


class MilvusServer:
    """One server with its own data, which can be killed, frozen and started again.

    Args:
        env: as for ``own_milvus_server``.

    Raises:
        ServerMissing: it cannot be installed.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        install()
        self._env = env
        self._folder = Path(tempfile.mkdtemp(prefix="lookalike-milvus-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._health = 0
        self.uri = ""
        atexit.register(self.stop)

    def start(self) -> None:
        """Start and wait until it is healthy; on the same ports as before, if any.

        Raises:
            ServerMissing: it does not start; ends with what it logged.
        """
        problem = ""
        for _ in range(ATTEMPTS):  # another program can take a port first
            if not self.uri:
                self._configure()
            self.spawn()
            try:
                self._wait_until_healthy()
                return
            except ServerMissing as error:
                problem = f"{error} Last lines: {self._last_lines()}"
                self.kill()
                self.uri = ""
        raise ServerMissing(problem)

    def spawn(self) -> None:
        """Start, and do not wait. The thread that does this must outlive the server."""
        program = PROGRAM / "bin"
        environment = {
            **os.environ,
            **self._env,
            "DEPLOY_MODE": "STANDALONE",
            "METRICS_PORT": str(self._health),
            "MILVUS_RUN_DIR": str(self._folder / "run"),
            "ETCD_CONFIG_PATH": str(self._folder / "etcd.yaml"),
            "LD_LIBRARY_PATH": f"{program}:{os.environ.get('LD_LIBRARY_PATH', '')}",
        }
        with (self._folder / "output.log").open("wb") as output:
            self._process = subprocess.Popen(
                [str(program / "milvus"), "run", "standalone"],
                cwd=self._folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    @property
    def is_healthy(self) -> bool:
        """Whether it says so itself."""
        try:
            address = f"http://127.0.0.1:{self._health}/healthz"
            with urllib.request.urlopen(address, timeout=2) as answer:
                return b"OK" in answer.read()
        except (urllib.error.URLError, OSError):
            return False

    @property
    def is_running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def process_id(self) -> int | None:
        """The id of its process, if that is there."""
        if self._process is None or not self.is_running:
            return None
        return self._process.pid

    def kill(self) -> None:
        """End it and its children at once, as a power cut would."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=30)

    def freeze(self) -> None:
        """Leave it there, but not answering."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGCONT)

    def stop(self) -> None:
        """End it and remove its data."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _configure(self) -> None:
        numbers = _free_ports(len(PORTS) + 2)
        ports = dict(zip(PORTS, numbers, strict=False))
        _run(_python(), "-c", CONFIGURE, str(self._folder), json.dumps(ports))
        self._health, peer = numbers[-2:]
        (self._folder / "etcd.yaml").write_text(
            f"listen-client-urls: http://127.0.0.1:{ports['etcd_port']}\n"
            f"advertise-client-urls: http://127.0.0.1:{ports['etcd_port']}\n"
            f"listen-peer-urls: http://127.0.0.1:{peer}\n"
            f"initial-advertise-peer-urls: http://127.0.0.1:{peer}\n"
            f"initial-cluster: default=http://127.0.0.1:{peer}\n"
        )
        self.uri = f"http://127.0.0.1:{ports['proxy_port']}"

    def _wait_until_healthy(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                raise ServerMissing(
                    f"Milvus ended with status {self._process.returncode}."
                )
            if self.is_healthy:
                return
            time.sleep(0.1)
        raise ServerMissing(f"Milvus was not healthy within {START_SECONDS:.0f} s.")

    def _last_lines(self) -> str:
        log = (self._folder / "output.log").read_text(errors="replace")
        return " / ".join(log.splitlines()[-5:])[-1500:]


@contextmanager
def running_milvus(env: Mapping[str, str] | None = None) -> Iterator[MilvusServer]:
    """A server of one's own for the time of the block, to be broken.

    Raises:
        ServerMissing: it cannot be installed or does not start; says why.
    """
    server = MilvusServer(env or {})
    try:
        server.start()
        yield server
    finally:
        server.stop()


def install() -> None:
    """Bring the server's program to ``PROGRAM``, once for all processes."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "milvus-venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = PROGRAM / "unpacked"
        if done.exists():
            return
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        _run(sys.executable, "-m", "venv", str(ENVIRONMENT))
        _run(_python(), "-m", "pip", "install", "-q", f"milvus=={VERSION}")
        _run(_python(), "-c", UNPACK, str(PROGRAM))
        done.touch()


def _python() -> str:
    return str(ENVIRONMENT / "bin" / "python")


def _run(*command: str) -> None:
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=900, check=False
    )
    if result.returncode != 0:
        last = (result.stderr or result.stdout).strip().splitlines()[-3:]
        raise ServerMissing(f"{' '.join(command[:4])} failed: {' / '.join(last)}")


def _end_with_parent() -> None:
    """Have Linux kill the server should this process be killed itself."""
    set_death_signal = 1
    ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)


def _free_ports(count: int) -> Sequence[int]:
    """Ports nobody listens on, below the range of outgoing connections."""
    held: dict[int, socket.socket] = {}
    try:
        while len(held) < count:
            port = random.randrange(20_000, 32_000)
            if port in held:
                continue
            probe = socket.socket()
            try:
                probe.bind(("", port))
            except OSError:
                probe.close()
            else:
                held[port] = probe
        return list(held)
    finally:
        for probe in held.values():
            probe.close()
