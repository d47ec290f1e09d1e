"""The command ``lookalike``."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click

from lookalike.errors import LookalikeError

# Where each command lives. Modules are loaded when a command of theirs is called, so
# that `lookalike search` does not wait for Celery, and vice versa.
COMMANDS = {
    "up": "lookalike.cli.processes:up",
    "api": "lookalike.cli.processes:api",
    "worker": "lookalike.cli.processes:worker",
    "ingest": "lookalike.cli.ingest:ingest",
    "search": "lookalike.cli.search:search",
    "duplicates": "lookalike.cli.duplicates:duplicates",
    "jobs": "lookalike.cli.jobs:jobs",
    "backbone": "lookalike.cli.backbone:backbone",
    "verify": "lookalike.cli.verify:verify",
    "evaluate": "lookalike.cli.evaluate:evaluate",
    "index": "lookalike.cli.index:index",
    "doctor": "lookalike.cli.doctor:doctor",
}


class Refused(click.ClickException):
    """One clear line on stderr and exit status 2."""

    exit_code = 2


class Commands(click.Group):
    """Finds commands by a table of names and ``module:attribute``."""

    def __init__(self, *, table: Mapping[str, str], **attributes: Any) -> None:
        super().__init__(**attributes)
        self._table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the table's order."""
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, its module loaded now; None if there is none."""
        if cmd_name not in self._table:
            return None
        module, _, attribute = self._table[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


class _Main(Commands):
    """A ``LookalikeError`` ends without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except LookalikeError as error:
            raise Refused(error.detail) from error


@click.group(
    cls=_Main, table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="lookalike")
def main() -> None:
    """Find images that look alike."""
