"""``docker-compose.yml`` as the tests see it: parsed, with its variables filled in.

A small reading of Compose's own rules, for tests on a machine without Compose; that
Compose reads the same is one of the tests.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docker-compose.yml"
EXAMPLE = ROOT / ".env.example"

Service = dict[str, Any]

REFERENCE = re.compile(
    r"\$(?:(?P<dollar>\$)|\{(?P<name>\w+)(?:(?P<how>:?[-?])(?P<word>[^}]*))?\})"
)


class Unset(Exception):
    """A variable is required and not set; the message is the file's own."""


def raw() -> dict[str, Any]:
    """The parsed file, variables as they are written."""
    found: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return found


def services() -> dict[str, Service]:
    """Each service by its name, variables as they are written."""
    found: dict[str, Service] = raw()["services"]
    return found


def filled(value: Any, env: Mapping[str, str]) -> Any:
    """Everything below a value with its variables replaced, as Compose would.

    Raises:
        Unset: a required variable is not set.
    """
    if isinstance(value, str):
        return REFERENCE.sub(lambda match: _value(match, env), value)
    if isinstance(value, dict):
        return {key: filled(inner, env) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, env) for inner in value]
    return value


def _value(match: re.Match[str], env: Mapping[str, str]) -> str:
    if match["dollar"]:
        return "$"
    name, how, word = match["name"], match["how"] or "-", match["word"] or ""
    is_set = bool(env.get(name)) if how.startswith(":") else name in env
    if is_set:
        return env[name]
    if how.endswith("?"):
        raise Unset(f"{name}: {word}")
    return word


def references(value: Any) -> Iterator[re.Match[str]]:
    """Every ``${NAME…}`` below a value."""
    if isinstance(value, str):
        yield from (match for match in REFERENCE.finditer(value) if match["name"])
    elif isinstance(value, dict):
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def required() -> set[str]:
    """The names of the variables without which the file is refused."""
    return {
        match["name"]
        for match in references(raw())
        if (match["how"] or "").endswith("?")
    }


def example() -> dict[str, tuple[str, bool]]:
    """Each variable of ``.env.example``: its value, and whether it is commented out."""
    lines = re.findall(r"^(#?)([A-Z_]+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE)
    return {name: (value, bool(mark)) for mark, name, value in lines}


def secrets() -> dict[str, str]:
    """A value for each required variable, different ones."""
    return {name: f"{name.lower()}-0123456789" for name in sorted(required())}
