"""Settings of a command: its options, then the environment, then the defaults."""

from __future__ import annotations

from pydantic import ValidationError

from lookalike.config import Settings
from lookalike.errors import Misconfigured

PREFIX = "LOOKALIKE_"


def load(**options: object) -> Settings:
    """The settings; options that are None are left to the environment.

    Raises:
        Misconfigured: a value is wrong; the message names its variable.
    """
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        problems = [
            f"{PREFIX}{'.'.join(map(str, problem['loc'])).upper()}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_input=False)
        ]
        raise Misconfigured("; ".join(problems) + ".") from error


def require(settings: Settings, *, reason: str) -> None:
    """Return if every server that several processes share is set.

    Raises:
        Misconfigured: names each missing variable.
    """
    values = {
        "REDIS_URL": settings.redis_url.get_secret_value(),
        "MILVUS_URI": settings.milvus_uri,
        "DATABASE_URL": settings.database_url.get_secret_value(),
    }
    missing = [PREFIX + name for name, value in values.items() if not value]
    if missing:
        raise Misconfigured(
            f"{reason} Set {', '.join(missing)}; or run everything in one process "
            "with `lookalike up`.",
            extra={"settings": missing},
        )
