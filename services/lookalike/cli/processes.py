"""Commands that run a process: ``up``, ``api`` and ``worker``."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import click

from lookalike import logs
from lookalike.cli.settings import load, require

WORKER_NICENESS = 10  # of 19; with nothing else to do, workers get all there is

INSECURE_BIND = click.option(
    "--insecure-bind",
    is_flag=True,
    envvar="LOOKALIKE_INSECURE_BIND",
    help="Listen where other machines can reach it, although there is no "
    "authentication yet.",
)


@click.command()
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where everything is kept. [default: the user's data folder]",
)
@click.option("--host", help="Address to listen on. [default: 127.0.0.1]")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port to listen on. [default: 8080 or the next free one]",
)
@INSECURE_BIND
def up(
    data_dir: Path | None, host: str | None, port: int | None, insecure_bind: bool
) -> None:
    """Run everything in one process: API, workers, index and page."""
    settings = load(data_dir=data_dir, host=host, port=port)
    logs.configure(settings.log_level)

    from lookalike.embedded import serve

    def ready(address: str) -> None:
        click.echo(f"Lookalike is ready: {address}")

    serve(settings, on_ready=ready, allow_any_host=insecure_bind)
    click.echo("Lookalike has stopped.")
    sys.stdout.flush()


@click.command()
@click.option("--host", help="Address to listen on. [default: 127.0.0.1]")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help="Port to listen on. [default: 8080]",
)
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    default=2,
    show_default=True,
    help="Processes that answer requests.",
)
@INSECURE_BIND
def api(
    host: str | None, port: int | None, processes: int, insecure_bind: bool
) -> None:
    """Run the API of a cluster: several processes that answer requests."""
    settings = load(host=host, port=port)
    logs.configure(settings.log_level)
    require(settings, reason="The API and its workers are several processes.")

    from lookalike.embedded import check_host

    check_host(settings.host, allow_any_host=insecure_bind)
    command = gunicorn_command(
        f"[{settings.host}]" if ":" in settings.host else settings.host,
        settings.port,
        processes=processes,
        threads=settings.http_threads,
    )
    # In its own place, so that signals reach gunicorn and not a parent of it.
    os.execv(command[0], command)


def gunicorn_command(
    host: str, port: int, *, processes: int, threads: int
) -> list[str]:
    """The command line of the API's server."""
    # Each process connects for itself, after the fork: gRPC does not survive one.
    # The application is therefore never preloaded, only its modules are.
    command = [sys.executable, "-m", "gunicorn", "lookalike.api.wsgi:app"]
    command += ["--config", "python:lookalike.api.gunicorn"]
    command += ["--bind", f"{host}:{port}", "--backlog", "512"]
    command += ["--worker-class", "gthread"]
    command += ["--workers", str(processes), "--threads", str(threads)]
    # A process that shows no sign of life for 60 s is replaced; one that stops has
    # 30 s for the requests it answers.
    command += ["--timeout", "60", "--graceful-timeout", "30", "--keep-alive", "5"]
    command += ["--limit-request-line", "4094", "--limit-request-fields", "64"]
    command += ["--limit-request-field_size", "8190", "--no-control-socket"]
    if Path("/dev/shm").is_dir():
        # The signs of life are files: on a disk that is slow they would come late.
        command += ["--worker-tmp-dir", "/dev/shm"]
    return command


@click.command()
def worker() -> None:
    """Run the workers of a cluster: processes that embed what the API accepted."""
    settings = load()
    logs.configure(settings.log_level)
    require(settings, reason="Workers share their servers with the API.")
    # Each child uses one core; libraries that start a thread per core only fight.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

    give_way()

    from lookalike.worker.child import run_worker
    from lookalike.worker.main import app

    run_worker(app, settings)


def give_way() -> None:
    """Let other processes of this machine go first: somebody waits for the API.

    Where Linux groups processes by session (autogroup), only the group's own nice
    value counts between groups.
    """
    os.nice(WORKER_NICENESS)
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(WORKER_NICENESS))
