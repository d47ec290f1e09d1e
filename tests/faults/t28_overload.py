"""T28: five times as many images as can be done, and a quiet searcher beside them.

The generator is open: it sends at its own pace, whatever the answers are.
"""

from __future__ import annotations

import random
import time
from collections import Counter

import httpx
import numpy as np

from faults import records, specimens
from faults.acks import Item
from faults.calls import Calls
from faults.clients import Habits, upload
from faults.flood import BATCH, Flood
from faults.platforms import QUICK, Platform, cluster
from faults.reports import Report
from faults.trials import Options, Trial, trial

NAME = "T28"
FACTOR = 5.0
MINUTES = 5.0
BACKLOG = 5_000
QUIET = "quiet"
SLOWER = 2.0  # how much a quiet search may be slowed
REFUSED_MILLISECONDS = 1_000.0


def run(options: Options) -> Report:
    """Admitted work finishes, the rest is refused quickly, the quiet one is served."""
    seconds = (options.minutes or MINUTES * options.scale) * 60
    env = {
        **QUICK,
        "LOOKALIKE_MAX_PENDING_IMAGES": str(2 * BACKLOG),
        "LOOKALIKE_MAX_PENDING_IMAGES_PER_TEAM": str(BACKLOG),
    }
    with (
        cluster(options.folder, env) as platform,
        trial(NAME, platform, options.seed, Habits(most=0), clients=1) as running,
    ):
        _make_quiet(platform)
        alone = _quiet_searches(platform, running.calls, seconds=20)
        capacity = _capacity(running)
        rate = FACTOR * capacity / BATCH
        began = time.monotonic()
        flood = Flood(platform.url, rate, seconds, "flood", options.folder)
        flooded = _quiet_searches(platform, running.calls, seconds=seconds)
        flood.end(running.log, running.calls)
        report = running.finish()
    calls = running.calls
    quick = calls.milliseconds("put", 50, 99, status=429, since=began)
    statuses = calls.answers("put")
    report.figures |= {
        "capacity, images/s": round(capacity),
        "sent, images/s": round(rate * BATCH),
        "answers": dict(statuses),
        "429 after, ms p50/p99": [round(each) for each in quick],
        "quiet search alone, ms p50/p99": [round(each) for each in alone],
        "quiet search flooded, ms p50/p99": [round(each) for each in flooded],
    }
    unanswered = Counter(call.code for call in calls.made if not call.status)
    if unanswered:
        report.figures["unanswered"] = dict(unanswered)
    if set(statuses) - {202, 429}:
        report.breaches.append(f"T28: a flood was answered with {dict(statuses)}")
    if not quick:
        report.breaches.append("T28: nothing was refused")
    elif quick[1] > REFUSED_MILLISECONDS:
        report.breaches.append(f"T28: a refusal took {quick[1]:.0f} ms")
    if flooded[1] > SLOWER * alone[1]:
        report.breaches.append(
            f"T28: a quiet search took {flooded[1]:.0f} ms, alone {alone[1]:.0f} ms"
        )
    return report


def _make_quiet(platform: Platform) -> None:
    """A collection of its own, with some images."""
    body = {"name": QUIET, "fields": {"tag": {"type": "int"}}}
    httpx.post(f"{platform.url}/v1/collections", json=body, timeout=60)
    items = [Item(f"quiet-{number}", 1) for number in range(300)]
    answer = httpx.post(
        f"{platform.url}/v1/collections/{QUIET}/images", timeout=60, **upload(items)
    )
    assert answer.status_code == 202, answer.text
    while records.number(platform.database, records.PENDING):
        time.sleep(0.2)


def _quiet_searches(platform: Platform, calls: Calls, seconds: float) -> list[float]:
    """Milliseconds of searches, three a second: p50 and p99."""
    took = []
    generator = random.Random(0)
    until = time.monotonic() + seconds
    with httpx.Client(base_url=platform.url, timeout=75) as http:
        while time.monotonic() < until:
            picture = specimens.picture(generator.randrange(specimens.PALETTE))
            with calls.timed("search") as call:
                answer = http.post(
                    f"/v1/collections/{QUIET}/search",
                    content=picture,
                    headers={"Content-Type": "image/png"},
                )
                call.answered(answer)
            took.append(call.took * 1000)
            time.sleep(0.33)
    return [float(each) for each in np.percentile(took, (50, 99))]


def _capacity(running: Trial) -> float:
    """Images a second, from the request to the end of the work."""
    platform = running.platform
    began = time.monotonic()
    before = records.number(platform.database, records.DONE)
    flood = Flood(platform.url, 20, 5, "first", platform.folder)
    flood.end(running.log, running.calls)
    while records.number(platform.database, records.PENDING):
        time.sleep(0.1)
    done = records.number(platform.database, records.DONE) - before
    return done / (time.monotonic() - began)
