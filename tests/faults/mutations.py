"""Is each guard needed, and would anyone notice? The guards are broken, one by one.

    PYTHONPATH=tests python -m faults.mutations [--only WORD …] [--list]

Each mutation changes a few lines in a copy of ``services``, and the tests that are to
turn red run on that copy. One that none of them notices SURVIVED; one whose lines are
no longer in the code is STALE, and has to be written anew. Exit status 1 for either.
"""

from __future__ import annotations

import argparse
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from faults.mutation_list import MUTATIONS, Check, Mutation

ROOT = Path(__file__).parents[2]
LIMIT = 900.0


class Stale(Exception):
    """The lines that a mutation changes are not in the code."""


@dataclass(frozen=True)
class Verdict:
    """What became of a mutation: the check that noticed it, or SURVIVED or STALE."""

    mutation: Mutation
    caught_by: str
    seconds: float

    @property
    def is_good(self) -> bool:
        """Whether something noticed."""
        return self.caught_by not in ("SURVIVED", "STALE")


def main() -> int:
    """Try the chosen mutations and print their table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", default=[], help="words of their names")
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    chosen = [
        mutation
        for mutation in MUTATIONS
        if not arguments.only or any(word in mutation.name for word in arguments.only)
    ]
    if arguments.list:
        print("\n".join(mutation.name for mutation in chosen))
        return 0
    verdicts = []
    for mutation in chosen:
        verdicts.append(tried(mutation))
        print(line(verdicts[-1]), flush=True)
    print(f"\n{table(verdicts)}")
    return 0 if all(verdict.is_good for verdict in verdicts) else 1


def tried(mutation: Mutation) -> Verdict:
    """Apply a mutation to a copy, and run its checks until one fails."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lookalike-mutation-") as scratch:
        try:
            services = mutated(mutation, Path(scratch))
        except Stale:
            return Verdict(mutation, "STALE", 0.0)
        for check in mutation.checks:
            if is_green(check) and fails(check, services):
                return Verdict(mutation, shown(check), time.monotonic() - began)
    return Verdict(mutation, "SURVIVED", time.monotonic() - began)


def mutated(mutation: Mutation, scratch: Path) -> Path:
    """A copy of ``services`` with the mutation.

    Raises:
        Stale: the lines to change are not there, or more than once.
    """
    services = scratch / "services"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "services", services, ignore=ignored)
    # The bundled backbone is found beside the code.
    (scratch / "model_repository").symlink_to(ROOT / "model_repository")
    for file, old, new in mutation.edits:
        path = services / "lookalike" / file
        text = path.read_text() if path.exists() else ""
        if text.count(old) != 1:
            raise Stale(f"{mutation.name}: {text.count(old)} times in {file}")
        path.write_text(text.replace(old, new))
    return services


@functools.cache
def is_green(check: Check) -> bool:
    """Whether a check passes on the code as it is; one that does not shows nothing."""
    passes = not fails(check, ROOT / "services")
    if not passes:
        print(f"not green before any change: {shown(check)}", file=sys.stderr)
    return passes


def fails(check: Check, services: Path) -> bool:
    """Whether a check turns red on that copy."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(services), str(ROOT / "tests")]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *check],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=output,
        )
        try:
            return process.wait(LIMIT) != 0
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait(60)
            return True


def shown(check: Check) -> str:
    """A check as it stands in the table."""
    return " ".join(word for word in check if not word.startswith("-") or word == "-k")


def line(verdict: Verdict) -> str:
    """One row."""
    return f"| {verdict.mutation.name} | {verdict.caught_by} | {verdict.seconds:.0f} |"


def table(verdicts: Sequence[Verdict]) -> str:
    """All rows, in Markdown."""
    head = "| what is broken | noticed by | s |\n|---|---|---|"
    return "\n".join([head, *map(line, verdicts)])


if __name__ == "__main__":
    sys.exit(main())
