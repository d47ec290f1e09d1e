"""Filters on the way in: places, and Qdrant's spelling."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from api_site import Site, photo

FIELDS = {"city": "string", "place": {"type": "geo"}}
PLACES = {
    "berlin": {"lat": 52.52, "lon": 13.405},
    "paris": {"lat": 48.8566, "lon": 2.3522},
    "suva": {"lat": -18.14, "lon": 178.44},
    "apia": {"lat": -13.83, "lon": -171.77},
    "nowhere": None,
}
NEAR_POTSDAM = {"place": {"$within_radius": {"lat": 52.4, "lon": 13, "radius_m": 4e4}}}
PACIFIC = {"south": -25, "west": 170, "north": 0, "east": -165}


@pytest.fixture
def world(site: Site) -> Site:
    site.client.post("/v1/collections", json={"name": "things", "fields": FIELDS})
    items = [
        {"id": city, "metadata": {"city": city, "place": place}}
        for city, place in PLACES.items()
    ]
    files = [(io.BytesIO(photo("a")), f"{city}.jpg") for city in PLACES]
    answer = site.client.post(
        "/v1/collections/things/images",
        data={"image": files, "items": json.dumps(items)},
    )
    assert answer.status_code == 202, answer.json
    return site


def searched(world: Site, condition: object) -> set[str]:
    answer = world.search(query={"id": "paris"}, filter=condition).json
    assert answer is not None
    return {match["id"] for match in answer["matches"]}


def listed(world: Site, condition: object) -> set[str]:
    query = {"filter": json.dumps(condition)}
    answer = world.client.get("/v1/collections/things/images", query_string=query)
    assert answer.json is not None
    return {image["id"] for image in answer.json["images"]}


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        (NEAR_POTSDAM, {"berlin"}),
        ({"place": {"$within_box": PACIFIC}}, {"suva", "apia"}),
        ({"$not": NEAR_POTSDAM}, {"suva", "apia", "nowhere"}),
        ({"place": None}, {"nowhere"}),
        ({"city": {"$prefix": "be"}}, {"berlin"}),
        (
            {
                "should": [
                    {"key": "city", "match": {"any": ["suva", "nowhere"]}},
                    {"is_null": {"key": "city"}},
                ],
                "must_not": [{"is_null": {"key": "place"}}],
            },
            {"suva"},
        ),
    ],
)
def test_a_search_and_a_listing_keep_to_the_filter(
    world: Site, condition: object, found: set[str]
) -> None:
    assert searched(world, condition) == found
    assert listed(world, condition) - {"paris"} == found


def test_a_place_comes_back_as_it_was_given(world: Site) -> None:
    answer = world.client.get("/v1/collections/things/images/suva")

    assert answer.json is not None
    assert answer.json["metadata"] == {"city": "suva", "place": PLACES["suva"]}


def test_images_are_deleted_by_place(world: Site) -> None:
    answer = world.client.post(
        "/v1/collections/things/images/delete", json={"filter": NEAR_POTSDAM}
    )

    assert answer.status_code == 200
    assert listed(world, {"$and": []}) == set(PLACES) - {"berlin"}


@pytest.mark.parametrize(
    ("condition", "at", "says"),
    [
        ({"place": {"$within": 1}}, "place.$within", "$within_radius, $within_box"),
        ({"must": [], "city": "a"}, "city", "either like Qdrant's"),
        (
            {"must": [{"key": "citi", "match": {"value": "a"}}]},
            "must[0].key",
            "did you mean 'city'?",
        ),
    ],
)
def test_a_filter_that_cannot_be_says_where_and_why(
    world: Site, condition: object, at: str, says: str
) -> None:
    answer = world.search(query={"id": "paris"}, filter=condition)

    problem: Any = answer.json
    assert answer.status_code == 400
    assert problem["at"] == at
    assert says in problem["detail"]
