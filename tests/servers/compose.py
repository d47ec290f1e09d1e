"""Docker Compose, to validate ``docker-compose.yml``; it needs no container engine.

Compose is what reads the file in the end, so it is its own best validator. Where it is
not installed, Debian's package is unpacked into ``.cache``: one program that depends on
nothing else. Debian 12 has only its first generation, which does not know half of what
the file says, so the package is the one of Debian 13.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CACHE = Path(__file__).parents[2] / ".cache"
FOLDER = CACHE / "docker-compose"
PROGRAM = FOLDER / "usr/libexec/docker/cli-plugins/docker-compose"
MINIMUM = (2, 26)
SUITE = "trixie"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class ComposeMissing(Exception):
    """It cannot be had on this machine; says why."""


class Refused(Exception):
    """Compose does not accept the file; its own words."""


def compose_command() -> list[str] | None:
    """How Compose is called here, if it is there and new enough."""
    candidates: tuple[list[str], ...] = (
        ["docker", "compose"],
        ["docker-compose"],
        [str(PROGRAM)],
    )
    for command in candidates:
        if shutil.which(command[0]) and (_version(command) or (0,)) >= MINIMUM:
            return command
    return None


def configuration(
    file: Path, env: Mapping[str, str], profiles: Sequence[str] = ()
) -> dict[str, Any]:
    """The file as Compose understands it: merged, filled in and validated.

    Args:
        file: the file.
        env: the variables it is filled in with, and no others.
        profiles: those that are switched on.

    Raises:
        Refused: it is not valid; the message is Compose's.
        ComposeMissing: there is no Compose here.
    """
    command = compose_command()
    if command is None:
        raise ComposeMissing("there is no Docker Compose: run `make servers`")
    chosen = [word for name in profiles for word in ("--profile", name)]
    result = subprocess.run(
        [
            *(*command, "--file", str(file), "--env-file", "/dev/null", *chosen),
            *("config", "--format", "json"),
        ],
        env={"PATH": os.environ.get("PATH", os.defpath), **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if result.returncode != 0 or "level=warning" in result.stderr:
        raise Refused(result.stderr.strip())
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def install() -> None:
    """Bring Compose to ``PROGRAM`` if no new enough one is installed.

    Raises:
        ComposeMissing: this is no Debian, or its archive cannot be reached.
    """
    if compose_command():
        return
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "docker-compose.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if compose_command():
            return
        shutil.rmtree(FOLDER, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            package = _downloaded(Path(scratch))
            _run("dpkg-deb", "--extract", str(package), str(FOLDER))
    if not compose_command():
        raise ComposeMissing(f"{package.name} does not run here")


def _downloaded(folder: Path) -> Path:
    """Debian's package, its signature checked, without touching this machine's apt."""
    archive = _archive()
    (folder / "lists" / "partial").mkdir(parents=True)
    (folder / "cache" / "archives" / "partial").mkdir(parents=True)
    sources = folder / "sources.list"
    sources.write_text(f"deb [signed-by={KEYRING}] {archive} {SUITE} main\n")
    options = {
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "-",
        "Dir::State::Lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        # Its own account could not enter a folder below a home.
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", "-qq"]
    apt += [f"-o{name}={value}" for name, value in options.items()]
    _run(*apt, "update")
    _run(*apt, "download", "docker-compose", folder=folder)
    return next(folder.glob("docker-compose_*.deb"))


def _archive() -> str:
    """Where this machine gets its own Debian packages from."""
    if not (shutil.which("apt-get") and KEYRING.exists()):
        raise ComposeMissing(
            f"install Docker Compose {MINIMUM[0]}.{MINIMUM[1]} or newer"
        )
    release = Path("/etc/os-release").read_text()
    codename = re.search(r"^VERSION_CODENAME=(\w+)", release, re.MULTILINE)
    targets = _run(
        *("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)"),
        "Created-By: Packages",
    )
    for line in targets.splitlines():
        address, _, suite = line.partition(" ")
        if codename and suite == codename[1]:
            return address
    raise ComposeMissing("this machine's apt names no archive of Debian")


def _version(command: Sequence[str]) -> tuple[int, ...] | None:
    try:
        said = subprocess.run(
            [*command, "version", "--short"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        ).stdout
    except OSError:
        return None
    found = re.match(r"v?(\d+)\.(\d+)", said)
    return tuple(map(int, found.groups())) if found else None


def _run(*command: str, folder: Path | None = None) -> str:
    result = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=600, check=False
    )
    if result.returncode != 0:
        last = (result.stderr or result.stdout).strip().splitlines()[-2:]
        raise ComposeMissing(f"{' '.join(command[:2])} failed: {' / '.join(last)}")
    return result.stdout
