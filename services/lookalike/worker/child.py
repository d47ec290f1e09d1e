"""What a worker does with a message, and what each of its children holds."""

from __future__ import annotations

import logging
import resource
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from billiard import current_process, pool
from celery import Celery, signals
from celery.worker import request as celery_request

from lookalike import ingest, logs
from lookalike.backends.celery import INDEX_TASK, make_celery
from lookalike.config import Settings
from lookalike.errors import LookalikeError, Unavailable
from lookalike.interfaces import WorkId
from lookalike.reconciler import Reconciler

if TYPE_CHECKING:
    from lookalike.bootstrap import Backends

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 30.0  # for parts that are down when a child starts to work
CHILD_BYTES = 3 * 2**30  # writable memory of one child

Connect = Callable[[Settings], "Backends"]


class Child:
    """What one child process of the worker holds.

    Backends are opened in the child, on first use: gRPC does not survive a fork, so
    the parent never opens any.
    """

    def __init__(self, settings: Settings, connect: Connect) -> None:
        # A child does one chunk at a time, so it gets one thread of everything.
        self._settings = settings.model_copy(update={"workers": 1})
        self._connect = connect
        self._opening = threading.Lock()
        self._backends: Backends | None = None

    def started(self, **_: object) -> None:
        """What a child does right after the fork."""
        # A picture that needs more memory than this fails alone, with a MemoryError,
        # before the kernel ends some process of its own choice.
        resource.setrlimit(resource.RLIMIT_DATA, (CHILD_BYTES, CHILD_BYTES))
        # A child that is asked to stop waits for its parent to have read every result,
        # up to 30 s, although the parent that stops reads no more. No result matters
        # here, since the ledger is the record: 2 s, counted in tenths.
        pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = 20
        # One child of each worker sweeps; its successor takes over when it ends.
        if getattr(current_process(), "index", 0) == 0:
            Reconciler(
                self._reconcile,
                seconds=self._settings.reconcile_seconds,
                housekeep=lambda stop: self._opened().housekeeping(stop),
            ).start()

    def backends(self) -> Backends:
        """The opened backends; waits a while for parts that are down.

        Raises:
            Misconfigured: a setting is wrong.
            Unavailable: a part does not answer.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        pause = 0.5
        while True:
            try:
                return self._opened()
            except Unavailable as error:
                if time.monotonic() + pause > deadline:
                    raise
                logger.warning("waiting for a part that is down: %s", error.detail)
                time.sleep(pause)
                pause *= 2

    def _opened(self) -> Backends:
        with self._opening:
            if self._backends is None:
                self._backends = self._connect(self._settings)
                logger.info("connected; ready to embed")
            return self._backends

    def _reconcile(self) -> int:
        backends = self._opened()
        return ingest.reconcile(
            backends.ledger, backends.queue, chunk_images=self._settings.chunk_images
        )


class Request(celery_request.Request):  # type: ignore[misc]
    """A message that a worker holds; one that cannot be acknowledged is no small thing.

    Celery logs it and goes on, with the message in its place for ever: as a child has
    one place, the worker would never ask for another. Raised, it is what any failure
    of the connection is: the worker connects anew and begins with no message.
    """

    acknowledged: bool

    def acknowledge(self) -> None:
        """Take the message out of Redis."""
        if not self.acknowledged:
            self._on_ack(logger, ())
            self.acknowledged = True


def create_worker(settings: Settings, connect: Connect) -> Celery:
    """A Celery app that carries out what is rung for; connects to nothing yet."""
    app = make_celery(settings.redis_url.get_secret_value())
    child = Child(settings, connect)

    @app.task(name=INDEX_TASK, Request=Request)  # type: ignore[untyped-decorator]
    def index(ids: list[int]) -> None:
        try:
            child.backends().index_images([WorkId(work) for work in ids])
        except MemoryError:
            # Celery would shut the whole worker down, and requeue the message for the
            # next one to die of.
            logger.error("a chunk of %d images needs too much memory", len(ids))
        except LookalikeError as error:
            logger.warning("%d images wait in the ledger: %s", len(ids), error.detail)
            logger.debug("the error in full", exc_info=True)

    def configure_logging(**_: object) -> None:
        logs.configure(settings.log_level)

    signals.worker_process_init.connect(child.started, weak=False)
    signals.setup_logging.connect(configure_logging, weak=False)
    return app


def run_worker(app: Celery, settings: Settings) -> None:
    """Work until a stop signal; makes the children and never returns otherwise."""
    app.worker_main(
        [
            "worker",
            "--pool=prefork",  # threads and green threads have lost connections
            f"--concurrency={settings.workers}",
            f"--loglevel={settings.log_level}",
            # Workers need to know nothing of each other.
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
        ]
    )
