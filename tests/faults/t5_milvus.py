"""T5 and T6: Milvus is killed, down and hung; ingestion goes on, searches say so."""

from __future__ import annotations

import time

from faults.clients import Habits
from faults.killing import plan
from faults.parts import Milvus
from faults.platforms import cluster
from faults.reports import Report
from faults.trials import Options, Trial, api_of, trial

HABITS = Habits(batch=(10, 40), pause=0.5)


def run_killed(options: Options) -> Report:
    """T5: killed and started again, under ingestion and search."""
    seconds = (options.minutes or options.some(600) / 60) * 60
    kills = options.kills or options.some(5)
    with (
        cluster(options.folder) as platform,
        trial("T5", platform, options.seed, HABITS) as running,
    ):
        running.kill(plan(options.seed, seconds, {"milvus": kills}))
        report = running.finish()
    _check_answers(running, report)
    return report


def run_away(options: Options) -> Report:
    """T6: down, then hung: threads and memory stay as they are."""
    with (
        cluster(options.folder) as platform,
        trial("T6", platform, options.seed, HABITS) as running,
    ):
        milvus = platform.parts["milvus"]
        assert isinstance(milvus, Milvus)
        running.killer.wait(options.some(30, least=15))
        before = _size(running)
        milvus.kill()
        _phase(running, "down", options.some(300))
        during = _size(running)
        milvus.spawn()
        running.report.kills["milvus"] += 1
        running.killer.settle()
        milvus.server.freeze()
        _phase(running, "hung", options.some(60))
        milvus.server.thaw()
        report = running.finish()
        after = _size(running)
    for name in before:
        told = f"{before[name]} / {during[name]} / {after[name]}"
        report.figures[f"API's {name} before/down/after"] = told
    if during["threads"] > before["threads"] * 1.1 + 4:
        report.breaches.append(f"I7 threads: {before} became {during}")
    _check_answers(running, report)
    return report


def _phase(running: Trial, name: str, seconds: float) -> None:
    began = time.monotonic()
    running.killer.wait(seconds)
    took = running.calls.milliseconds("search", 50, 99, status=503, since=began)
    told = " / ".join(f"{each:.0f}" for each in took) or "none"
    running.report.figures[f"503 of searches, {name}, ms p50/p99"] = told


def _size(running: Trial) -> dict[str, int]:
    family = api_of(running.platform).family()
    return {
        "threads": sum(process.num_threads() for process in family),
        "files": sum(process.num_fds() for process in family),
        "MiB": sum(process.memory_info().rss for process in family) // 2**20,
    }


def _check_answers(running: Trial, report: Report) -> None:
    """Ingestion never notices; a search that fails says that the index is missing."""
    if failed := running.calls.answers("put").keys() & {500, 503}:
        report.breaches.append(f"I6 answers: ingestion was answered with {failed}")
    codes = {
        call.code
        for call in running.calls.made
        if call.kind == "search" and call.status >= 400
    }
    if codes - {"index_unavailable"}:
        report.breaches.append(f"I6 answers: searches were answered with {codes}")
    report.figures["searches by status"] = dict(running.calls.answers("search"))
