"""Places at which tests make a process die: found in the code, harmless by default."""

from __future__ import annotations

import errno
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import lookalike
from lookalike.failpoints import NAMES, VARIABLE, FailpointError, failpoint, parse

SOURCES = Path(lookalike.__file__).parent


def reaching(name: str, times: int, setting: str) -> subprocess.CompletedProcess[str]:
    """A process that passes a place so often, and says each time that it did."""
    program = (
        "import sys; from lookalike.failpoints import failpoint\n"
        f"for n in range({times}): failpoint({name!r}); print(n, flush=True)"
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        env={VARIABLE: setting, "PYTHONPATH": str(SOURCES.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_failpoint_stands_in_the_code_and_none_is_unknown() -> None:
    code = "".join(path.read_text() for path in SOURCES.rglob("*.py"))

    assert set(re.findall(r'failpoint\("([^"]+)"\)', code)) == set(NAMES)


def test_a_place_that_is_not_armed_does_nothing() -> None:
    failpoint("claim.committed")


def test_the_process_is_killed_when_it_comes_there_for_the_third_time() -> None:
    ended = reaching("index.upserted", 5, "index.upserted=kill@3")

    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout.split() == ["0", "1"]


def test_a_marker_lets_the_next_process_go_on(tmp_path: Path) -> None:
    setting = f"accept.rung=kill!{tmp_path / 'done'}"

    first, second = (reaching("accept.rung", 2, setting) for _ in range(2))

    assert first.returncode == -signal.SIGKILL
    assert second.returncode == 0
    assert second.stdout.split() == ["0", "1"]


@pytest.mark.parametrize(
    ("action", "status"), [("exit", 70), ("segfault", -signal.SIGSEGV)]
)
def test_a_process_can_end_in_other_ways(action: str, status: int) -> None:
    assert reaching("decode.started", 1, f"decode.started={action}").returncode == (
        status
    )


def test_a_place_can_raise_run_out_of_memory_and_find_the_disk_full() -> None:
    armed = parse("blob.written=raise,blob.synced=memory,blob.renamed=full")

    with pytest.raises(FailpointError):
        armed["blob.written"].reach("blob.written")
    with pytest.raises(MemoryError):
        armed["blob.synced"].reach("blob.synced")
    with pytest.raises(OSError, match="No space") as full:
        armed["blob.renamed"].reach("blob.renamed")
    assert full.value.errno == errno.ENOSPC


def test_a_place_can_hang_for_a_moment() -> None:
    parse("finish.counted=hang:0.001")["finish.counted"].reach("finish.counted")


@pytest.mark.parametrize(
    "setting", ["nowhere=kill", "accept.rung=explode", "accept.rung", "=kill"]
)
def test_a_setting_that_names_nothing_is_refused(setting: str) -> None:
    with pytest.raises(ValueError, match=VARIABLE):
        parse(setting)
