"""A real PostgreSQL server for tests, on a free port of this machine only."""

from __future__ import annotations

import atexit
import functools
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg

USER = "lookalike"
DEADLINE = 60  # seconds; the first start on a busy machine is slow


def postgres_programs() -> Path | None:
    """The folder of ``initdb`` and ``postgres``: from PATH, else Debian's newest."""
    if found := shutil.which("initdb"):
        folder = Path(found).resolve().parent
        if (folder / "postgres").exists():
            return folder
    installed = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    versions = sorted(installed, key=lambda path: int(path.parts[-3]))
    return versions[-1].parent if versions else None


class PostgresServer:
    """One server with its own data, which can be killed and started again."""

    def __init__(self, *, fsync: bool = False) -> None:
        programs = postgres_programs()
        if programs is None:
            raise RuntimeError(
                "no initdb and postgres in PATH or /usr/lib/postgresql: "
                "install the Debian package postgresql"
            )
        self._programs = programs
        self._fsync = fsync
        self._account = _account()
        # Below the system's folder, as others than root cannot enter pytest's.
        self._folder = Path(tempfile.mkdtemp(prefix="lookalike-postgres-"))
        self._password = secrets.token_hex(16)
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        self.port = 0

    def start(self) -> None:
        """Start and wait until it answers; on the same port as before, if any."""
        if not (self._folder / "data").exists():
            self._create()
        for _ in range(10):
            if self._started(self.port or _free_port()):
                return
        log = (self._folder / "log").read_text(errors="replace")
        raise RuntimeError(f"PostgreSQL does not start: {log[-2000:]}")

    def new_database(self) -> str:
        """The SQLAlchemy URL of a database in which there is nothing yet."""
        self._databases += 1
        name = f"test{self._databases}"
        with self.connection() as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        address = f"{USER}:{self._password}@127.0.0.1:{self.port}"
        return f"postgresql+psycopg://{address}/{name}"

    def connection(self, database: str = "postgres") -> psycopg.Connection:
        """A connection that commits each statement."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            password=self._password,
            dbname=database,
            connect_timeout=2,
            autocommit=True,
        )

    def kill(self) -> None:
        """End it and all its children at once, as a power cut would."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Leave it there with all its children, but not answering."""
        everyone = self._everyone()
        for process in everyone:
            process.suspend()
        while any(process.status() != psutil.STATUS_STOPPED for process in everyone):
            time.sleep(0.01)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        for process in self._everyone():
            process.resume()

    def stop(self) -> None:
        """End it and remove its data."""
        self._end(signal.SIGINT)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _everyone(self) -> list[psutil.Process]:
        assert self._process is not None
        main = psutil.Process(self._process.pid)
        return [main, *main.children(recursive=True)]

    def _create(self) -> None:
        password = self._folder / "password"
        password.write_text(self._password)
        if self._account is not None:
            os.chown(self._folder, self._account.pw_uid, self._account.pw_gid)
            os.chown(password, self._account.pw_uid, self._account.pw_gid)
        command = [
            *(str(self._programs / "initdb"), "--no-sync", "--encoding=UTF8"),
            *("--locale=C.UTF-8", f"--username={USER}", f"--pwfile={password}"),
            *("--auth=scram-sha-256", f"--pgdata={self._folder / 'data'}"),
        ]
        # A locale in which text does not sort by its bytes, where the server has one.
        natural = ["--locale-provider=icu", "--icu-locale=en"]
        for options in (natural, []):
            with self._run([*command, *options], start_new_session=False) as creation:
                if creation.wait(DEADLINE) == 0:
                    return
            shutil.rmtree(self._folder / "data", ignore_errors=True)
        log = (self._folder / "log").read_text(errors="replace")
        raise RuntimeError(f"initdb failed: {log[-2000:]}")

    def _started(self, port: int) -> bool:
        options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "on" if self._fsync else "off",
            "log_lock_waits": "on",
        }
        settings = [f"--{name}={value}" for name, value in options.items()]
        self._process = self._run(
            [
                *(str(self._programs / "postgres"), "-p", str(port)),
                *("-D", str(self._folder / "data"), *settings),
            ],
            start_new_session=True,
        )
        self.port = port
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                self.connection().close()
                return True
            except psycopg.OperationalError:
                time.sleep(0.05)
        self.kill()
        self.port = 0
        return False

    def _run(
        self, command: list[str], *, start_new_session: bool
    ) -> subprocess.Popen[bytes]:
        account = self._account
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=self._folder,
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=start_new_session,
                user=None if account is None else account.pw_uid,
                group=None if account is None else account.pw_gid,
                extra_groups=None if account is None else [],
            )

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if how is signal.SIGKILL:
            os.killpg(process.pid, how)
        else:
            process.send_signal(how)
        try:
            process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _account() -> pwd.struct_passwd | None:
    """Whom to run the server as: it refuses to be root. None: as we are."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("PostgreSQL does not run as root, and there is no other account")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running_postgres(*, fsync: bool = False) -> Iterator[PostgresServer]:
    """A server for the time of the block; ``fsync`` makes commits really durable.

    Raises:
        RuntimeError: PostgreSQL is not installed, or does not start.
    """
    server = PostgresServer(fsync=fsync)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@functools.cache
def shared_postgres() -> PostgresServer:
    """One server for all tests of this run that need no server of their own."""
    server = PostgresServer()
    atexit.register(server.stop)
    server.start()
    return server
