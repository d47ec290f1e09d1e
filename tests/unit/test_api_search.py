from __future__ import annotations

import base64
import io
import json
from typing import Any

import pytest
from werkzeug.test import TestResponse

from api_site import Site, photo
from lookalike.errors import EmbedderUnavailable

SEARCH = "/v1/collections/things/search"


def ids(answer: TestResponse) -> list[str]:
    return [match["id"] for match in found(answer)["matches"]]


def found(answer: TestResponse) -> dict[str, Any]:
    assert answer.status_code == 200, answer.json
    assert answer.json is not None
    told: dict[str, Any] = answer.json
    return told


def base64_of(name: str) -> str:
    return base64.b64encode(photo(name)).decode()


def form(site: Site, **request: object) -> TestResponse:
    return site.client.post(
        SEARCH,
        data={
            "image": (io.BytesIO(photo("b")), "b.jpg"),
            "request": json.dumps(request),
        },
    )


def test_a_picture_in_json_finds_itself_first(shelf: Site) -> None:
    answer = shelf.search(query={"image": base64_of("b")}, limit=3)

    told = found(answer)
    best = told["matches"][0]
    assert best["id"] == "b"
    assert best["score"] > 0.999
    assert best["metadata"] == {"category": "shoes", "price": 97.0}
    assert best["image_url"] == "/v1/collections/things/images/b/original"
    assert best["thumbnail_url"] == "/v1/collections/things/images/b/thumbnail"
    assert len(told["matches"]) == 3
    assert told["complete"] is True
    assert told["backbone"] == "fake"
    assert set(told["took_ms"]) == {"decode", "embed", "search", "total"}
    assert told["took_ms"]["total"] > 0


def test_a_picture_in_a_form_finds_itself_first(shelf: Site) -> None:
    answer = form(shelf, limit=2, filter={"category": "shoes"})

    assert ids(answer)[0] == "b"
    assert len(ids(answer)) == 2


def test_a_form_needs_only_a_picture(shelf: Site) -> None:
    answer = shelf.client.post(
        SEARCH, data={"picture": (io.BytesIO(photo("b")), "b.jpg")}
    )

    assert ids(answer)[0] == "b"


def test_a_raw_picture_finds_itself_first(shelf: Site) -> None:
    answer = shelf.client.post(
        SEARCH,
        query_string={
            "limit": "2",
            "filter": '{"category": "shoes"}',
            "fields": "category,price",
            "min_score": "-1",
        },
        data=photo("b"),
        content_type="image/jpeg",
    )

    assert ids(answer)[0] == "b"
    assert len(ids(answer)) == 2


def test_a_stored_image_finds_others(shelf: Site) -> None:
    answer = shelf.search(query={"id": "folder/f.jpg"}, limit=10)

    assert sorted(ids(answer)) == ["a", "b", "c", "d", "e"]
    assert found(answer)["complete"] is False


def test_a_vector_finds_its_neighbours(shelf: Site) -> None:
    vector = [1.0] + [0] * (shelf.embedder.dimension - 1)

    answer = shelf.search(query={"vector": vector}, limit=2)

    assert len(ids(answer)) == 2


def test_a_filter_keeps_every_match_in_it(shelf: Site) -> None:
    answer = shelf.search(query={"id": "a"}, filter={"category": "bags"})

    assert sorted(ids(answer)) == ["d", "e"]


def test_a_min_score_leaves_out_what_is_below(shelf: Site) -> None:
    answer = shelf.search(query={"image": base64_of("b")}, min_score=0.9999)

    assert ids(answer) == ["b"]


def test_only_the_fields_that_are_asked_for_are_told(shelf: Site) -> None:
    answer = shelf.search(query={"id": "a"}, fields=["price"], limit=1)
    none = shelf.search(query={"id": "a"}, fields=[], limit=1)

    assert set(found(answer)["matches"][0]["metadata"]) <= {"price"}
    assert found(none)["matches"][0]["metadata"] == {}


def test_a_null_query_kind_is_as_good_as_none(shelf: Site) -> None:
    answer = shelf.search(query={"id": "a", "image": None, "vector": None})

    assert len(ids(answer)) == 5


