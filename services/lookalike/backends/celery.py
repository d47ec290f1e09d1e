"""The work queue on Celery and Redis: its settings, and the side that rings."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Any

import redis
from celery import Celery
from redis.backoff import NoBackoff
from redis.retry import Retry

from lookalike.errors import Unavailable
from lookalike.interfaces import WorkId

logger = logging.getLogger(__name__)

INDEX_TASK = "lookalike.index"  # called by name: the API never imports the worker
QUEUE = "work"

MAX_WAITING_IDS = 200_000  # in this process, while Redis is away
MAX_MESSAGES = 20_000  # in Redis; 1.4 kB each with 32 ids
LOOK_SECONDS = 5.0  # how often the length of the queue in Redis is looked at
FAILURES_TO_BREAK = 3
PUBLISH_TIMEOUT = {"socket_timeout": 1, "socket_connect_timeout": 1}


def make_celery(redis_url: str) -> Celery:
    """A Celery app with every setting that the queue relies on; connects to nothing.

    No result backend, no chords, groups, chains, ETA or retries: the ledger is the
    record of what was done, and a message only says that there is work.
    """
    app = Celery("lookalike", broker=redis_url, set_as_current=False)
    app.conf.update(_consuming(), **_limits(), **_connections())
    return app


def _consuming() -> dict[str, Any]:
    return {
        "task_default_queue": QUEUE,
        # A message is acknowledged after the work, so that a killed worker's message
        # comes back. It may then run twice: the ledger's claim makes that harmless.
        "task_acks_late": True,
        # Coming back at once after a child died is a loop for a poison image
        # (109 runs in 20 s were measured): the ledger counts attempts instead.
        "task_reject_on_worker_lost": False,
        "task_retry_on_worker_lost": False,
        # A worker holds no message that another, idle one could take.
        "worker_prefetch_multiplier": 1,
        "task_ignore_result": True,
        "result_backend": None,
        # Whoever can write to Redis could run code through pickle.
        "accept_content": ["json"],
        "task_serializer": "json",
    }


def _limits() -> dict[str, Any]:
    return {
        # Below the lease of the ledger (180 s): a chunk that hangs has been ended
        # before another worker may claim it.
        "task_soft_time_limit": 90,
        "task_time_limit": 120,
        # Native libraries fragment memory; a fresh child now and then costs little.
        "worker_max_tasks_per_child": 1000,
        "worker_max_memory_per_child": 800_000,  # kB; looked at only between tasks
        # SIGTERM waits for running chunks. SIGQUIT, for when there is little time,
        # waits this long and then ends them.
        "worker_soft_shutdown_timeout": 20,
        # A repeated chunk is harmless, a cancelled one is only slower.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # Nothing here is steered over Redis; reply queues would never expire.
        "worker_enable_remote_control": False,
        "worker_hijack_root_logger": False,
    }


def _connections() -> dict[str, Any]:
    return {
        # Wait for Redis for ever: giving up (after 100 tries) needs an operator.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_pool_acquire_timeout": 2,
        "broker_connection_timeout": 2,
        # The reconciler repeats, never the caller.
        "task_publish_retry": False,
        "broker_transport_options": {
            # More than twice the time limit, so that no running chunk is repeated.
            "visibility_timeout": 600,
            # A message lost by a dead worker is looked for every 10 s, not 100 s.
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,
            "unacked_mutex_expire": 30,
            # Without these, a Redis that hangs blocks its clients for ever.
            "socket_timeout": 5,
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "global_keyprefix": "lookalike:",
        },
    }


class CeleryQueue:
    """A ``JobQueue`` that sends ids to Celery workers through Redis.

    ``ring`` only notes the ids; one background thread sends them. So no request ever
    waits for Redis, whether it is down, hung or slow. What does not fit is dropped:
    the work is in the ledger, and the reconciler rings again.
    """

    def __init__(
        self, redis_url: str, *, chunk_images: int, retry_seconds: float = 5.0
    ) -> None:
        """Connect to nothing yet; the thread starts with the first ring.

        Args:
            redis_url: where the workers listen.
            chunk_images: most ids in one message.
            retry_seconds: after three failures in a row, how long until the next try.
        """
        self._url = redis_url
        self._app = make_celery(redis_url)
        self._chunk_images = chunk_images
        self._retry_seconds = retry_seconds
        self._waiting: deque[WorkId] = deque(maxlen=MAX_WAITING_IDS)
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def ring(self, work: Sequence[WorkId]) -> None:
        """Note the ids for the background thread."""
        with self._changed:
            if self._is_closed or not work:
                return
            self._waiting.extend(work)
            # Checked each time: after a fork the parent's thread is not alive here.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._publish, name="doorbell", daemon=True
                )
                self._thread.start()
            self._changed.notify()

    def check(self) -> None:
        """Return if Redis answers now, within a second.

        Raises:
            Unavailable: code ``queue_unavailable``; the ledger keeps the work.
        """
        try:
            # Not the publisher's connection, which is its thread's own.
            with redis.Redis.from_url(
                self._url, retry=Retry(NoBackoff(), 0), **PUBLISH_TIMEOUT
            ) as client:
                client.ping()
        except (redis.RedisError, OSError) as error:
            raise Unavailable(
                f"Redis does not answer: {error}. What is accepted meanwhile is done "
                "once the workers look for it themselves, or Redis is back.",
                code="queue_unavailable",
            ) from error

    def close(self, timeout: float = 2.0) -> None:
        """Send what still waits if that is quick, then stop."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join(timeout)

    def _publish(self) -> None:
        line = _Line(self._app)
        failures = 0
        while chunk := self._next_chunk():
            try:
                line.send(chunk)
                if failures >= FAILURES_TO_BREAK:
                    logger.info("Redis takes messages again")
                failures = 0
            # Anything at all may come out of a client whose server is dying, and
            # this thread must outlive it.
            except Exception as error:
                failures += 1
                line.hang_up()
                if failures == FAILURES_TO_BREAK:
                    logger.warning("Redis takes no messages: %s", error)
                if not self._pause(chunk, failures):
                    break
        line.hang_up()

    def _next_chunk(self) -> list[WorkId]:
        """The ids of the next message; empty when there is nothing more to do."""
        with self._changed:
            while not self._waiting and not self._is_closed:
                self._changed.wait()
            ready = min(len(self._waiting), self._chunk_images)
            return [self._waiting.popleft() for _ in range(ready)]

    def _pause(self, unsent: Sequence[WorkId], failures: int) -> bool:
        """Keep the ids for the next try and wait for it; false if it is time to go."""
        wait = 0.1 if failures < FAILURES_TO_BREAK else self._retry_seconds
        with self._changed:
            room = MAX_WAITING_IDS - len(self._waiting)
            self._waiting.extendleft(reversed(list(islice(unsent, room))))
            deadline = time.monotonic() + wait
            while not self._is_closed and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            return not self._is_closed


