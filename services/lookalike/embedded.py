"""``lookalike up``: the API, the workers and the index, all in one process."""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import logging
import os
import queue
import signal
import socket
import sys
from collections.abc import Callable, Iterator

from lookalike import bootstrap, ingest
from lookalike.api import create_app
from lookalike.bootstrap import Backends
from lookalike.config import Settings
from lookalike.errors import Misconfigured
from lookalike.reconciler import Reconciler
from lookalike.webserver import WebServer, listen

logger = logging.getLogger(__name__)

Connect = Callable[[Settings], Backends]


def serve(
    settings: Settings,
    *,
    on_ready: Callable[[str], None],
    allow_any_host: bool = False,
    connect: Connect = bootstrap.connect,
) -> None:
    """Run until SIGINT or SIGTERM; call from the main thread.

    A port that was not set explicitly is 8080 or the next free one. A first signal
    lets what runs come to its end, for about five seconds; a second ends at once.

    Args:
        settings: everything else.
        on_ready: called with the address once requests are answered.
        allow_any_host: listen on addresses that others can reach, too.
        connect: opens the backends.

    Raises:
        Misconfigured: a setting is wrong; the message names it.
        Unavailable: a part that the settings name does not answer.
    """
    check_index(settings)
    check_host(settings.host, allow_any_host=allow_any_host)
    # Threads that come back from decoding or inference wait this long for one that runs
    # Python to let go. With the default of 5 ms, ingestion is 7 % slower.
    sys.setswitchinterval(0.0005)
    with contextlib.ExitStack() as closing:
        closing.enter_context(only_process(settings))
        listener = closing.enter_context(
            listen(
                settings.host,
                settings.port,
                exactly="port" in settings.model_fields_set,
            )
        )
        backends = connect(settings)
        closing.callback(backends.close)
        if settings.is_embedded_ledger and settings.is_embedded_queue:
            # The lock says that whoever held work is gone: it goes on at once.
            backends.ledger.recover()
        backends.warm_up()
        reconciler = Reconciler(
            lambda: ingest.reconcile(
                backends.ledger, backends.queue, chunk_images=settings.chunk_images
            ),
            seconds=settings.reconcile_seconds,
            housekeep=backends.housekeeping,
        )
        closing.callback(reconciler.stop)
        reconciler.start()
        server = WebServer(
            listener, create_app(backends), threads=settings.http_threads
        )
        closing.callback(server.stop)
        server.start()
        wait_for_signal(lambda: on_ready(address(listener)))


def check_index(settings: Settings) -> None:
    """Return if no other process needs the index.

    Raises:
        Misconfigured: Celery workers are set up, but Milvus Lite has one process.
    """
    if settings.is_embedded_index and not settings.is_embedded_queue:
        raise Misconfigured(
            "LOOKALIKE_REDIS_URL is set, so workers run in other processes, but Milvus "
            "Lite can be opened by one process alone. Set LOOKALIKE_MILVUS_URI to a "
            "Milvus server, or unset LOOKALIKE_REDIS_URL.",
            extra={"settings": ["LOOKALIKE_MILVUS_URI"]},
        )


def check_host(host: str, *, allow_any_host: bool) -> None:
    """Return if only this machine reaches the address, or if anyone may.

    Raises:
        Misconfigured: others could reach it, and there is no authentication yet.
    """
    if is_loopback(host):
        return
    if not allow_any_host:
        raise Misconfigured(
            f"Host {host!r} can be reached from other machines, and there is no "
            "authentication yet: whoever reaches it reads and deletes everything. "
            "Use 127.0.0.1, or add --insecure-bind if the network keeps others out."
        )
    logger.warning(
        "listening on %s WITHOUT AUTHENTICATION: whoever reaches this port reads and "
        "deletes everything",
        host,
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextlib.contextmanager
def only_process(settings: Settings) -> Iterator[None]:
    """Hold the data folder, made if need be, for the time of the block.

    Raises:
        Misconfigured: another process holds it, or it cannot be written to.
    """
    path = settings.data_dir / "lookalike.lock"
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        lock = path.open("a+")
    except OSError as error:
        raise Misconfigured(
            f"The data folder {settings.data_dir} cannot be used: {error.strerror}. "
            "Give another with --data-dir or LOOKALIKE_DATA_DIR.",
            code="data_folder_unusable",
        ) from error
    with lock:
        try:
            # Let go of by the kernel when the process ends, however it ends.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            raise Misconfigured(
                f"The data folder {settings.data_dir} is in use by process "
                f"{lock.read().strip() or 'unknown'}. Stop that one, or give another "
                "folder with --data-dir.",
                code="data_folder_in_use",
            ) from error
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def address(listener: socket.socket) -> str:
    """What to type into a browser to get to a listening socket."""
    host, port = listener.getsockname()[:2]
    if host in {"0.0.0.0", "::"}:
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def wait_for_signal(when_waiting: Callable[[], None]) -> None:
    """Return at the first SIGINT or SIGTERM; a second one ends the process."""
    # SimpleQueue, because its put is safe inside a signal handler.
    received: queue.SimpleQueue[int] = queue.SimpleQueue()

    def first(number: int, _: object) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, at_once)
        received.put(number)

    def at_once(number: int, _: object) -> None:
        os._exit(128 + number)

    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, first)
    when_waiting()
    number = received.get()
    logger.info("stopping: %s", signal.Signals(number).name)