# --- refused -------------------------------------------------------------------------


def refused(answer: TestResponse, status: int, code: str) -> dict[str, Any]:
    assert answer.json is not None
    problem: dict[str, Any] = answer.json
    assert (answer.status_code, problem["code"]) == (status, code)
    return problem


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"query": None},
        {"query": {}},
        {"query": {"id": "a", "vector": [1.0]}},
        {"query": {"id": "a", "image": base64_of("a")}},
    ],
)
def test_not_exactly_one_query_names_the_accepted_ones(
    shelf: Site, asked: dict[str, object]
) -> None:
    problem = refused(shelf.search(**asked), 400, "query_invalid")

    assert all(kind in problem["detail"] for kind in ("image", "id", "vector"))


def test_a_picture_in_a_form_excludes_another_query(shelf: Site) -> None:
    refused(form(shelf, query={"id": "a"}), 400, "query_invalid")


@pytest.mark.parametrize("limit", [0, -1, 1_001, 100_000])
def test_a_limit_out_of_range_is_refused(shelf: Site, limit: int) -> None:
    problem = refused(
        shelf.search(query={"id": "a"}, limit=limit), 400, "limit_invalid"
    )

    assert problem["limit"] == 1_000


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        ({"limit": "10"}, "limit"),
        ({"limit": True}, "limit"),
        ({"limit": 1.5}, "limit"),
        ({"min_score": "1"}, "min_score"),
        ({"fields": "price"}, "fields"),
        ({"fields": [1]}, "fields[0]"),
        ({"query": {"id": 7}}, "query.id"),
        ({"query": "a"}, "query"),
    ],
)
def test_a_wrong_type_names_its_place(
    shelf: Site, asked: dict[str, object], path: str
) -> None:
    problem = refused(
        shelf.search(**{"query": {"id": "a"}, **asked}), 400, "request_invalid"
    )

    assert problem["errors"][0]["path"] == path


def test_an_unknown_key_names_the_nearest(shelf: Site) -> None:
    top = shelf.search(query={"id": "a"}, fliter={})
    deep = shelf.search(query={"imgae": "x"})

    assert "did you mean 'filter'?" in refused(top, 400, "request_invalid")["detail"]
    assert "did you mean 'image'?" in refused(deep, 400, "request_invalid")["detail"]


def test_an_unknown_field_in_a_filter_names_the_nearest(shelf: Site) -> None:
    answer = shelf.search(query={"id": "a"}, filter={"categorie": "bags"})

    problem = refused(answer, 400, "filter_unknown_field")
    assert problem["nearest"] == "category"


@pytest.mark.parametrize("fields", [["prize"], ["price", "prize"]])
def test_an_unknown_field_to_answer_names_the_nearest(
    shelf: Site, fields: list[str]
) -> None:
    answer = shelf.search(query={"id": "a"}, fields=fields)

    assert refused(answer, 400, "query_unknown_field")["nearest"] == "price"


@pytest.mark.parametrize(
    ("condition", "code"),
    [
        ({"price": "cheap"}, "filter_wrong_type"),
        ({"price": {"$near": 3}}, "filter_invalid"),
        ([], "filter_invalid"),
    ],
)
def test_a_filter_that_cannot_be_is_refused(
    shelf: Site, condition: object, code: str
) -> None:
    refused(shelf.search(query={"id": "a"}, filter=condition), 400, code)


@pytest.mark.parametrize(
    "vector", [[1.0], [], "x", [[1.0]], ["1"] * 16, {"0": 1}, 7, [0.0] * 16]
)
def test_a_vector_that_is_none_of_the_collection_is_refused(
    shelf: Site, vector: object
) -> None:
    refused(shelf.search(query={"vector": vector}), 400, "vector_invalid")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e400"])
def test_a_vector_with_nan_or_infinity_is_refused(shelf: Site, number: str) -> None:
    numbers = ",".join([number] * shelf.embedder.dimension)

    answer = shelf.client.post(
        SEARCH,
        data='{"query": {"vector": [' + numbers + "]}}",
        content_type="application/json",
    )

    refused(answer, 400, "json_invalid")


