from __future__ import annotations

import math
import random

import pytest

from lookalike.geo import (
    EARTH_RADIUS_M,
    EVERY_LONGITUDE,
    Circle,
    degrees,
    distance_m,
    on_circle,
    spans,
)

BERLIN, PARIS = (52.52, 13.405), (48.8566, 2.3522)


@pytest.mark.parametrize(
    ("one", "other", "metres"),
    [
        (BERLIN, BERLIN, 0.0),
        (BERLIN, PARIS, 877_460),  # 878.2 km along the ellipsoid
        ((0, 0), (0, 180), math.pi * EARTH_RADIUS_M),
        ((90, 0), (-90, 77), math.pi * EARTH_RADIUS_M),
        ((0, 0), (0, 1), math.radians(1) * EARTH_RADIUS_M),
        ((10, 0), (11, 0), math.radians(1) * EARTH_RADIUS_M),
        ((60, 179.5), (60, -179.5), 55_597),
    ],
)
def test_distances_are_along_a_great_circle(
    one: tuple[float, float], other: tuple[float, float], metres: float
) -> None:
    assert distance_m(*one, *other) == pytest.approx(metres, abs=5)
    assert distance_m(*other, *one) == distance_m(*one, *other)


def test_the_antimeridian_is_one_place() -> None:
    assert distance_m(10, 180, 10, -180) == 0.0
    assert Circle(10, 180, 0).contains(10, -180)


@pytest.mark.parametrize(
    ("west", "east", "expected"),
    [
        (10, 20, ((10, 20),)),
        (170, -170, ((170, 180), (-180, -170))),
        (-180, -170, ((-180, -170),)),
        (170, 180, ((170, 180), (-180, -180))),
        (180, -170, ((-180, -170),)),
        (180, 180, ((-180, -180),)),
        (180, -180, ((-180, -180),)),
        (-180, 180, EVERY_LONGITUDE),
        (20, 10, ((20, 180), (-180, 10))),
    ],
)
def test_spans_go_from_west_to_east(
    west: float, east: float, expected: tuple[tuple[float, float], ...]
) -> None:
    assert spans(west, east) == expected


@pytest.mark.parametrize(
    ("axis", "value", "expected"),
    [
        ("lat", -90, -90.0),
        ("lat", 90.0000001, None),
        ("lon", 180, 180.0),
        ("lon", "1", None),
        ("lon", False, None),
        ("lat", math.nan, None),
        ("lat", 10**400, None),
    ],
)
def test_degrees_are_numbers_in_range(
    axis: str, value: object, expected: float | None
) -> None:
    assert degrees(axis, value) == expected


def test_boxes_hold_circles_and_circles_boxes() -> None:
    source = random.Random(3)

    for _ in range(3_000):
        circle = a_circle(source)
        outer, inner = circle.outer(), circle.inner()
        for lat, lon in places_near(circle, source):
            is_within = circle.contains(lat, lon)
            assert outer.contains(lat, lon) or not is_within, (circle, lat, lon)
            assert is_within or not inner.contains(lat, lon), (circle, lat, lon)


def test_boxes_are_close_to_their_circle() -> None:
    circle = Circle(*BERLIN, radius_m=10_000)
    outer, inner = circle.outer(), circle.inner()

    ((west, east),) = outer.spans
    assert distance_m(outer.north, 0, outer.south, 0) == pytest.approx(20_000, abs=1)
    assert distance_m(BERLIN[0], west, BERLIN[0], east) == pytest.approx(20_000, abs=9)
    corner = distance_m(*BERLIN, inner.north, inner.spans[0][1])
    assert corner == pytest.approx(10_000, rel=0.01)


def a_circle(source: random.Random) -> Circle:
    lat = source.choice([source.uniform(-90, 90), 90.0, -90.0, 0.0, 89.9999])
    lon = source.choice([source.uniform(-180, 180), 180.0, -180.0, 179.99])
    radius = source.choice([0.0, 1.0, 10 ** source.uniform(-2, 7.3), 2.1e7])
    return Circle(lat, lon, radius)


def places_near(circle: Circle, source: random.Random) -> list[tuple[float, float]]:
    """Places anywhere, and such as lie about as far away as the edge."""
    places = [(source.uniform(-90, 90), source.uniform(-180, 180)), (90.0, 0.0)]
    for share in (0.5, 0.999_999, 1.0, 1.000_001, source.uniform(0.7, 1.4)):
        way = share * circle.radius_m / EARTH_RADIUS_M
        bearing = source.choice([0, math.pi / 2, source.uniform(0, 2 * math.pi)])
        places.append(_reached(circle, way, bearing))
    return places


def _reached(circle: Circle, way: float, bearing: float) -> tuple[float, float]:
    """Where so many radians in a direction lead: solving the spherical triangle."""
    lat, lon = math.radians(circle.lat), math.radians(circle.lon)
    sine = math.sin(lat) * math.cos(way)
    sine += math.cos(lat) * math.sin(way) * math.cos(bearing)
    reached = math.asin(max(-1.0, min(1.0, sine)))
    lon += math.atan2(
        math.sin(bearing) * math.sin(way) * math.cos(lat),
        math.cos(way) - math.sin(lat) * math.sin(reached),
    )
    return math.degrees(reached), on_circle(math.remainder(math.degrees(lon), 360.0))
