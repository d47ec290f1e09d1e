"""``lookalike backbone build``: a backbone as a model that Triton serves."""

from __future__ import annotations

from pathlib import Path

import click

from lookalike.backbones import find
from lookalike.backbones.triton_repository import Chosen
from lookalike.backbones.triton_repository import build as build_model
from lookalike.cli.settings import load


@click.command()
@click.argument("name")
@click.option(
    "--repository",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("model_repository"),
    show_default=True,
    help="What tritonserver gets as --model-repository.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "int8"]),
    default="auto",
    show_default=True,
    help="What the Python backend computes in.",
)
def build(name: str, repository: Path, precision: Chosen) -> None:
    """Write the model of backbone NAME for Triton, or write it anew.

    For TensorRT, infra/triton/build-plan then makes 1/model.plan on the machine with
    the GPU.
    """
    backbone = find(name, [load().backbones])
    folder = build_model(backbone, repository, precision=precision)
    click.echo(f"{folder}: {backbone.fingerprint}")