class _Line:
    """The publisher's own connection, made anew after each failure."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._connection: Any = None
        self._producer: Any = None
        self._looked_at = 0.0
        self._is_full = False

    def send(self, chunk: Sequence[WorkId]) -> None:
        """Send one message, unless so many wait already that it would not help."""
        if self._connection is None:
            self._connect()
        if time.monotonic() - self._looked_at > LOOK_SECONDS:
            self._look()
        if self._is_full:
            return
        self._app.send_task(
            INDEX_TASK,
            args=[list(chunk)],
            producer=self._producer,
            retry=False,
            ignore_result=True,
        )

    def hang_up(self) -> None:
        """Drop the connection without a word, since the server may not listen."""
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            try:
                connection.collect(socket_timeout=0.1)
            except Exception as error:
                logger.debug("closing the connection to Redis: %s", error)

    def _connect(self) -> None:
        self._connection = self._app.connection_for_write(
            transport_options=PUBLISH_TIMEOUT
        )
        # A channel of our own: the default one retries for a long time.
        channel = self._connection.channel()
        self._producer = self._app.amqp.Producer(channel, auto_declare=False)
        self._looked_at = 0.0

    def _look(self) -> None:
        """Declare the queue (Redis may have lost it) and see how long it is."""
        channel = self._producer.channel
        self._app.amqp.queues[QUEUE](channel).declare()
        length = channel.queue_declare(queue=QUEUE).message_count
        was_full, self._is_full = self._is_full, length >= MAX_MESSAGES
        if self._is_full and not was_full:
            logger.warning(
                "%d messages wait in Redis; until workers catch up, no more are sent",
                length,
            )
        self._looked_at = time.monotonic()
