from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from lookalike.cli import COMMANDS, main
from lookalike.cli.processes import gunicorn_command


def test_every_command_is_there_and_says_what_it_does() -> None:
    printed = CliRunner().invoke(main, ["--help"]).output

    for name in COMMANDS:
        assert f"  {name}  " in printed


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])

    assert result.exit_code == 0
    assert f"main {name}" in result.output


def test_what_is_refused_is_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOOKALIKE_CHUNK_IMAGES", "0")

    result = CliRunner().invoke(main, ["up"])

    assert result.exit_code == 2
    assert result.output.startswith("Error: LOOKALIKE_CHUNK_IMAGES: ")
    assert len(result.output.splitlines()) == 1


def test_the_value_of_a_wrong_setting_is_not_printed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOOKALIKE_LOG_LEVEL", "open-sesame")

    result = CliRunner().invoke(main, ["worker"])

    assert "LOOKALIKE_LOG_LEVEL" in result.output
    assert "open-sesame" not in result.output


def test_the_server_of_the_api_is_never_preloaded() -> None:
    command = gunicorn_command("127.0.0.1", 8080, processes=2, threads=16)

    assert "lookalike.api.wsgi:app" in command
    assert not any("preload" in word for word in command)


def test_what_forks_the_processes_of_the_api_has_its_modules_and_no_threads() -> None:
    program = """
import sys, threading
import lookalike.api.gunicorn
has = {"pymilvus", "sqlalchemy", "tritonclient.grpc", "flask"} <= set(sys.modules)
no = {"lookalike.api.wsgi", "onnxruntime"} & set(sys.modules)
print(has, threading.active_count(), len(no))
"""

    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout

    assert printed.split() == ["True", "1", "0"]
