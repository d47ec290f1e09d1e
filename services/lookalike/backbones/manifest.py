"""The manifest of a backbone: read with care, written in one step, digested."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, cast, get_args

from lookalike.errors import Misconfigured

MANIFEST = "backbone.json"
APART = frozenset({"about", "variants"})  # sections outside the fingerprint

# How the numbers of a network are kept. fp16 is about the file: its weights are half
# precision there, and it computes in float.
Precision = Literal["fp32", "fp16", "int8"]


def read_manifest(path: Path) -> dict[str, object]:
    """What a manifest says.

    Raises:
        Misconfigured: it cannot be read, or is no JSON object.
    """
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Misconfigured(f"{path} cannot be read: {error}") from error
    if not isinstance(manifest, dict):
        raise Misconfigured(f"{path} is not a JSON object")
    return manifest


def write_manifest(directory: Path, manifest: Mapping[str, object]) -> None:
    """Put a manifest in place in one step: a reader sees the old one or the new one.

    Raises:
        Misconfigured: the directory cannot be written to.
    """
    path = directory / MANIFEST
    new = path.with_name(f"{MANIFEST}.{os.getpid()}.new")
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    try:
        try:
            new.write_text(text, encoding="utf-8")
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)
    except OSError as error:
        raise Misconfigured(f"{path} cannot be written: {error.strerror}") from error


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file, 64 hex characters.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of_meaning(manifest: Mapping[str, object]) -> str:
    """The 16 hex characters of a fingerprint that follow the name."""
    meaning = {key: value for key, value in manifest.items() if key not in APART}
    canonical = json.dumps(
        meaning, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def check_digest(path: Path, expected: str, what: str, repair: str) -> None:
    """Return if a file has this SHA-256.

    Raises:
        Misconfigured: it has another, or cannot be read; says ``what`` it is and how
            to ``repair`` it.
    """
    try:
        digest = digest_of_file(path)
    except OSError as error:
        raise Misconfigured(
            f"the {what} {path} cannot be read: {error.strerror}. {repair}"
        ) from error
    if digest != expected:
        raise Misconfigured(
            f"the {what} {path} is not the one of {MANIFEST}: its SHA-256 is "
            f"{digest}. {repair}",
            extra={"sha256": digest},
        )


class Fields:
    """Typed reading of a manifest.

    Each method but ``has`` and ``wrong`` raises ``Misconfigured`` if the value is of
    another kind, and names the file and the key.
    """

    def __init__(self, path: Path, values: Mapping[str, object]) -> None:
        self._path = path
        self._values = values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def has(self, key: str) -> bool:
        """Whether there is such a key."""
        return key in self._values

    def wrong(self, key: str, expected: str) -> Misconfigured:
        """The error that says what a value must be."""
        return Misconfigured(f"{self._path}: {key!r} must be {expected}")

    def text(self, key: str) -> str:
        """A string, not empty."""
        value = self._values.get(key)
        if not isinstance(value, str) or not value:
            raise self.wrong(key, "a string")
        return value

    def number(self, key: str) -> int:
        """A whole number above 0."""
        value = self._values.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.wrong(key, "a whole number above 0")
        return value

    def share(self, key: str) -> float:
        """A number from 0 to 1."""
        value = self._values.get(key)
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise self.wrong(key, "a number from 0 to 1")
        return float(value)

    def precision(self, key: str, default: Precision) -> Precision:
        """A precision; the default where there is none."""
        value = self._values.get(key, default)
        if value not in get_args(Precision):
            raise self.wrong(key, f"one of {', '.join(get_args(Precision))}")
        return cast(Precision, value)

    def path(self, key: str, directory: Path) -> Path:
        """A file below a directory."""
        path = directory / self.text(key)
        if not path.resolve().is_relative_to(directory.resolve()):
            raise self.wrong(key, "a path inside the backbone's directory")
        return path

    def section(self, key: str) -> Fields:
        """An object in the object."""
        value = self._values.get(key)
        if not isinstance(value, dict):
            raise self.wrong(key, "an object")
        return Fields(self._path, value)
