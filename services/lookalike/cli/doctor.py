"""``lookalike doctor``: does everything here work, and what to do where it does not."""

from __future__ import annotations

import sys

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lookalike.cli.checks import Check, Verdict, here
from lookalike.cli.remote import server_checks
from lookalike.client import DEFAULT_URL

STYLES = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "bold red"}


def show(console: Console, checks: list[Check]) -> None:
    """Print checks as a table, and what to do below it."""
    grid = Table(box=None, pad_edge=False, show_header=False)
    for check in checks:
        verdict = Text(check.verdict.value, style=STYLES[check.verdict])
        grid.add_row(verdict, Text(check.name), Text(check.found))
    console.print(grid)
    todo = [check for check in checks if check.advice]
    for check in todo:
        line = Text(f"{check.name}: ", style=STYLES[check.verdict])
        console.print(line.append(check.advice, style="default"))


@click.command()
@click.option(
    "--url",
    envvar="LOOKALIKE_URL",
    metavar="URL",
    help="Also check the server at this address.  [default: one that answers at "
    f"{DEFAULT_URL}]",
)
def doctor(url: str | None) -> None:
    """Check this machine and its settings, and the server if there is one.

    Ends with status 1 if something does not work.
    """
    checks = [*here(), *server_checks(url)]
    show(Console(highlight=False), checks)
    failed = sum(check.verdict is Verdict.FAIL for check in checks)
    warned = sum(check.verdict is Verdict.WARN for check in checks)
    click.echo(
        f"{len(checks) - failed - warned} ok, {warned} to consider, "
        f"{failed} not working"
    )
    sys.exit(1 if failed else 0)
