"""``lookalike backbone``: the networks that embed, and where they come from."""

from __future__ import annotations

import click

from lookalike.cli import Commands

COMMANDS = {
    "list": "lookalike.cli.backbone_list:list_backbones",
    "add": "lookalike.cli.backbone_add:add",
    "fetch": "lookalike.cli.backbone_fetch:fetch",
    "export": "lookalike.cli.backbone_fetch:export",
    "fit-projection": "lookalike.cli.backbone_projection:fit_projection",
    "quantise": "lookalike.cli.backbone_precision:quantise",
    "check": "lookalike.cli.backbone_precision:check",
    "build": "lookalike.cli.backbone_build:build",
}


@click.group(cls=Commands, table=COMMANDS)
def backbone() -> None:
    """List, get, make and check backbones, the networks that embed."""
