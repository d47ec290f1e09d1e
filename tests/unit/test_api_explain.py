from __future__ import annotations

import base64
import io

import pytest
from PIL import Image as Pillow
from werkzeug.test import TestResponse

from api_site import Site, photo
from lookalike.calibration import LEAST_IMAGES


def explain(site: Site, **asked: object) -> TestResponse:
    return site.client.post("/v1/collections/things/search/explain", json=asked)


def calibrate(site: Site, **asked: object) -> TestResponse:
    return site.client.post("/v1/collections/things/calibrate", json=asked)


def test_a_match_is_explained(shelf: Site) -> None:
    query = {"positive": ["a", "b"], "negative": ["d"]}
    found = shelf.search(query=query).json
    assert found is not None
    score = {match["id"]: match["score"] for match in found["matches"]}["c"]

    answer = explain(shelf, query=query, match="c").json

    assert answer is not None
    assert answer["match"] == "c"
    assert answer["score"] == pytest.approx(score, abs=1e-5)
    told = [(part["id"], part["is_positive"]) for part in answer["parts"]]
    assert told == [("a", True), ("b", True), ("d", False)]
    total = sum(part["part"] for part in answer["parts"])
    assert total == pytest.approx(score, abs=1e-5)


def test_regions_are_grids_over_pictures(shelf: Site) -> None:
    answer = explain(shelf, query={"id": "a"}, match="c").json

    assert answer is not None
    for side in ("in_example", "in_match"):
        told = answer["parts"][0][side]
        assert len(told["grid"]) == len(told["grid"][0]) == 32
        assert max(map(max, told["grid"])) == 1
        assert len(told["box"]) == 4
        overlay = io.BytesIO(base64.b64decode(told["overlay"]))
        with Pillow.open(overlay) as picture:
            assert picture.format == "PNG"


def test_pictures_need_not_be_drawn(shelf: Site) -> None:
    image = base64.b64encode(photo("x")).decode()

    answer = explain(shelf, query={"image": image}, match="c", overlays=False).json

    assert answer is not None
    assert answer["parts"][0]["id"] is None
    assert answer["parts"][0]["in_match"]["overlay"] is None


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ({"query": {"id": "a"}}, 400, "request_invalid"),
        ({"query": {}, "match": "c"}, 400, "query_invalid"),
        ({"query": {"id": "a"}, "match": "none"}, 404, "image_not_found"),
        ({"query": {"id": "none"}, "match": "c"}, 404, "image_not_found"),
        ({"query": {"id": "a"}, "match": ""}, 422, "id_invalid"),
        ({"query": {"positive": ["a"] * 9}, "match": "c"}, 400, "query_invalid"),
    ],
)
def test_what_cannot_be_explained_is_refused(
    shelf: Site, asked: dict[str, object], status: int, code: str
) -> None:
    answer = explain(shelf, **asked)

    assert answer.status_code == status
    assert answer.json is not None
    assert answer.json["code"] == code


def test_scores_of_few_images_are_not_calibrated(shelf: Site) -> None:
    answer = calibrate(shelf)

    assert answer.status_code == 400
    assert answer.json is not None
    assert answer.json["code"] == "too_few_images"
    assert answer.json["least"] == LEAST_IMAGES


def test_a_label_that_is_no_field_is_refused(shelf: Site) -> None:
    answer = calibrate(shelf, label="kategory")

    assert answer.status_code == 400
    assert answer.json is not None
    assert answer.json["nearest"] == "category"


def test_calibrated_scores_have_a_relevance(site: Site) -> None:
    site.create()
    for first in range(400, 500, 20):
        files = {str(seed): photo(chr(seed)) for seed in range(first, first + 20)}
        site.ingest(files, {"category": "shoes" if first < 440 else "bags"})

    told = calibrate(site, label="category").json

    after = site.search(query={"id": "401"}).json
    assert told is not None
    assert after is not None
    assert (told["images"], told["label"]) == (100, "category")
    assert list(told["scores"]) == ["0.5", "0.9", "0.99", "0.999"]
    shares = [match["relevance"]["percentile"] for match in after["matches"]]
    assert shares == sorted(shares, reverse=True)
    chances = [match["relevance"]["same_label"] for match in after["matches"]]
    assert chances == sorted(chances, reverse=True)
    assert all(0 <= one <= 1 for one in shares + chances)
