"""``lookalike backbone quantise|check``: the same vectors from faster numbers."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import click
from rich.console import Console

from lookalike.backbones import Backbone, Variant, digest_of_file, find
from lookalike.backbones.parity import register
from lookalike.cli.contenders import Contender, compared, shortfall, show
from lookalike.cli.fixture import Fixture, fixture
from lookalike.cli.settings import load
from lookalike.errors import Misconfigured
from lookalike.interfaces import Embedder

FILE = "model.int8.onnx"

images = click.option(
    "--images",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Pictures of the kind that will be searched.  [default: generated ones]",
)


@click.command()
@click.argument("name")
@images
def quantise(name: str, folder: Path | None) -> None:
    """Make the int8 variant of backbone NAME, if it keeps the vectors.

    Two thirds of the pictures or more, none of which the ranges were measured on,
    must get nearly the same vectors as before; else nothing is registered and the
    status is 1.
    """
    backbone = find(name, [load().backbones])
    if backbone.precision == "int8":
        raise Misconfigured(f"the backbone {backbone.name} is int8 already")
    pictures = fixture(backbone, folder)
    path = backbone.model_path.with_name(FILE)
    candidate = path.with_name(f"{FILE}.new")
    try:
        folded = _write_int8(backbone, pictures, candidate)
        click.echo(f"Normalisation folded into the first layer: {folded}.")
        result = _tried(backbone, candidate, pictures)
        if sentence := shortfall([result]):
            click.echo(f"Not registered: {sentence}.", err=True)
            sys.exit(1)
        candidate.replace(path)
    except OSError as error:
        raise Misconfigured(f"{candidate} cannot be written: {error}") from error
    finally:
        candidate.unlink(missing_ok=True)
    register(backbone, path, result.parity)
    click.echo(f"Registered: {path}")


@click.command()
@click.argument("name")
@images
@click.option("--triton", metavar="HOST:PORT", help="Triton's gRPC, to compare too.")
def check(name: str, folder: Path | None, triton: str | None) -> None:
    """Compare the vectors and the speed of all that runs backbone NAME.

    That is its reference, its int8 variant (or the float network that an int8
    reference stands for), and Triton. Ends with status 1 if one of them is too far
    from the reference.
    """
    settings = load(triton_url=triton)
    backbone = find(name, [settings.backbones])
    others: dict[str, Embedder] = {}
    if backbone.precision == "int8":
        others["fp32"] = _in_process(backbone, "fp32")
    elif "int8" in backbone.variants:
        others["int8"] = _in_process(backbone, "int8")
    if settings.triton_url:
        from lookalike.bootstrap import open_embedder

        others["Triton"] = open_embedder(settings, backbone)
    if not others:
        raise Misconfigured(
            f"there is nothing to compare the backbone {backbone.name} with: make an "
            f"int8 variant with `lookalike backbone quantise {backbone.name}`, or name "
            "a server with --triton."
        )
    pictures = fixture(backbone, folder, calibrated=0)
    if sentence := shortfall(_compared(backbone, others, pictures)):
        click.echo(f"They do not agree: {sentence}.", err=True)
        sys.exit(1)


def _write_int8(backbone: Backbone, pictures: Fixture, path: Path) -> str:
    """Quantise into a file; gives back how the normalisation was folded."""
    # Here, because these are large.
    import onnx

    from lookalike.backbones.quantise import folding_of
    from lookalike.backbones.quantise import quantise as quantised

    model = quantised(backbone.model_path, pictures.batches())
    onnx.save(model, path)
    return folding_of(model)


def _tried(backbone: Backbone, path: Path, pictures: Fixture) -> Contender:
    """What is not registered yet beside the reference, run as it will be."""
    variant = Variant("int8", path, digest_of_file(path), cosine=0, overlap=0)
    with_it = dataclasses.replace(backbone, variants={"int8": variant})
    others = {"int8": _in_process(with_it, "int8")}
    (result,) = _compared(backbone, others, pictures)
    return result


def _compared(
    backbone: Backbone, others: dict[str, Embedder], pictures: Fixture
) -> list[Contender]:
    """Compare with the reference on this machine, and show how it went."""
    wanted = "int8" if backbone.precision == "int8" else "fp32"
    reference = _in_process(backbone, wanted)
    results = compared(reference, others, pictures.comparison)
    click.echo(f"{len(pictures.comparison)} of {pictures.source}")
    show(Console(highlight=False), backbone.precision, results)
    return results


def _in_process(backbone: Backbone, precision: str) -> Embedder:
    from lookalike.backends.onnxruntime import OnnxEmbedder

    return OnnxEmbedder(
        backbone, threads=1, precision="int8" if precision == "int8" else "fp32"
    )
