"""Backbones: the networks that embed, each one directory with a manifest.

A backbone is ``backbone.json`` beside its weights. ``find`` gives one by its name
(bundled, or in the folder of the installation's own), or any other by the path of its
directory; no code is needed to add one.

The *fingerprint* names what vectors mean: ``NAME-`` and the first 16 hex characters
of the SHA-256 over the manifest as canonical JSON (sorted keys, no spaces, UTF-8),
without its sections ``about`` and ``variants``. The SHA-256 of the ``weights``, the
*reference*, is in the manifest, and is checked here. ``about`` (licence, training,
measured quality) is prose: correcting a figure there must not part a collection from
its vectors. ``variants`` are the same network in other precisions, whose vectors were
measured to agree with the reference's (``lookalike.backbones.parity``): vectors of a
reference and of its variants may share a collection.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from lookalike.backbones.manifest import (
    MANIFEST,
    Fields,
    Precision,
    check_digest,
    digest_of_file,
    digest_of_meaning,
    read_manifest,
    write_manifest,
)
from lookalike.errors import Misconfigured
from lookalike.images import Geometry

__all__ = [
    "MANIFEST",
    "NAME",
    "Backbone",
    "Precision",
    "Variant",
    "digest_of_file",
    "digest_of_meaning",
    "directories",
    "find",
    "read",
    "write_manifest",
]

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Variant:
    """A backbone in another precision than its reference, and how well they agree.

    ``cosine`` is the mean cosine and ``overlap`` the top-10 overlap of its vectors
    with the reference's, as ``lookalike.backbones.parity`` measures them.
    """

    precision: Precision
    path: Path
    sha256: str
    cosine: float
    overlap: float

    def checked_path(self) -> Path:
        """The file, once it is known to be the very one that was checked.

        Raises:
            Misconfigured: it is another, or cannot be read.
        """
        repair = "Make it again with `lookalike backbone quantise`."
        check_digest(self.path, self.sha256, f"{self.precision} variant", repair)
        return self.path


@dataclass(frozen=True)
class Backbone:
    """A network with its preprocessing, as one versioned artefact.

    ``model_path`` and ``precision`` are the reference's.
    """

    name: str
    version: str
    geometry: Geometry
    dimension: int
    fingerprint: str
    directory: Path
    model_path: Path
    precision: Precision
    variants: Mapping[str, Variant]
    manifest: Mapping[str, object]


def find(name: str, places: Iterable[Path] = ()) -> Backbone:
    """A backbone by its name, or any other by the path of its directory.

    Names are looked up among the bundled ones first, then in each of ``places``
    (folders of backbones; one that does not exist is empty).

    Raises:
        Misconfigured: there is none, its manifest cannot be used, or its weights are
            not those the manifest was written for.
    """
    known = directories(places)
    if name in known:
        return read(known[name])
    if name and (Path(name) / MANIFEST).is_file():
        return read(Path(name))
    bundled = {directory.name for directory in _bundled()}
    own = ", ".join(sorted(known.keys() - bundled))
    raise Misconfigured(
        f"LOOKALIKE_BACKBONE: there is no backbone {name!r}. "
        f"Bundled: {', '.join(sorted(bundled)) or 'none'}. "
        + (f"Added here: {own}. " if own else "")
        + f"Or give the path of a directory that holds {MANIFEST}.",
        extra={"known": sorted(known)},
    )


def directories(places: Iterable[Path] = ()) -> dict[str, Path]:
    """Where each backbone that has a name lies; a bundled one hides its namesakes."""
    found = [*_bundled()]
    for place in places:
        found += (path.parent for path in sorted(place.glob(f"*/{MANIFEST}")))
    return {directory.name: directory for directory in reversed(found)}


def read(directory: Path) -> Backbone:
    """The backbone in a directory, its weights checked against its manifest.

    Raises:
        Misconfigured: the manifest cannot be used, or the weights are others.
    """
    manifest = read_manifest(directory / MANIFEST)
    fields = Fields(directory / MANIFEST, manifest)
    name = fields.text("name")
    if not NAME.fullmatch(name):
        raise fields.wrong("name", "lower-case letters, digits, '.', '_' and '-'")
    if fields.text("filter") != "bilinear":
        raise fields.wrong("filter", "'bilinear'")
    geometry = Geometry(side=fields.number("side"), resize=fields.number("resize"))
    if geometry.resize < geometry.side:
        raise fields.wrong("resize", "at least 'side'")
    weights = fields.section("weights")
    return Backbone(
        name=name,
        version=fields.text("version"),
        geometry=geometry,
        dimension=fields.number("dimension"),
        fingerprint=f"{name}-{digest_of_meaning(manifest)}",
        directory=directory,
        model_path=_reference(directory, weights),
        precision=weights.precision("precision", "fp32"),
        variants=_variants(directory, fields),
        manifest=manifest,
    )


def _bundled() -> Iterator[Path]:
    """Where bundled backbones lie: in the package, or in a source checkout."""
    here = Path(__file__).resolve().parent
    places = [here / "bundled"]
    if here.parents[1].name == "services":
        places.append(here.parents[2] / "model_repository")
    for place in places:
        yield from (found.parent for found in sorted(place.glob(f"*/{MANIFEST}")))


def _reference(directory: Path, weights: Fields) -> Path:
    """The file of the weights, which must be the very one of the manifest."""
    path = weights.path("file", directory)
    repair = (
        "Restore the file, or correct the manifest if the weights were changed on "
        "purpose."
    )
    check_digest(path, weights.text("sha256"), "weights", repair)
    return path


def _variants(directory: Path, fields: Fields) -> dict[str, Variant]:
    """What ``variants`` says; their files are checked when one of them is used.

    So a damaged variant stops nobody who does not run it, and can be made again.
    """
    if not fields.has("variants"):
        return {}
    variants = fields.section("variants")
    return {
        name: _variant(directory, name, variants.section(name)) for name in variants
    }


def _variant(directory: Path, name: str, fields: Fields) -> Variant:
    if name not in get_args(Precision):
        raise fields.wrong(name, f"one of {', '.join(get_args(Precision))}")
    return Variant(
        precision=cast(Precision, name),
        path=fields.path("file", directory),
        sha256=fields.text("sha256"),
        cosine=fields.share("cosine"),
        overlap=fields.share("overlap"),
    )
