"""Every kind of query and of result over HTTP, and every error they can meet."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import pytest
from werkzeug.test import TestResponse

from api_site import Site, photo
from lookalike import cursors

SEARCH = "/v1/collections/things/search"
FACETS = "/v1/collections/things/facets"


def told(answer: TestResponse) -> dict[str, Any]:
    assert answer.status_code == 200, answer.json
    assert answer.json is not None
    document: dict[str, Any] = answer.json
    return document


def ids(answer: TestResponse) -> list[str]:
    return [match["id"] for match in told(answer)["matches"]]


def refused(answer: TestResponse, code: str, status: int = 400) -> dict[str, Any]:
    assert answer.json is not None
    problem: dict[str, Any] = answer.json
    assert (answer.status_code, problem["code"]) == (status, code)
    return problem


def base64_of(name: str) -> str:
    return base64.b64encode(photo(name)).decode()


# --- kinds of queries ----------------------------------------------------------------


def test_examples_to_look_for_and_to_avoid(shelf: Site) -> None:
    query = {
        "positive": ["a", {"image": base64_of("b"), "weight": 2}],
        "negative": [{"id": "d", "weight": 0.5}, "e"],
    }

    answer = shelf.search(query=query)

    # The stored images of the query are left out; b came as a picture.
    assert sorted(ids(answer)) == ["b", "c", "folder/f.jpg"]


def test_one_example_stands_beside_others(shelf: Site) -> None:
    beside = shelf.search(query={"id": "a", "negative": ["d"]})
    listed = shelf.search(query={"positive": ["a"], "negative": ["d"]})

    assert ids(beside) == ids(listed)


def test_images_of_the_query_can_be_included(shelf: Site) -> None:
    answer = shelf.search(query={"id": "a"}, include_query=True)

    assert ids(answer)[0] == "a"


def test_a_crop_of_every_kind_of_picture(shelf: Site) -> None:
    crop = [0.0, 0.0, 0.5, 0.5]
    form = shelf.client.post(
        SEARCH,
        data={
            "image": (io.BytesIO(photo("b")), "b.jpg"),
            "request": json.dumps({"query": {"crop": crop}}),
        },
    )
    raw = shelf.client.post(
        f"{SEARCH}?crop=0,0,0.5,0.5", data=photo("b"), content_type="image/jpeg"
    )
    answers = [
        shelf.search(query={"image": base64_of("b"), "crop": crop}),
        shelf.search(query={"id": "b", "crop": crop}, include_query=True),
        shelf.search(
            query={"positive": [{"id": "b", "crop": crop}]}, include_query=True
        ),
        form,
        raw,
    ]

    scores = [
        {match["id"]: match["score"] for match in told(answer)["matches"]}
        for answer in answers
    ]

    assert all(each == scores[0] for each in scores)
    assert scores[0]["b"] < 0.9999


def test_the_strategy_best_takes_the_most_similar_example(shelf: Site) -> None:
    query = {"positive": ["a", "d"], "strategy": "best"}

    answer = shelf.search(query=query, include_query=True, limit=2)

    assert ids(answer) == ["a", "d"]
    assert [match["score"] for match in told(answer)["matches"]] == [1.0, 1.0]


def test_an_explained_score_is_the_sum_of_its_parts(shelf: Site) -> None:
    query = {"positive": ["a", "b"], "negative": ["d"]}

    answer = told(shelf.search(query=query, explain=True))

    assert answer["explain_url"] == f"{SEARCH}/explain"
    for match in answer["matches"]:
        parts = match["parts"]
        assert (len(parts["positive"]), len(parts["negative"])) == (2, 1)
        whole = sum(parts["positive"]) + sum(parts["negative"])
        assert whole == pytest.approx(match["score"], abs=1e-5)


# --- kinds of results ----------------------------------------------------------------


def test_pages_show_everything_once(shelf: Site) -> None:
    answer = shelf.search(query={"image": base64_of("b")}, limit=4)
    cursor = told(answer)["next_cursor"]

    rest = shelf.search(cursor=cursor, limit=4)

    assert sorted(ids(answer) + ids(rest)) == ["a", "b", "c", "d", "e", "folder/f.jpg"]
    assert told(answer)["incomplete_because"] is None
    assert told(rest)["next_cursor"] is None
    assert told(rest)["incomplete_because"] == "collection"


def test_a_cursor_goes_with_the_query_it_came_from(shelf: Site) -> None:
    asked = {"query": {"id": "a"}, "filter": {"price": {"$gt": 0}}, "limit": 2}
    cursor = told(shelf.search(**asked))["next_cursor"]

    again = shelf.search(**asked, cursor=cursor)

    assert len(ids(again)) == 2
    other = {**asked, "query": {"id": "b"}}
    refused(shelf.search(**other, cursor=cursor), "cursor_mismatch")
    refused(shelf.search(cursor=cursor), "cursor_mismatch")


def test_pages_end_somewhere(shelf: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cursors, "MAX_DEPTH", 4)
    first = shelf.search(query={"image": base64_of("b")}, limit=2)
    second = shelf.search(cursor=told(first)["next_cursor"], limit=2)

    third = shelf.search(cursor=told(second)["next_cursor"], limit=2)

    assert refused(third, "page_too_deep")["limit"] == 4


def test_groups_show_each_value_once(shelf: Site) -> None:
    answer = shelf.search(query={"image": base64_of("b")}, group_by="category")

    groups = [match["group"] for match in told(answer)["matches"]]
    assert sorted(groups, key=str) == [None, "bags", "shoes"]
    assert told(answer)["incomplete_because"] == "groups"


def test_diversity_brings_others_forward(shelf: Site) -> None:
    answer = shelf.search(query={"id": "a"}, diversity=1.0, limit=3)

    assert len(ids(answer)) == 3


def test_duplicates_come_with_the_better_match(shelf: Site) -> None:
    shelf.ingest({"b again": photo("b")})

    answer = shelf.search(query={"image": base64_of("b")}, collapse_duplicates=True)

    best = told(answer)["matches"][0]
    assert (best["id"], best["duplicates"]) == ("b", ["b again"])
    assert len(ids(answer)) == 6


def test_a_search_counts_values_of_the_filtered_images(shelf: Site) -> None:
    answer = shelf.search(
        query={"id": "a"}, limit=1, facets=["category"], filter={"price": {"$gt": 0}}
    )

    category = told(answer)["facets"]["category"]
    assert category == {
        "values": [{"value": "shoes", "count": 3}, {"value": "bags", "count": 2}],
        "distinct": 2,
        "missing": 0,
    }


def test_what_was_not_asked_for_is_null(shelf: Site) -> None:
    answer = told(shelf.search(query={"id": "a"}))

    assert answer["facets"] is None
    assert answer["explain_url"] is None
    best = answer["matches"][0]
    assert (best["group"], best["duplicates"], best["parts"]) == (None, [], None)
    assert best["relevance"] is None


def test_a_raw_picture_takes_most_of_it_in_its_address(shelf: Site) -> None:
    answer = shelf.client.post(
        SEARCH,
        query_string={
            "group_by": "category",
            "group_size": "2",
            "facets": "category,price",
            "explain": "true",
            "limit": "3",
        },
        data=photo("b"),
        content_type="image/jpeg",
    )

    assert len(ids(answer)) == 5
    assert set(told(answer)["facets"]) == {"category", "price"}
    assert told(answer)["matches"][0]["parts"] == {"positive": [1.0], "negative": []}


# --- facets --------------------------------------------------------------------------


def test_values_are_counted(shelf: Site) -> None:
    answer = shelf.client.post(FACETS, json={"fields": ["category"], "limit": 1})

    assert told(answer) == {
        "images": 6,
        "facets": {
            "category": {
                "values": [{"value": "shoes", "count": 3}],
                "distinct": 2,
                "missing": 1,
            }
        },
    }


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"fields": []}, "query_invalid"),
        ({}, "request_invalid"),
        ({"fields": ["categorie"]}, "query_unknown_field"),
        ({"fields": ["category"], "limit": 0}, "limit_invalid"),
        ({"fields": ["category"], "filter": {"x": 1}}, "filter_unknown_field"),
    ],
)
def test_values_that_cannot_be_counted(
    shelf: Site, asked: dict[str, object], code: str
) -> None:
    refused(shelf.client.post(FACETS, json=asked), code)


def test_values_of_no_collection(shelf: Site) -> None:
    answer = shelf.client.post(
        "/v1/collections/nothing/facets", json={"fields": ["category"]}
    )

    refused(answer, "collection_not_found", 404)


# --- batches -------------------------------------------------------------------------


def batch(site: Site, *searches: object) -> TestResponse:
    return site.client.post(f"{SEARCH}/batch", json={"searches": list(searches)})


def test_each_search_of_a_batch_is_answered_for_itself(shelf: Site) -> None:
    answers = told(
        batch(
            shelf,
            {"query": {"image": base64_of("b")}, "limit": 1},
            {"query": {"id": "nobody"}},
            {"query": {"image": "%%%"}},
            {"query": {"id": "a"}, "limit": 2, "facets": ["category"]},
            {"query": {"id": "a"}, "limit": 0},
            {"quary": 1},
            7,
        )
    )["answers"]

    codes = [each["error"] and each["error"]["code"] for each in answers]
    assert codes == [
        None,
        "image_not_found",
        "base64_invalid",
        None,
        "limit_invalid",
        "request_invalid",
        "request_invalid",
    ]
    assert [each["answer"] is None for each in answers] == [
        code is not None for code in codes
    ]
    assert answers[0]["answer"]["matches"][0]["id"] == "b"
    assert len(answers[3]["answer"]["matches"]) == 2
    assert answers[3]["answer"]["facets"]["category"]["distinct"] == 2
    assert answers[1]["error"]["status"] == 404


def test_a_batch_answers_what_single_searches_answer(shelf: Site) -> None:
    searches: list[dict[str, object]] = [
        {"query": {"id": name}, "limit": 4, "filter": condition}
        for name in "abcde"
        for condition in ({}, {"category": "shoes"})
    ]

    answers = told(batch(shelf, *searches))["answers"]

    for asked, each in zip(searches, answers, strict=True):
        assert each["answer"]["matches"] == told(shelf.search(**asked))["matches"]


def test_a_batch_takes_no_cursors(shelf: Site) -> None:
    cursor = told(shelf.search(query={"id": "a"}, limit=2))["next_cursor"]

    (answer,) = told(batch(shelf, {"cursor": cursor, "limit": 2}))["answers"]

    assert answer["error"]["code"] == "query_invalid"
    assert "cursor" in answer["error"]["detail"]


@pytest.mark.parametrize("count", [0, 101])
def test_a_batch_of_too_few_or_too_many_is_refused(shelf: Site, count: int) -> None:
    problem = refused(batch(shelf, *[{"query": {"id": "a"}}] * count), "batch_invalid")

    assert problem["limit"] == 100


def test_a_batch_over_the_limit_of_bytes_is_refused(shelf: Site) -> None:
    answer = batch(shelf, {"query": {"image": "A" * 5 * 2**20}})

    refused(answer, "too_large", 413)


def test_a_batch_in_no_collection_is_refused(shelf: Site) -> None:
    answer = shelf.client.post(
        "/v1/collections/nothing/search/batch", json={"searches": []}
    )

    refused(answer, "collection_not_found", 404)


# --- refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"url": "https://example.org/a.jpg"}, "url_queries_off"),
        ({"positive": [{"url": "https://example.org/a.jpg"}]}, "url_queries_off"),
        ({"id": "a", "negative": [{"url": "x"}]}, "url_queries_off"),
        ({"negative": ["a"]}, "query_invalid"),
        ({"positive": []}, "query_invalid"),
        ({"positive": [{}]}, "query_invalid"),
        ({"positive": [{"id": "a", "vector": [1.0]}]}, "query_invalid"),
        ({"positive": ["a"] * 33}, "query_invalid"),
        ({"positive": [{"id": "a", "weight": 0}]}, "query_invalid"),
        ({"positive": [{"id": "a", "weight": -1}]}, "query_invalid"),
        ({"positive": ["a"], "crop": [0, 0, 0.5, 0.5]}, "query_invalid"),
        ({"vector": [1.0] * 192, "crop": [0, 0, 0.5, 0.5]}, "query_invalid"),
        ({"id": "a", "crop": [0, 0, 2, 1]}, "crop_invalid"),
        ({"id": "a", "crop": "0,0,1,1"}, "crop_invalid"),
        ({"positive": [{"id": "a", "crop": [1]}]}, "crop_invalid"),
        ({"positive": [7]}, "request_invalid"),
        ({"positive": "a"}, "request_invalid"),
        ({"positive": [{"id": "a", "weight": "1"}]}, "request_invalid"),
        ({"id": "a", "strategy": "worst"}, "request_invalid"),
        ({"positive": [{"id": "a", "size": 1}]}, "request_invalid"),
    ],
)
def test_a_query_that_cannot_be_is_refused(
    shelf: Site, query: dict[str, object], code: str
) -> None:
    refused(shelf.search(query=query), code)


def test_a_wrong_example_names_its_place(shelf: Site) -> None:
    answer = shelf.search(query={"id": "a", "negative": ["b", {"wait": 1}]})

    problem = refused(answer, "request_invalid")
    assert problem["errors"][0]["path"] == "query.negative[1]"
    assert "did you mean 'weight'?" in problem["detail"]


def test_an_unknown_id_among_the_examples_is_not_found(shelf: Site) -> None:
    answer = shelf.search(query={"id": "a", "negative": ["nobody"]})

    refused(answer, "image_not_found", 404)


def test_examples_that_cancel_each_other_are_refused(shelf: Site) -> None:
    vector = [1.0] + [0.0] * 191
    query = {"positive": [{"vector": vector}, {"vector": [-1.0] + [0.0] * 191}]}

    refused(shelf.search(query=query), "query_cancels")


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"diversity": 2}, "query_invalid"),
        ({"diversity": 0.5, "limit": 101}, "limit_invalid"),
        ({"collapse_duplicates": True, "limit": 101}, "limit_invalid"),
        ({"explain": True, "limit": 21}, "limit_invalid"),
        ({"group_size": 2}, "query_invalid"),
        ({"group_by": "category", "group_size": 0}, "limit_invalid"),
        ({"group_by": "category", "group_size": 11, "limit": 100}, "limit_invalid"),
        ({"group_by": "kategory"}, "query_unknown_field"),
        ({"group_by": "tags"}, "query_wrong_type"),
        ({"facets": ["kategory"]}, "query_unknown_field"),
        ({"facets": ["category"] * 11}, "query_invalid"),
        ({"cursor": "nonsense"}, "cursor_invalid"),
        ({"cursor": ""}, "cursor_invalid"),
        ({"cursor": 7}, "request_invalid"),
        ({"diversity": "1"}, "request_invalid"),
        ({"explain": 1}, "request_invalid"),
    ],
)
def test_what_cannot_be_wanted_is_refused(
    shelf: Site, asked: dict[str, object], code: str
) -> None:
    refused(shelf.search(query={"id": "a"}, **asked), code)


@pytest.mark.parametrize(
    "address", ["crop=1,2", "crop=a,b,c,d", "crop=", "diversity=x", "explain=maybe"]
)
def test_a_wrong_address_of_a_raw_picture_is_refused(shelf: Site, address: str) -> None:
    answer = shelf.client.post(
        f"{SEARCH}?{address}", data=photo("b"), content_type="image/jpeg"
    )

    assert answer.status_code == 400
