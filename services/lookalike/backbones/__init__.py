"""Backbones: the networks that embed, each one directory with a manifest.

A backbone is ``backbone.json`` beside its weights. ``find`` gives a bundled one by
name, or any other by the path of its directory; no code is needed to add one.

The *fingerprint* names what vectors mean: ``NAME-`` and the first 16 hex characters
of the SHA-256 over the manifest as canonical JSON (sorted keys, no spaces, UTF-8),
without its ``about`` section. The weights' own SHA-256 is in the manifest, and is
checked here. ``about`` (licence, training, measured quality) is prose: correcting a
figure there must not part a collection from its vectors.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lookalike.errors import Misconfigured
from lookalike.images import Geometry

MANIFEST = "backbone.json"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Backbone:
    """A network with its preprocessing, as one versioned artefact."""

    name: str
    version: str
    geometry: Geometry
    dimension: int
    fingerprint: str
    model_path: Path
    manifest: Mapping[str, object]


def find(name: str) -> Backbone:
    """A bundled backbone by its name, or any other by the path of its directory.

    Raises:
        Misconfigured: there is none, its manifest cannot be used, or its weights are
            not those the manifest was written for.
    """
    bundled = {place.name: place for place in _bundled()}
    if name in bundled:
        return read(bundled[name])
    if name and (Path(name) / MANIFEST).is_file():
        return read(Path(name))
    known = ", ".join(sorted(bundled)) or "none"
    raise Misconfigured(
        f"LOOKALIKE_BACKBONE: there is no backbone {name!r}. Bundled: {known}. "
        f"Or give the path of a directory that holds {MANIFEST}.",
        extra={"known": sorted(bundled)},
    )


def read(directory: Path) -> Backbone:
    """The backbone in a directory, its weights checked against its manifest.

    Raises:
        Misconfigured: the manifest cannot be used, or the weights are others.
    """
    manifest = _manifest(directory / MANIFEST)
    fields = _Fields(directory / MANIFEST, manifest)
    name = fields.text("name")
    if not NAME.fullmatch(name):
        raise fields.wrong("name", "lower-case letters, digits, '.', '_' and '-'")
    if fields.text("filter") != "bilinear":
        raise fields.wrong("filter", "'bilinear'")
    geometry = Geometry(side=fields.number("side"), resize=fields.number("resize"))
    if geometry.resize < geometry.side:
        raise fields.wrong("resize", "at least 'side'")
    return Backbone(
        name=name,
        version=fields.text("version"),
        geometry=geometry,
        dimension=fields.number("dimension"),
        fingerprint=f"{name}-{_digest_of_meaning(manifest)}",
        model_path=_weights(directory, fields),
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


def _manifest(path: Path) -> dict[str, object]:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Misconfigured(f"{path} cannot be read: {error}") from error
    if not isinstance(manifest, dict):
        raise Misconfigured(f"{path} is not a JSON object")
    return manifest


def _digest_of_meaning(manifest: Mapping[str, object]) -> str:
    meaning = {key: value for key, value in manifest.items() if key != "about"}
    canonical = json.dumps(
        meaning, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _weights(directory: Path, fields: _Fields) -> Path:
    """The file of the weights, which must be the very one of the manifest."""
    weights = fields.section("weights")
    path = directory / weights.text("file")
    if not path.resolve().is_relative_to(directory.resolve()):
        raise weights.wrong("file", "a path inside the backbone's directory")
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Misconfigured(
            f"the weights {path} cannot be read: {error.strerror}"
        ) from error
    if digest != weights.text("sha256"):
        raise Misconfigured(
            f"the weights {path} are not those of {MANIFEST}: their SHA-256 is "
            f"{digest}. Restore the file, or correct the manifest if the weights "
            "were changed on purpose.",
            extra={"sha256": digest},
        )
    return path


class _Fields:
    """Typed reading of a manifest that names what is wrong in it."""

    def __init__(self, path: Path, values: Mapping[str, object]) -> None:
        self._path = path
        self._values = values

    def wrong(self, key: str, expected: str) -> Misconfigured:
        return Misconfigured(f"{self._path}: {key!r} must be {expected}")

    def text(self, key: str) -> str:
        value = self._values.get(key)
        if not isinstance(value, str) or not value:
            raise self.wrong(key, "a string")
        return value

    def number(self, key: str) -> int:
        value = self._values.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.wrong(key, "a whole number above 0")
        return value

    def section(self, key: str) -> _Fields:
        value = self._values.get(key)
        if not isinstance(value, dict):
            raise self.wrong(key, "an object")
        return _Fields(self._path, value)
