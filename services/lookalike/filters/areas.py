"""The areas that both spellings of a filter ask for, and objects of known members."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, cast

from lookalike.collections import shorten
from lookalike.filters.reading import Entry, bad, below, suggestion
from lookalike.geo import LARGEST, LATITUDE, LONGITUDE, Box, Circle, degrees, spans

EVERYWHERE_M = 1e9  # longer than any way on Earth, and a float


def members(raw: object, at: str, *names: str) -> list[Entry]:
    """The members of an object that has exactly these, each with its place.

    Raises:
        BadFilter: codes ``filter_wrong_type``, ``filter_invalid``.
    """
    listed = ", ".join(names)
    if not isinstance(raw, Mapping):
        problem = f"expected an object of {listed}; got {shorten(raw)}"
        raise bad(at, problem, "filter_wrong_type")
    known(raw, at, names)
    missing = [name for name in names if name not in raw]
    if missing:
        raise bad(at, f"{missing[0]} is missing; expected are {listed}")
    return [(raw[name], below(at, name)) for name in names]


def known(raw: Mapping[Any, object], at: str, names: Iterable[str]) -> None:
    """Refuse a member of any other name, and tell the nearest.

    Raises:
        BadFilter: code ``filter_invalid``.
    """
    names = tuple(names)
    for name in raw:
        if name not in names:
            problem = f"unknown member {shorten(name)}{suggestion(str(name), names)}"
            raise bad(below(at, str(name)), f"{problem}; accepted: {', '.join(names)}")


def box(south: Entry, west: Entry, north: Entry, east: Entry) -> Box:
    """The box between two parallels and, from west to east, two meridians.

    Raises:
        BadFilter: ``filter_wrong_type``; ``filter_invalid`` if north is below south.
    """
    bottom, top = _degrees(LATITUDE, *south), _degrees(LATITUDE, *north)
    if bottom > top:
        raise bad(north[1], f"{top:g} lies south of the southern edge, {bottom:g}")
    return Box(
        bottom, top, spans(_degrees(LONGITUDE, *west), _degrees(LONGITUDE, *east))
    )


def circle(lat: Entry, lon: Entry, radius: Entry) -> Circle:
    """The circle of a radius in metres around a place.

    Raises:
        BadFilter: code ``filter_wrong_type``.
    """
    return Circle(_degrees(LATITUDE, *lat), _degrees(LONGITUDE, *lon), _metres(*radius))


def _metres(raw: object, at: str) -> float:
    is_number = isinstance(raw, int | float) and not isinstance(raw, bool)
    if is_number and 0 <= (number := cast("float", raw)) < math.inf:
        return float(min(number, EVERYWHERE_M))
    problem = f"expected metres, a finite number from 0; got {shorten(raw)}"
    raise bad(at, problem, "filter_wrong_type")


def _degrees(axis: str, raw: object, at: str) -> float:
    value = degrees(axis, raw)
    if value is not None:
        return value
    most = LARGEST[axis]
    problem = f"expected degrees, {-most:g} to {most:g}; got {shorten(raw)}"
    raise bad(at, problem, "filter_wrong_type")
