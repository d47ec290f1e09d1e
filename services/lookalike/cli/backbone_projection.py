"""``lookalike backbone fit-projection``: shorter vectors for a user's own pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from lookalike.backbones import Backbone, find
from lookalike.backbones.projection import (
    Projection,
    check_shorter,
    fit,
    pictures_needed,
    projected,
)
from lookalike.backbones.store import Description, check_free, store
from lookalike.cli.backbone_files import show
from lookalike.cli.folders import walk
from lookalike.cli.settings import load
from lookalike.errors import BadImage, Misconfigured
from lookalike.images import Limits, decode_square

BATCH = 16


@click.command("fit-projection")
@click.argument("source", metavar="NAME")
@click.option(
    "--images",
    "folder",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Pictures of the kind that will be searched.",
)
@click.option(
    "--dimension",
    type=click.IntRange(min=1),
    default=512,
    show_default=True,
    help="Length of the new vectors.",
)
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    default=5000,
    show_default=True,
    help="Look at this many of the pictures.",
)
@click.option(
    "--name", help="What to call the new backbone.  [default: NAME-DIMENSION]"
)
def fit_projection(
    source: str, folder: Path, dimension: int, sample: int, name: str | None
) -> None:
    """Make a backbone of NAME whose vectors are shorter, for pictures like yours.

    Keeps the directions in which your pictures differ most. The new backbone has its
    own fingerprint: a collection belongs to one or the other.
    """
    place = load().backbones
    backbone = find(source, [place])
    name = name or f"{backbone.name}-{dimension}"
    check_free(name, place)
    check_shorter(backbone, dimension)
    paths = sampled(folder, sample)
    if len(paths) < pictures_needed(dimension):
        raise Misconfigured(
            f"a projection to {dimension} numbers needs at least "
            f"{pictures_needed(dimension):,} pictures; there are {len(paths):,} in "
            f"{folder}"
            + (f" with --sample {sample}" if len(paths) == sample else "")
            + ". Add pictures, or choose a smaller --dimension.",
            code="too_few_pictures",
        )
    pictures = _Pictures(backbone, paths)
    projection = fit(backbone, pictures, dimension)
    model = projected(backbone, projection)
    description = _description(name, backbone, projection)
    show(store(place, model, description))
    click.echo(
        f"It keeps {projection.explained:.1%} of the variance of "
        f"{projection.pictures:,} pictures"
        + (f"; {pictures.broken:,} could not be read." if pictures.broken else ".")
    )


def sampled(folder: Path, count: int) -> list[Path]:
    """``count`` pictures below a folder, chosen by chance but always the same ones.

    By the digest of their names, so neither their order nor where the folder lies
    matters, and a folder's first sub-folder does not fill the sample.
    """
    found = sorted(
        (hashlib.sha256(picture.id.encode("utf-8", "surrogateescape")).digest(), path)
        for picture in walk(folder, all_files=False)
        for path in (picture.path,)
    )
    return [path for _, path in found[:count]]


class _Pictures:
    """Squares of pictures in batches; counts those that cannot be read."""

    def __init__(self, backbone: Backbone, paths: list[Path]) -> None:
        self._backbone = backbone
        self._paths = paths
        self.broken = 0

    def __iter__(self) -> Iterator[npt.NDArray[np.uint8]]:
        batch: list[npt.NDArray[np.uint8]] = []
        console = Console(stderr=True)
        for path in track(
            self._paths, "pictures", console=console, disable=not console.is_terminal
        ):
            try:
                data = path.read_bytes()
                batch.append(decode_square(data, self._backbone.geometry, Limits()))
            except (BadImage, OSError):
                self.broken += 1
            if len(batch) == BATCH:
                yield np.stack(batch)
                batch.clear()
        if batch:
            yield np.stack(batch)


def _description(name: str, source: Backbone, projection: Projection) -> Description:
    about = source.manifest.get("about")
    known = about if isinstance(about, dict) else {}
    dimension = projection.directions.shape[1]
    kept = round(projection.explained, 4)
    return Description(
        name=name,
        geometry=source.geometry,
        precision=source.precision,
        version=source.version,
        meaning={
            "projection": {
                "method": "principal components, centred, not whitened",
                "of": source.fingerprint,
                "pictures": projection.pictures,
            }
        },
        about={
            "description": f"{source.name}, projected to {dimension} numbers.",
            "licence": known.get("licence", "not stated"),
            "quality": {"explained_variance": kept},
        },
    )
