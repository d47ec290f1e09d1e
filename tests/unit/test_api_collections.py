from __future__ import annotations

import pytest

from api_site import FIELDS, Site


def test_a_new_collection_is_told_with_its_address(site: Site) -> None:
    answer = site.client.post(
        "/v1/collections", json={"name": "shoes", "fields": FIELDS}
    )

    assert answer.status_code == 201
    assert answer.headers["Location"] == "/v1/collections/shoes"
    assert answer.json is not None
    assert answer.json["fields"] == FIELDS
    assert answer.json["backbone"] == "fake"
    assert answer.json["fingerprint"] == site.embedder.fingerprint
    assert answer.json["dimension"] == site.embedder.dimension
    assert answer.json["counts"] == {"pending": 0, "indexed": 0, "failed": 0}


def test_a_collection_needs_only_a_name(site: Site) -> None:
    answer = site.client.post("/v1/collections", json={"name": "plain"})

    assert answer.status_code == 201
    assert answer.json is not None
    assert answer.json["fields"] == {}
    assert answer.json["metric"] == "cosine"


def test_a_field_may_be_declared_by_its_type_alone(site: Site) -> None:
    answer = site.client.post(
        "/v1/collections", json={"name": "plain", "fields": {"price": "float"}}
    )

    assert answer.json is not None
    assert answer.json["fields"] == {"price": {"type": "float"}}


def test_collections_are_listed_by_name(site: Site) -> None:
    site.create("b")
    site.create("a")

    answer = site.client.get("/v1/collections")

    assert answer.json is not None
    assert [one["name"] for one in answer.json["collections"]] == ["a", "b"]


def test_a_collection_tells_how_many_images_it_has(shelf: Site) -> None:
    answer = shelf.client.get("/v1/collections/things")

    assert answer.json is not None
    assert answer.json["counts"] == {"pending": 0, "indexed": 6, "failed": 0}


def test_a_deleted_collection_is_gone_and_its_name_is_free(shelf: Site) -> None:
    answer = shelf.client.delete("/v1/collections/things")

    assert answer.status_code == 204
    assert shelf.client.get("/v1/collections/things").status_code == 404
    shelf.create()
    assert shelf.ids() == []


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "request_invalid"),
        ({"name": 7}, 400, "request_invalid"),
        ({"name": "No Spaces"}, 400, "collection_name_invalid"),
        ({"name": "x", "metric": "euclid"}, 400, "metric_invalid"),
        ({"name": "x", "backbone": "resnet50"}, 409, "backbone_mismatch"),
        ({"name": "x", "fields": {"a": "text"}}, 422, "field_invalid"),
        ({"name": "x", "fields": {"a b": "int"}}, 422, "field_invalid"),
        ({"name": "x", "fields": ["a"]}, 422, "field_invalid"),
        ({"name": "things"}, 409, "collection_exists"),
        ([{"name": "x"}], 400, "request_invalid"),
    ],
)
def test_a_collection_that_cannot_be_is_refused(
    shelf: Site, body: object, status: int, code: str
) -> None:
    before = shelf.state()

    answer = shelf.client.post("/v1/collections", json=body)

    assert answer.status_code == status
    assert answer.json is not None
    assert answer.json["code"] == code
    assert answer.json["retryable"] is False
    assert shelf.state() == before


def test_an_unknown_key_names_the_nearest(site: Site) -> None:
    answer = site.client.post("/v1/collections", json={"name": "x", "feilds": {}})

    assert answer.status_code == 400
    assert answer.json is not None
    assert "did you mean 'fields'?" in answer.json["detail"]


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_unknown_collection_is_not_found(site: Site, method: str) -> None:
    answer = site.client.open("/v1/collections/nothing", method=method)

    assert answer.status_code == 404
    assert answer.json is not None
    assert answer.json["code"] == "collection_not_found"


@pytest.mark.parametrize("metric", ["cosine", "ip", "euclidean", "pearson"])
def test_a_collection_is_compared_by_the_metric_it_names(
    site: Site, metric: str
) -> None:
    made = site.client.post("/v1/collections", json={"name": "m", "metric": metric})

    assert made.status_code == 201
    told = site.client.get("/v1/collections/m")
    assert told.json is not None
    assert told.json["metric"] == metric


def test_an_unknown_metric_is_answered_with_the_accepted_ones(site: Site) -> None:
    answer = site.client.post("/v1/collections", json={"name": "m", "metric": "l1"})

    assert answer.status_code == 400
    assert answer.json is not None
    assert answer.json["code"] == "metric_invalid"
    assert "cosine, ip, euclidean, pearson" in answer.json["detail"]


def test_a_collection_tells_the_index_it_was_asked_to_have(site: Site) -> None:
    index = {"type": "HNSW", "params": {"M": 32}}

    site.client.post("/v1/collections", json={"name": "graph", "index": index})
    site.client.post("/v1/collections", json={"name": "plain"})

    answer = site.client.get("/v1/collections")
    assert answer.json is not None
    told = {one["name"]: one["index"] for one in answer.json["collections"]}
    assert told == {"graph": index, "plain": {"type": "automatic", "params": {}}}


@pytest.mark.parametrize(
    ("index", "code"),
    [
        ({"type": "HNWS"}, "index_invalid"),
        ({"type": "HNSW", "params": {"nlist": 7}}, "index_invalid"),
        ({"type": "GPU_CAGRA"}, "index_unsupported"),
    ],
)
def test_an_index_that_cannot_be_had_leaves_no_collection(
    site: Site, index: object, code: str
) -> None:
    answer = site.client.post("/v1/collections", json={"name": "x", "index": index})

    assert answer.status_code == 400
    assert answer.json is not None
    assert answer.json["code"] == code
    assert site.client.get("/v1/collections/x").status_code == 404
