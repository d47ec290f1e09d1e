"""``lookalike jobs``: what was accepted, what became of it, and trying again."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lookalike.cli import Commands
from lookalike.cli.ingest import FAILED, LISTED_FAILURES, patient_client, url_option
from lookalike.client import Client
from lookalike.interfaces import Failure, Job, JobId

WAIT_SECONDS = 24 * 3_600.0
PIPED_WIDTH = 1_000  # columns

COMMANDS = {
    "list": "lookalike.cli.jobs:list_jobs",
    "show": "lookalike.cli.jobs:show",
    "retry": "lookalike.cli.jobs:retry",
    "cancel": "lookalike.cli.jobs:cancel",
}

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON for programs."
)
job_argument = click.argument("job_id", metavar="JOB", type=JobId)


@click.group(cls=Commands, table=COMMANDS)
def jobs() -> None:
    """List, show, retry and cancel jobs of a server."""


@click.command("list")
@click.option(
    "--limit",
    "-n",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Most jobs to show.",
)
@json_option
@url_option
def list_jobs(limit: int, as_json: bool, url: str) -> None:
    """List jobs, the newest first."""
    with Client(url) as client:
        found = list(itertools.islice(client.jobs(), limit))
    if as_json:
        for job in found:
            click.echo(json.dumps(document(job)))
    elif found:
        _print_wide(_table(found))
    else:
        click.echo("There is no job yet.")


@click.command()
@job_argument
@json_option
@url_option
def show(job_id: JobId, as_json: bool, url: str) -> None:
    """Show how JOB stands and what failed."""
    with Client(url) as client:
        job = client.job(job_id)
        failures = client.failures(job_id)
        if as_json:
            listed = [asdict(failure) for failure in failures]
            click.echo(json.dumps(document(job) | {"failures": listed}, indent=2))
            return
        _say(job)
        if job.failed:
            _list_failures(job, itertools.islice(failures, LISTED_FAILURES))


@click.command()
@job_argument
@click.option("--wait", is_flag=True, help="Wait until the new job has finished.")
@url_option
def retry(job_id: JobId, wait: bool, url: str) -> None:
    """Try the failures of JOB again, as a new job.

    Those are tried that can succeed, from the originals that the server kept. With
    --wait it ends with status 1 if any image failed again.
    """
    with patient_client(url, Console(stderr=True)) as client:
        job = client.retry(job_id)
        count = "1 image is" if job.total == 1 else f"{job.total:,} images are"
        click.echo(f"{count} tried again as job {job.id}.")
        if not wait:
            return
        job = client.wait(job.id, timeout=WAIT_SECONDS)
    _say(job)
    sys.exit(FAILED if job.failed else 0)


@click.command()
@job_argument
@url_option
def cancel(job_id: JobId, url: str) -> None:
    """End what no worker has begun of JOB; `retry` takes it up again."""
    with Client(url) as client:
        _say(client.cancel(job_id))


def document(job: Job) -> dict[str, Any]:
    """A job as JSON-able facts, named as the API names them."""
    facts: dict[str, Any] = asdict(job) | {"pending": job.pending}
    for name in ("created_at", "finished_at"):
        facts[name] = None if facts[name] is None else facts[name].isoformat()
    return facts


def _state(job: Job) -> str:
    return "running" if job.finished_at is None else "finished"


def _say(job: Job) -> None:
    click.echo(
        f"Job {job.id} into {job.collection!r}, {_state(job)}: {job.total:,} images: "
        f"{job.done:,} done, {job.unchanged:,} unchanged, {job.failed:,} failed, "
        f"{job.superseded:,} superseded, {job.pending:,} pending"
    )


def _print_wide(grid: Table) -> None:
    """Print a table; where no terminal limits it, each row is one line."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPED_WIDTH)
    console.print(grid)


COLUMNS: dict[str, Callable[[Job], str]] = {
    "job": lambda job: job.id,
    "collection": lambda job: job.collection,
    "since": lambda job: f"{job.created_at.astimezone():%m-%d %H:%M}",
    "state": lambda job: f"{job.pending:,} pending" if job.pending else _state(job),
    "images": lambda job: f"{job.total:,}",
    "failed": lambda job: f"{job.failed:,}",
}


def _table(found: Iterable[Job]) -> Table:
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for name in COLUMNS:
        is_count = name in ("images", "failed")
        grid.add_column(
            name,
            justify="right" if is_count else "left",
            overflow="fold",
            no_wrap=name != "collection",
        )
    for job in found:
        grid.add_row(*(Text(tell(job)) for tell in COLUMNS.values()))
    return grid


def _list_failures(job: Job, failures: Iterable[Failure]) -> None:
    grid = Table("image", "code", "again", "detail", box=None, pad_edge=False)
    for one in failures:
        again = "yes" if one.retryable else "no"
        name = one.image_id or f"number {one.position + 1}"
        grid.add_row(Text(name), one.code, again, Text(one.detail))
    _print_wide(grid)
    if job.failed > LISTED_FAILURES:
        click.echo(f"… and {job.failed - LISTED_FAILURES:,} more; --json lists all.")
