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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
    yield os.environ.get(SHARED_URI) or _started_once()


@contextmanager
def own_milvus_server(env: Mapping[str, str]) -> Iterator[str]:
    """The address of a server with settings of its own, for the time of the block.

    Args:
        env: settings of Milvus as it reads them from its environment, such as
            ``COMMON_SECURITY_AUTHORIZATIONENABLED``.

    Raises:
        ServerMissing: it cannot be installed or does not start; says why.
    """
    uri, stop = _started(env)
    try:
        yield uri
    finally:
        stop()


@functools.cache
def _started_once() -> str:
    return _started({})[0]


def _started(env: Mapping[str, str]) -> tuple[str, Callable[[], None]]:
    install()
    problem = ""
    for _ in range(ATTEMPTS):  # another program can take a port before Milvus does
        try:
            return _start(env)
        except ServerMissing as error:
            problem = str(error)
    raise ServerMissing(problem)


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


def _start(env: Mapping[str, str]) -> tuple[str, Callable[[], None]]:
    """The address of a new server, and what stops it."""
    folder = Path(tempfile.mkdtemp(prefix="lookalike-milvus-"))
    numbers = _free_ports(len(PORTS) + 2)
    ports = dict(zip(PORTS, numbers, strict=False))
    _run(_python(), "-c", CONFIGURE, str(folder), json.dumps(ports))
    health, peer = numbers[-2:]
    (folder / "etcd.yaml").write_text(
        f"listen-client-urls: http://127.0.0.1:{ports['etcd_port']}\n"
        f"advertise-client-urls: http://127.0.0.1:{ports['etcd_port']}\n"
        f"listen-peer-urls: http://127.0.0.1:{peer}\n"
        f"initial-advertise-peer-urls: http://127.0.0.1:{peer}\n"
        f"initial-cluster: default=http://127.0.0.1:{peer}\n"
    )
    process = _spawn(folder, health, env)
    stop = functools.partial(_stop, process, folder)
    atexit.register(stop)
    try:
        _wait_until_healthy(process, health)
    except ServerMissing as error:
        log = (folder / "output.log").read_text(errors="replace").splitlines()[-5:]
        stop()
        raise ServerMissing(f"{error} Last lines: {' / '.join(log)[-1500:]}") from None
    return f"http://127.0.0.1:{ports['proxy_port']}", stop


def _spawn(
    folder: Path, health: int, env: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    program = PROGRAM / "bin"
    environment = {
        **os.environ,
        **env,
        "DEPLOY_MODE": "STANDALONE",
        "METRICS_PORT": str(health),
        "MILVUS_RUN_DIR": str(folder / "run"),
        "ETCD_CONFIG_PATH": str(folder / "etcd.yaml"),
        "LD_LIBRARY_PATH": f"{program}:{os.environ.get('LD_LIBRARY_PATH', '')}",
    }
    with (folder / "output.log").open("wb") as output:
        return subprocess.Popen(
            [str(program / "milvus"), "run", "standalone"],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )


def _end_with_parent() -> None:
    """Have Linux kill the server should this process be killed itself."""
    set_death_signal = 1
    ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)


def _wait_until_healthy(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerMissing(f"Milvus ended with status {process.returncode}.")
        try:
            address = f"http://127.0.0.1:{port}/healthz"
            with urllib.request.urlopen(address, timeout=2) as answer:
                if b"OK" in answer.read():
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.1)
    raise ServerMissing(f"Milvus was not healthy within {START_SECONDS:.0f} s.")


def _stop(process: subprocess.Popen[bytes], folder: Path) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)  # nothing in it is worth a clean end
        process.wait(timeout=30)
    shutil.rmtree(folder, ignore_errors=True)


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
