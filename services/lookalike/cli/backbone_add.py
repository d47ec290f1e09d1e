"""``lookalike backbone add``: any ONNX image encoder as a backbone."""

from __future__ import annotations

from pathlib import Path

import click

from lookalike.backbones import read
from lookalike.backbones.encoder import Colour, Layout, Wishes, load_encoder, wrap
from lookalike.backbones.store import Description, adopt, check_free, store
from lookalike.cli.backbone_files import (
    Channels,
    geometry,
    licence_option,
    mean_option,
    normalisation,
    resize_option,
    show,
    std_option,
)
from lookalike.cli.settings import load
from lookalike.errors import Misconfigured


@click.command()
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option("--name", help="What to call the backbone; needed for an ONNX file.")
@click.option("--side", type=click.IntRange(min=1), help="Its pictures, in pixels.")
@resize_option
@click.option(
    "--output",
    metavar="TENSOR",
    help="What becomes the vector, be it an output or any tensor before: a row for "
    "each picture, or a map, which is averaged.  [default: the only output]",
)
@click.option(
    "--feature-map",
    metavar="TENSOR",
    help="The map before pooling.  [default: what goes into the last pooling]",
)
@mean_option
@std_option
@click.option(
    "--brightest",
    type=click.Choice(["1", "255"]),
    default="1",
    show_default=True,
    help="--mean and --std are meant for pixels of 0 to this.",
)
@click.option(
    "--layout",
    type=click.Choice(["nchw", "nhwc"]),
    help="The order of its axes.  [default: by where the 3 channels are]",
)
@click.option(
    "--colour",
    type=click.Choice(["rgb", "bgr"]),
    default="rgb",
    show_default=True,
    help="The order of its channels.",
)
@click.option(
    "--dimension", type=click.IntRange(min=1), help="Refuse any other length of vector."
)
@licence_option
def add(
    source: Path,
    name: str | None,
    side: int | None,
    resize: int | None,
    output: str | None,
    feature_map: str | None,
    mean: Channels | None,
    std: Channels | None,
    brightest: str,
    layout: Layout | None,
    colour: Colour,
    dimension: int | None,
    licence: str,
) -> None:
    """Make a backbone of any image encoder in ONNX, or take in a ready one.

    SOURCE is an ONNX file, or a directory with a backbone.json. A classifier puts out
    classes: name the layer before them with --output.
    """
    place = load().backbones
    if source.is_dir():
        _adopt(source, name, place)
        return
    if name is None:
        raise click.UsageError("an ONNX file needs a --name")
    check_free(name, place)
    wishes = Wishes(
        side=side,
        layout=layout,
        colour=colour,
        normalisation=normalisation(mean, std),
        brightest=int(brightest),
        output=output,
        feature_map=feature_map,
    )
    wrapped = wrap(load_encoder(source), wishes)
    if dimension not in (None, wrapped.dimension):
        raise Misconfigured(
            f"{wrapped.output} gives {wrapped.dimension} numbers, not {dimension}: "
            "name another tensor with --output"
        )
    about = {
        "description": f"Made of {source.name}: its tensor {wrapped.output}.",
        "licence": licence,
    }
    squares = geometry(wrapped.side, resize)
    show(store(place, wrapped.model, Description(name, squares, about=about)))
    if wrapped.feature_map is None:
        click.echo("It has no feature map; search needs none.")


def _adopt(directory: Path, name: str | None, place: Path) -> None:
    own = read(directory).name
    if name not in (None, own):
        raise Misconfigured(
            f"{directory} is the backbone {own!r}, and its fingerprint begins with "
            "that name: leave --name away"
        )
    show(adopt(place, directory))
