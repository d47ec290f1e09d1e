from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from api_site import open_site, photo
from lookalike.config import Settings
from lookalike.embedded import (
    address,
    check_host,
    check_index,
    is_loopback,
    only_process,
    serve,
)
from lookalike.errors import Misconfigured
from lookalike.interfaces import WorkId
from lookalike.webserver import listen


@pytest.fixture
def taken() -> Iterator[socket.socket]:
    with listen("127.0.0.1", 0, exactly=True) as listener:
        yield listener


class Ready(Exception):
    """The process has come to the point where it would wait for a signal."""


@pytest.fixture
def as_before() -> Iterator[None]:
    """What ``serve`` changes in its process is put back."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = {number: signal.getsignal(number) for number in numbers}
    interval = sys.getswitchinterval()
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    sys.setswitchinterval(interval)


def port_of(listener: socket.socket) -> int:
    port: int = listener.getsockname()[1]
    return port


def test_a_data_folder_has_one_process_whose_number_is_named(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")

    with (
        only_process(settings),
        pytest.raises(Misconfigured) as refused,
        only_process(settings),
    ):
        pass

    assert refused.value.code == "data_folder_in_use"
    assert f"process {os.getpid()}" in refused.value.detail
    assert "--data-dir" in refused.value.detail


def test_a_data_folder_is_free_again_afterwards(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "new" / "folder")

    with only_process(settings):
        pass
    with only_process(settings):
        pass

    assert settings.data_dir.is_dir()


def test_a_data_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = Settings(data_dir=tmp_path / "file" / "data")

    with pytest.raises(Misconfigured) as refused, only_process(settings):
        pass

    assert refused.value.code == "data_folder_unusable"
    assert str(settings.data_dir) in refused.value.detail


def test_a_redis_without_a_milvus_server_names_the_missing_setting() -> None:
    settings = Settings.model_validate({"redis_url": "redis://127.0.0.1"})

    with pytest.raises(Misconfigured, match="LOOKALIKE_MILVUS_URI"):
        check_index(settings)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_only_this_machine_reaches_loopback(host: str) -> None:
    assert is_loopback(host)
    check_host(host, allow_any_host=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_any_other_host_is_refused_unless_asked_for(
    host: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Misconfigured, match="no authentication"):
        check_host(host, allow_any_host=False)

    check_host(host, allow_any_host=True)

    assert "WITHOUT AUTHENTICATION" in caplog.text


def test_a_taken_port_that_was_asked_for_is_refused(taken: socket.socket) -> None:
    with pytest.raises(Misconfigured, match="already in use") as refused:
        listen("127.0.0.1", port_of(taken), exactly=True)

    assert str(port_of(taken)) in refused.value.detail


def test_a_taken_port_that_is_a_default_is_stepped_over(taken: socket.socket) -> None:
    with listen("127.0.0.1", port_of(taken), exactly=False) as listener:
        assert port_of(taken) < port_of(listener) <= port_of(taken) + 20


def test_an_address_that_is_not_here_is_refused() -> None:
    with pytest.raises(Misconfigured, match=r"192\.0\.2\.1"):
        listen("192.0.2.1", 0, exactly=True)


def test_a_name_that_does_not_exist_is_refused() -> None:
    with pytest.raises(Misconfigured, match=r"host\.invalid"):
        listen("host.invalid", 0, exactly=True)


def test_the_address_of_all_interfaces_is_one_to_type_in() -> None:
    with listen("0.0.0.0", 0, exactly=True) as listener:
        assert address(listener) == f"http://127.0.0.1:{port_of(listener)}"


@pytest.mark.usefixtures("as_before")
@pytest.mark.parametrize(
    ("elsewhere", "is_taken_back"),
    [
        ({}, True),
        ({"database_url": "postgresql+psycopg://host/lookalike"}, False),
        ({"redis_url": "redis://host", "milvus_uri": "http://host:19530"}, False),
    ],
    ids=["nobody-else", "others-share-the-ledger", "others-do-the-work"],
)
def test_work_is_taken_back_at_the_start_only_where_nobody_else_can_hold_it(
    tmp_path: Path, elsewhere: dict[str, str], is_taken_back: bool
) -> None:
    settings = Settings.model_validate({"data_dir": tmp_path, "port": 0, **elsewhere})
    again: list[int] = []
    with open_site(tmp_path / "site") as site:
        site.create()
        site.queue.is_held = True
        site.ingest({"a": photo("a")})
        (held,) = site.parts.ledger.claim([WorkId(1)])

        def ready(_: str) -> None:
            again.extend(work.id for work in site.parts.ledger.claim([held.id]))
            raise Ready

        with pytest.raises(Ready):
            serve(settings, on_ready=ready, connect=lambda _: site.parts)

    assert again == ([held.id] if is_taken_back else [])
