"""The command ``lookalike``."""

from __future__ import annotations

import importlib
from typing import Any

import click

from lookalike.errors import LookalikeError

# Where each command lives. Modules are loaded when a command of theirs is called, so
# that `lookalike search` does not wait for Celery, and vice versa.
COMMANDS = {
    "up": "lookalike.cli.processes",
    "api": "lookalike.cli.processes",
    "worker": "lookalike.cli.processes",
    "ingest": "lookalike.cli.ingest",
    "search": "lookalike.cli.search",
    "doctor": "lookalike.cli.doctor",
}


class Refused(click.ClickException):
    """One clear line on stderr and exit status 2."""

    exit_code = 2


class _Commands(click.Group):
    """Finds commands by the table; a ``LookalikeError`` ends without a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name])
        command: click.Command = getattr(module, cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except LookalikeError as error:
            raise Refused(error.detail) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lookalike")
def main() -> None:
    """Find images that look alike."""
