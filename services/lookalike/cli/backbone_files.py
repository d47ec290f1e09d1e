"""What the commands that bring backbones here have in common: options and words."""

from __future__ import annotations

import click

from lookalike.backbones import Backbone
from lookalike.backbones.graph import IMAGENET, Normalisation
from lookalike.errors import Misconfigured
from lookalike.images import Geometry

USUAL_DIMENSION = 512  # of an embedding
ZOOM = 0.875  # of a picture's shorter side that is seen where nothing else is said

Channels = tuple[float, float, float]


def channels(value: str) -> Channels:
    """Three numbers, one for each channel; one number stands for all three.

    Raises:
        BadParameter: the text is something else.
    """
    try:
        numbers = [float(part) for part in value.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 3):
        raise click.BadParameter(
            f"{value!r} is neither one number nor three (0.485,0.456,0.406)"
        )
    first, second, third = numbers * 3 if len(numbers) == 1 else numbers
    return first, second, third


name_option = click.option("--name", required=True, help="What to call the backbone.")
resize_option = click.option(
    "--resize",
    type=click.IntRange(min=1),
    help="The shorter side of a picture becomes this, before its middle is taken.  "
    "[default: side / 0.875]",
)
mean_option = click.option(
    "--mean",
    type=channels,
    metavar="R,G,B",
    help="Taken from each channel.  [default: the usual]",
)
std_option = click.option(
    "--std",
    type=channels,
    metavar="R,G,B",
    help="Divides each channel.  [default: the usual]",
)
licence_option = click.option(
    "--licence", default="not stated", help="What the weights may be used for."
)


def show(backbone: Backbone) -> None:
    """Say what is there now, and how to use it."""
    click.echo(
        f"{backbone.fingerprint}: {backbone.dimension} numbers from pictures of "
        f"{backbone.geometry.side} pixels, in {backbone.directory}"
    )
    click.echo(f"To use it: LOOKALIKE_BACKBONE={backbone.name}")
    if backbone.dimension > USUAL_DIMENSION:
        click.echo(
            f"Shorter vectors, {USUAL_DIMENSION} numbers, are cheaper to keep and to "
            f"search: `lookalike backbone fit-projection {backbone.name} --images DIR`."
        )


def geometry(side: int, resize: int | None) -> Geometry:
    """How pictures become squares of this side.

    Raises:
        Misconfigured: the square would be larger than the picture.
    """
    resize = resize or round(side / ZOOM)
    if resize < side:
        raise Misconfigured(f"--resize {resize} is less than the side, {side}")
    return Geometry(side=side, resize=resize)


def normalisation(mean: Channels | None, std: Channels | None) -> Normalisation | None:
    """What the options say; None if they say nothing.

    Raises:
        Misconfigured: a deviation is not above 0.
    """
    if mean is None and std is None:
        return None
    if std is not None and not min(std) > 0:
        raise Misconfigured("--std: every number must be above 0")
    return Normalisation(mean or IMAGENET.mean, std or IMAGENET.std)
