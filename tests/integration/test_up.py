"""``lookalike up`` as a process: how it starts, and how it stops."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from pathlib import Path

import pytest

from servers.processes import answers, lookalike, running, running_up


def test_it_prints_its_address_once_it_answers(tmp_path: Path) -> None:
    with running_up(tmp_path) as (_, address):
        assert answers(f"{address}/healthz")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_cleanly_within_seconds(
    tmp_path: Path, number: signal.Signals
) -> None:
    with running_up(tmp_path) as (process, _):
        started = time.monotonic()

        process.signal(number)

        assert process.wait() == 0
        assert time.monotonic() - started < 10
        assert "Traceback" not in process.printed


def test_a_second_one_on_the_same_data_is_refused(tmp_path: Path) -> None:
    with running_up(tmp_path) as (first, address):
        command = lookalike("up", "--data-dir", str(tmp_path / "data"))
        with running(command, tmp_path / "second", {}) as second:
            status = second.wait()

        assert status == 2
        assert f"in use by process {first.pid}" in second.printed
        assert answers(f"{address}/healthz")


def test_a_port_that_was_asked_for_and_is_taken_is_refused(tmp_path: Path) -> None:
    with running_up(tmp_path) as (_, address):
        port = address.rsplit(":", 1)[1]
        command = lookalike("up", "--data-dir", str(tmp_path / "b"), "--port", port)
        with running(command, tmp_path / "second", {}) as second:
            assert second.wait() == 2

        assert f"port {port}: Address already in use" in second.printed


def test_after_a_kill_it_starts_on_the_same_data(tmp_path: Path) -> None:
    with running_up(tmp_path) as (process, address):
        body = json.dumps({"name": "kept", "fields": {}}).encode()
        request = urllib.request.Request(
            f"{address}/v1/collections",
            data=body,
            headers={"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=30).close()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    with running_up(tmp_path) as (_, address):
        assert answers(f"{address}/v1/collections/kept")
