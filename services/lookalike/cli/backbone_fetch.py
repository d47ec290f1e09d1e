"""``lookalike backbone fetch`` and ``export``: PyTorch's weights without PyTorch."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from lookalike.backbones import Backbone, directories, read
from lookalike.backbones.checkpoint import read_checkpoint
from lookalike.backbones.download import Remote, check_digest, download
from lookalike.backbones.published import (
    ARCHITECTURES,
    LICENCE,
    PUBLISHED,
    Published,
    exported,
    published,
)
from lookalike.backbones.store import Description, check_free, store
from lookalike.cli.backbone_files import (
    Channels,
    geometry,
    licence_option,
    mean_option,
    name_option,
    normalisation,
    resize_option,
    show,
    std_option,
)
from lookalike.cli.settings import load

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
DOWNLOADS = ".downloads"  # below the backbones, where none is looked for


class Bar:
    """Shows how a download gets on, on a terminal."""

    def __init__(self, console: Console, file: str) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(file, total=None)

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def __call__(self, done: int, total: int | None) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=done, total=total)


@click.command()
@click.argument("weights", metavar="NAME")
@click.option(
    "--name",
    help="What to call the backbone.  [default: see `lookalike backbone list`]",
)
@click.option(
    "--mirror",
    metavar="URL",
    help="The folder that holds the file.  [env: LOOKALIKE_BACKBONE_MIRROR]",
)
@click.option(
    "--file", "file", type=FILE, help="The file itself, brought here some other way."
)
def fetch(
    weights: str, name: str | None, mirror: str | None, file: Path | None
) -> None:
    """Get public ImageNet weights and make a backbone of them.

    Whatever way they come, they are the published ones: their SHA-256 is checked. A
    broken download goes on where it stopped when the command is run again.
    """
    one = published(weights)
    settings = load(backbone_mirror=mirror)
    place = settings.backbones
    name = name or one.default_name
    if (there := directories([place]).get(name)) is not None and there.parent == place:
        click.echo(f"{name} is here already.")
        show(read(there))
        return
    check_free(name, place)
    remote = _remote(one, settings.backbone_mirror)
    if file is not None:
        check_digest(file, remote)
        show(_stored(place, name, one, file))
        return
    checkpoint = place / DOWNLOADS / one.file
    with Bar(Console(stderr=True), one.file) as bar:
        download(remote, checkpoint, progress=bar)
    show(_stored(place, name, one, checkpoint))
    checkpoint.unlink()  # all that is needed of it is in the backbone


def _remote(one: Published, mirror: str) -> Remote:
    return Remote(
        url=f"{mirror.rstrip('/')}/{one.file}",
        sha256=one.sha256,
        otherwise=f"Get {one.file} ({one.megabytes} MB) from a machine that can reach "
        f"it and run `lookalike backbone fetch {one.name} --file PATH/{one.file}`; or "
        "name the folder of another copy with --mirror URL or "
        "LOOKALIKE_BACKBONE_MIRROR.",
    )


def _stored(place: Path, name: str, one: Published, checkpoint: Path) -> Backbone:
    model = exported(
        read_checkpoint(checkpoint),
        one.architecture,
        side=one.geometry.side,
        normalisation=one.normalisation,
    )
    about = {
        "description": f"{one.architecture} with the public weights {one.file}.",
        "licence": LICENCE,
        "trained_on": "ImageNet-1k, 1,000 classes, by torchvision",
        "quality": {"imagenet_top_1": one.accuracy},
    }
    return store(place, model, Description(name, one.geometry, about=about))


@click.command()
@click.argument("checkpoint", type=FILE)
@click.option("--architecture", type=click.Choice(list(ARCHITECTURES)), required=True)
@name_option
@click.option("--side", type=click.IntRange(min=32), help="Its pictures, in pixels.")
@resize_option
@mean_option
@std_option
@licence_option
def export(
    checkpoint: Path,
    architecture: str,
    name: str,
    side: int | None,
    resize: int | None,
    mean: Channels | None,
    std: Channels | None,
    licence: str,
) -> None:
    """Make a backbone of a checkpoint of your own, saved by torch.save.

    CHECKPOINT holds the weights of one of the architectures under torchvision's names,
    alone or below "state_dict". Nothing in it is run.
    """
    place = load().backbones
    check_free(name, place)
    usual = PUBLISHED[architecture]
    side = side or usual.geometry.side
    if resize is None and side == usual.geometry.side:
        resize = usual.geometry.resize
    squares = geometry(side, resize)
    model = exported(
        read_checkpoint(checkpoint),
        architecture,
        side=side,
        normalisation=normalisation(mean, std),
    )
    about = {
        "description": f"{architecture} with the weights of {checkpoint.name}.",
        "licence": licence,
    }
    show(store(place, model, Description(name, squares, about=about)))