BAD_PICTURES = {
    "image_empty": b"",
    "image_unsupported": b"not a picture",
    "image_truncated": photo("a")[:400],
}


@pytest.mark.parametrize(("code", "data"), BAD_PICTURES.items())
@pytest.mark.parametrize("format", ["form", "raw", "json"])
def test_a_picture_that_is_none_is_refused(
    shelf: Site, format: str, code: str, data: bytes
) -> None:
    text = base64.b64encode(data).decode()

    answer = {
        "form": lambda: shelf.client.post(
            SEARCH, data={"image": (io.BytesIO(data), "x.jpg")}
        ),
        "raw": lambda: shelf.client.post(SEARCH, data=data, content_type="image/png"),
        "json": lambda: shelf.search(query={"image": text}),
    }[format]()

    refused(answer, 422, code)


def test_a_bomb_is_refused_from_its_header(shelf: Site, bomb: bytes) -> None:
    answer = shelf.client.post(SEARCH, data=bomb, content_type="image/png")

    refused(answer, 422, "image_too_large")


def test_base64_that_is_none_is_refused(shelf: Site) -> None:
    refused(shelf.search(query={"image": "%%%"}), 400, "base64_invalid")


def test_an_unknown_id_is_not_found(shelf: Site) -> None:
    refused(shelf.search(query={"id": "nothing"}), 404, "image_not_found")


@pytest.mark.parametrize("name", ["", "a\0b", "../a"])
def test_an_id_that_no_image_can_have_is_refused(shelf: Site, name: str) -> None:
    refused(shelf.search(query={"id": name}), 422, "id_invalid")


def test_a_search_in_an_unknown_collection_is_not_found(shelf: Site) -> None:
    answer = shelf.client.post(
        "/v1/collections/nothing/search", json={"query": {"id": "a"}}
    )

    refused(answer, 404, "collection_not_found")


@pytest.mark.parametrize("field", ["filter", "requests"])
def test_an_unknown_form_field_is_refused(shelf: Site, field: str) -> None:
    answer = shelf.client.post(
        SEARCH, data={"image": (io.BytesIO(photo("b")), "b.jpg"), field: "{}"}
    )

    refused(answer, 400, "request_invalid")


def test_two_pictures_are_refused(shelf: Site) -> None:
    files = [(io.BytesIO(photo(name)), f"{name}.jpg") for name in "ab"]

    answer = shelf.client.post(SEARCH, data={"image": files})

    refused(answer, 413, "too_many_images")


def test_query_parameters_do_not_go_with_json(shelf: Site) -> None:
    answer = shelf.client.post(f"{SEARCH}?limit=3", json={"query": {"id": "a"}})

    refused(answer, 400, "request_invalid")


@pytest.mark.parametrize(
    "query", [{"limit": "0"}, {"limit": "x"}, {"min_score": "nan"}, {"filter": "{"}]
)
def test_wrong_query_parameters_of_a_raw_picture_are_refused(
    shelf: Site, query: dict[str, str]
) -> None:
    answer = shelf.client.post(
        SEARCH, query_string=query, data=photo("a"), content_type="image/jpeg"
    )

    assert answer.status_code == 400


def test_a_body_over_the_limit_is_refused(shelf: Site) -> None:
    answer = shelf.client.post(SEARCH, data=bytes(4 * 2**20), content_type="image/jpeg")

    refused(answer, 413, "too_large")


def test_no_refused_search_changes_anything(shelf: Site) -> None:
    before = shelf.state()

    shelf.search(query={"id": "a"}, limit=0)
    shelf.search(query={"image": "%%%"})
    form(shelf, query={"id": "a"})

    assert shelf.state() == before


def test_a_network_that_is_down_is_told_as_such(
    shelf: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(pixels: object) -> None:
        raise EmbedderUnavailable("The network does not answer.")

    monkeypatch.setattr(shelf.embedder, "embed", fail)

    answer = shelf.search(query={"image": base64_of("a")})

    problem = refused(answer, 503, "embedder_unavailable")
    assert problem["retryable"] is True
