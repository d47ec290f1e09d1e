"""JSON from outside: strict, and clear about where it is wrong."""

from __future__ import annotations

import json
import math
from typing import NoReturn

from lookalike.errors import BadRequest


def parse(text: bytes | str, what: str = "The body") -> object:
    """The value of a JSON text.

    Refuses what RFC 8259 leaves open or forbids: duplicate keys, NaN and Infinity,
    numbers beyond a double, bytes that are no UTF-8.

    Raises:
        BadRequest: code ``json_invalid``; says what is wrong, and where.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        return json.loads(
            text,
            object_pairs_hook=_distinct,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
    except json.JSONDecodeError as error:
        raise BadRequest(
            f"{what} is not valid JSON: {error.msg} at line {error.lineno}, "
            f"column {error.colno}.",
            code="json_invalid",
            extra={"line": error.lineno, "column": error.colno},
        ) from None
    except UnicodeDecodeError as error:
        raise _invalid(what, f"it is not UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise _invalid(what, "it is nested too deeply") from None
    except ValueError as error:
        raise _invalid(what, str(error)) from None


def _invalid(what: str, problem: str) -> BadRequest:
    return BadRequest(f"{what} is not valid JSON: {problem}.", code="json_invalid")


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {json.dumps(twice)[:80]} appears twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"the number {text[:40]} is too large")
    return number
