"""Places on a sphere: distances, circles and boxes, in degrees and metres.

Longitudes are compared on a circle: 180 and -180 are one meridian.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

# The mean radius R1 = (2a + b) / 3 of the Geodetic Reference System 1980, rounded to
# decimetres (H. Moritz, Geodetic Reference System 1980, Journal of Geodesy 74, 2000);
# of WGS 84 it is the same. Distances on this sphere differ from those on the
# ellipsoid by up to 0.6 %.
EARTH_RADIUS_M = 6_371_008.8
LATITUDE, LONGITUDE = "lat", "lon"
LARGEST: Mapping[str, float] = {LATITUDE: 90.0, LONGITUDE: 180.0}  # degrees
# Far more than rounding can be off, and 0.1 mm on the ground.
SLACK = 1e-9  # degrees

Span = tuple[float, float]  # from west to east, both in -180 to 180, west <= east
EVERY_LONGITUDE: tuple[Span, ...] = ((-180.0, 180.0),)


def degrees(axis: str, value: object) -> float | None:
    """The value as a latitude (``lat``) or longitude (``lon``); None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Compared before it is converted: an int can be too large for a float.
    return float(value) if -LARGEST[axis] <= value <= LARGEST[axis] else None


def distance_m(lat_a: float, lon_a: float, lat_b: float, lon_b: float) -> float:
    """Metres between two places along the sphere, by the haversine formula.

    R. W. Sinnott, Virtues of the Haversine, Sky and Telescope 68 (1984).
    """
    across = math.remainder(lon_b - lon_a, 360.0)  # exactly 0 from -180 to 180
    parallels = math.cos(math.radians(lat_a)) * math.cos(math.radians(lat_b))
    share = _haversine(math.radians(lat_b - lat_a))
    share += parallels * _haversine(math.radians(across))
    return 2 * EARTH_RADIUS_M * math.asin(math.sqrt(min(1.0, share)))


@dataclass(frozen=True)
class Box:
    """Between two parallels and within spans of longitude, the edges included.

    A place at a pole has the longitude that it was given with.
    """

    south: float
    north: float
    spans: tuple[Span, ...]

    def contains(self, lat: float, lon: float) -> bool:
        """Whether the place is inside or on the edge."""
        lon = on_circle(lon)
        return self.south <= lat <= self.north and any(
            west <= lon <= east for west, east in self.spans
        )


@dataclass(frozen=True)
class Circle:
    """Everything at most ``radius_m`` metres from a place."""

    lat: float
    lon: float
    radius_m: float

    def contains(self, lat: float, lon: float) -> bool:
        """Whether the place is at most so far away."""
        return distance_m(self.lat, self.lon, lat, lon) <= self.radius_m

    def outer(self) -> Box:
        """A box that holds the whole circle.

        The meridians that touch a circle of angular radius r around latitude l are
        asin(sin r / cos l) away (the spherical law of sines).
        """
        reach = self.radius_m / EARTH_RADIUS_M
        angle = math.degrees(reach) + SLACK
        south, north = self.lat - angle, self.lat + angle
        if south <= -90.0 or north >= 90.0 or reach >= math.pi / 2:  # holds a pole
            return Box(max(south, -90.0), min(north, 90.0), EVERY_LONGITUDE)
        sine = math.sin(math.radians(angle)) / math.cos(math.radians(self.lat))
        return Box(south, north, self._around(math.asin(min(1.0, sine)), SLACK))

    def inner(self) -> Box:
        """A box that the circle holds; it may be empty.

        Half of the haversine is given to each axis; the parallel of the box that is
        the nearest to the equator is the longest, and decides.
        """
        half = _haversine(min(self.radius_m / EARTH_RADIUS_M, math.pi)) / 2
        up = 2 * math.asin(math.sqrt(half))
        angle = math.degrees(up) - SLACK
        if angle <= 0.0:
            return Box(0.0, 0.0, ())
        nearest = max(0.0, abs(self.lat) - angle)
        parallels = math.cos(math.radians(self.lat)) * math.cos(math.radians(nearest))
        share = half / parallels if parallels > half else 1.0
        across = 2 * math.asin(math.sqrt(share))
        south, north = max(self.lat - angle, -90.0), min(self.lat + angle, 90.0)
        return Box(south, north, self._around(across, -SLACK))

    def _around(self, radians: float, slack: float) -> tuple[Span, ...]:
        """The longitudes at most so far from the centre's."""
        angle = math.degrees(radians) + slack
        if angle >= 180.0 - SLACK:
            return EVERY_LONGITUDE
        if angle <= 0.0:
            return ()
        west, east = self.lon - angle, self.lon + angle
        return spans(
            west + 360.0 if west < -180.0 else west,
            east - 360.0 if east > 180.0 else east,
        )


def spans(west: float, east: float) -> tuple[Span, ...]:
    """The longitudes from west to east, over the antimeridian if west > east.

    They are to be compared with what ``on_circle`` gives: the antimeridian is -180.
    """
    if (west, east) == EVERY_LONGITUDE[0]:
        return EVERY_LONGITUDE
    west, east = on_circle(west), on_circle(east)
    if west <= east:
        return ((west, east),)
    return ((west, 180.0), (-180.0, east))


def on_circle(lon: float) -> float:
    """A longitude such that each meridian has one number: -180 for 180."""
    return -180.0 if lon == 180.0 else lon


def _haversine(radians: float) -> float:
    return math.sin(radians / 2) ** 2
