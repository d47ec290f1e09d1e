"""T9: what is on the disk before the answer: file, name, folder, commit, in that order.

A process of ``lookalike up`` runs under strace. The thread that answers a request does
all of this itself, so its system calls show the order.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator

import httpx

from faults.acks import Item
from faults.clients import COLLECTION, upload
from faults.parts import Command
from faults.platforms import single
from faults.reports import Report
from faults.trials import Options

NAME = "T9"
REQUESTS = 20
TRACED = "fsync,fdatasync,rename,renameat,renameat2,sendto"
LINE = re.compile(r"^(?P<thread>\d+) +(?P<rest>.*)$")
ORDER = ("file", "rename", "folder", "commit", "answer")


def run(options: Options) -> Report:
    """Requests of one new image each."""
    report = Report(NAME, options.seed)
    strace = shutil.which("strace")
    if strace is None:
        report.figures["skipped"] = "no strace: install the package strace"
        return report
    began = time.monotonic()
    trace = options.folder / "trace"
    with single(options.folder, start=False) as platform:
        part = platform.parts["up"]
        assert isinstance(part, Command)
        part.command[:0] = [
            *(strace, "-f", "-y", "-s", "16", "-e", f"trace={TRACED}"),
            *("-o", str(trace)),
        ]
        platform.start()
        with httpx.Client(base_url=platform.url, timeout=60) as http:
            for number in range(REQUESTS):
                answer = http.post(
                    f"/v1/collections/{COLLECTION}/images",
                    **upload([Item(f"traced-{number}", 1)]),
                )
                assert answer.status_code == 202, answer.text
        report.acknowledged = REQUESTS
    requests = list(sequences(trace.read_text(errors="replace")))
    wrong = [found for found in requests if not is_in_order(found)]
    report.figures = {"requests": len(requests), "in order": len(requests) - len(wrong)}
    report.breaches = [f"T9: {' '.join(found)}" for found in wrong[:5]]
    if len(requests) != REQUESTS:
        report.breaches.append(f"T9: the trace shows {len(requests)} requests")
    report.seconds = time.monotonic() - began
    return report


def sequences(trace: str) -> Iterator[list[str]]:
    """For each request that stored an original: what its thread did, up to the 202."""
    threads: dict[str, list[str]] = {}
    for line in trace.splitlines():
        if found := LINE.match(line):
            steps = threads.setdefault(found["thread"], [])
            if step := step_of(found["rest"]):
                steps.append(step)
            if step == "answer":
                if "rename" in steps:
                    yield steps
                threads[found["thread"]] = []


def step_of(call: str) -> str:
    """Which step a system call is; empty if it is none."""
    if call.startswith(("fsync(", "fdatasync(")):
        if "ledger.sqlite3-wal" in call:
            return "commit"
        if "/incoming/" in call:
            return "file"
        return "folder" if "/originals/" in call else ""
    if call.startswith("rename"):
        return "rename" if "/incoming/" in call else ""
    return "answer" if "HTTP/1.1 202" in call else ""


def is_in_order(steps: list[str]) -> bool:
    """Whether every step is there, and none before the one it relies on."""
    if set(ORDER) - set(steps):
        return False
    last = {step: len(steps) - 1 - steps[::-1].index(step) for step in ORDER}
    first = {step: steps.index(step) for step in ORDER}
    return (
        last["file"] < first["rename"]
        # A folder that was made by it is synced again after it.
        and last["rename"] < last["folder"] < last["commit"] < first["answer"]
    )
