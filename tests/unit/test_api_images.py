from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

import pictures
from api_site import Site, photo

IMAGES = "/v1/collections/things/images"


def get(site: Site, path: str, **query: object) -> dict[str, Any]:
    answer = site.client.get(path, query_string=query)
    assert answer.status_code == 200, answer.json
    assert answer.json is not None
    told: dict[str, Any] = answer.json
    return told


def test_an_image_is_told_with_its_facts(shelf: Site) -> None:
    image = get(shelf, f"{IMAGES}/a")

    assert image["state"] == "indexed"
    assert image["metadata"] == {"category": "shoes", "price": 97.0}
    assert (image["format"], image["width"], image["height"]) == ("JPEG", 64, 48)
    assert image["bytes"] == len(photo("a"))


def test_an_id_with_slashes_has_an_address(shelf: Site) -> None:
    image = get(shelf, f"{IMAGES}/folder/f.jpg")

    assert image["id"] == "folder/f.jpg"
    assert image["image_url"] == f"{IMAGES}/folder/f.jpg/original"
    assert shelf.client.get(image["image_url"]).data == photo("f")
    assert shelf.client.get(image["thumbnail_url"]).status_code == 200


@pytest.mark.parametrize("name", ["delete", "ä b?#%41+.jpg", "original", "a/delete"])
def test_an_odd_id_has_an_address(shelf: Site, name: str) -> None:
    shelf.ingest({name: photo("x")})

    told = next(image for image in get(shelf, IMAGES)["images"] if image["id"] == name)

    address = told["image_url"].removesuffix("/original")
    assert get(shelf, address)["id"] == name
    assert shelf.client.get(told["thumbnail_url"]).status_code == 200
    assert shelf.client.delete(address).status_code == 200
    assert name not in shelf.ids()


def test_scrolling_meets_each_image_once(shelf: Site) -> None:
    met: list[str] = []
    cursor: dict[str, object] = {}

    while True:
        page = get(shelf, IMAGES, limit=4, **cursor)
        met += [image["id"] for image in page["images"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}

    assert met == ["a", "b", "c", "d", "e", "folder/f.jpg"]


def test_scrolling_takes_a_filter(shelf: Site) -> None:
    page = get(shelf, IMAGES, filter='{"category": "bags"}')

    assert [image["id"] for image in page["images"]] == ["d", "e"]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"limit": 0}, "limit_invalid"),
        ({"limit": 100_000}, "limit_invalid"),
        ({"limit": "ten"}, "request_invalid"),
        ({"limt": 10}, "request_invalid"),
        ({"cursor": "!"}, "cursor_invalid"),
        ({"cursor": "AA"}, "cursor_invalid"),
        ({"filter": "{"}, "json_invalid"),
        ({"filter": '{"categori": 1}'}, "filter_unknown_field"),
        ({"filter": '{"price": "7"}'}, "filter_wrong_type"),
    ],
)
def test_a_list_that_cannot_be_is_refused(
    shelf: Site, query: dict[str, object], code: str
) -> None:
    answer = shelf.client.get(IMAGES, query_string=query)

    assert answer.status_code == 400
    assert answer.json is not None
    assert answer.json["code"] == code


def test_a_query_parameter_given_twice_is_refused(shelf: Site) -> None:
    assert shelf.client.get(f"{IMAGES}?limit=1&limit=2").status_code == 400


def test_metadata_are_merged_and_null_removes(shelf: Site) -> None:
    answer = shelf.client.patch(
        f"{IMAGES}/a", json={"metadata": {"price": None, "tags": ["new"]}}
    )

    assert answer.status_code == 200
    assert answer.json is not None
    assert answer.json["metadata"] == {"category": "shoes", "tags": ["new"]}
    assert get(shelf, f"{IMAGES}/a")["metadata"] == answer.json["metadata"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"metadata": {"prise": 1}}, 422, "metadata_unknown_field"),
        ({"metadata": {"prise": None}}, 422, "metadata_unknown_field"),
        ({"metadata": {"price": "1"}}, 422, "metadata_wrong_type"),
        ({"metadata": None}, 422, "metadata_wrong_type"),
        ({"metadata": ["a"]}, 422, "metadata_wrong_type"),
        ({"meta": {}}, 400, "request_invalid"),
        ({}, 400, "request_invalid"),
    ],
)
def test_a_change_that_cannot_be_is_refused(
    shelf: Site, body: object, status: int, code: str
) -> None:
    before = shelf.state(), get(shelf, f"{IMAGES}/a")

    answer = shelf.client.patch(f"{IMAGES}/a", json=body)

    assert answer.status_code == status
    assert answer.json is not None
    assert answer.json["code"] == code
    assert (shelf.state(), get(shelf, f"{IMAGES}/a")) == before


def test_a_deleted_image_is_gone(shelf: Site) -> None:
    answer = shelf.client.delete(f"{IMAGES}/folder/f.jpg")

    assert answer.status_code == 200
    assert answer.json is not None
    assert answer.json["job"]["total"] == 1
    assert shelf.client.get(f"{IMAGES}/folder/f.jpg").status_code == 404


def test_many_images_are_deleted_at_once(shelf: Site) -> None:
    answer = shelf.client.post(
        f"{IMAGES}/delete", json={"ids": ["a", "nothing", "folder/f.jpg"]}
    )

    assert answer.status_code == 200
    assert answer.json is not None
    assert answer.json["job"]["total"] == 2
    assert shelf.ids() == ["b", "c", "d", "e"]


def test_what_satisfies_a_filter_is_deleted_as_one_job(shelf: Site) -> None:
    answer = shelf.client.post(
        f"{IMAGES}/delete", json={"filter": {"category": "shoes"}}
    )

    assert answer.status_code == 200
    assert answer.json is not None
    assert answer.json["job"]["total"] == 3
    assert shelf.ids() == ["d", "e", "folder/f.jpg"]
    found = shelf.search(query={"id": "d"}).json
    assert found is not None
    assert {match["id"] for match in found["matches"]} == {"e", "folder/f.jpg"}


def test_images_that_are_not_indexed_yet_are_deleted_by_filter_too(shelf: Site) -> None:
    shelf.queue.is_held = True
    shelf.ingest({"x": photo("x")}, {"category": "hats"})

    shelf.client.post(f"{IMAGES}/delete", json={"filter": {"category": "hats"}})

    assert "x" not in shelf.ids()


def test_a_filter_that_matches_nothing_deletes_nothing(shelf: Site) -> None:
    answer = shelf.client.post(
        f"{IMAGES}/delete", json={"filter": {"category": "hats"}}
    )

    assert answer.status_code == 200
    assert answer.json is not None
    job = answer.json["job"]
    assert (job["total"], job["pending"]) == (0, 0)
    assert job["finished_at"] is not None
    assert len(shelf.ids()) == 6


def test_an_empty_filter_is_told_how_to_delete_everything(shelf: Site) -> None:
    answer = shelf.client.post(f"{IMAGES}/delete", json={"filter": {}})

    assert answer.json is not None
    assert answer.json["code"] == "filter_invalid"
    assert "delete the collection" in answer.json["detail"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"ids": "a"}, 400),
        ({"ids": [1]}, 400),
        ({"ids": ["a", "../b"]}, 422),
        ({}, 400),
        ({"ids": None, "filter": None}, 400),
        ({"ids": ["a"], "filter": {"category": "shoes"}}, 400),
        ({"filter": {}}, 400),
        ({"filter": {"$and": []}}, 400),
        ({"filter": {"categori": "shoes"}}, 400),
        ({"filter": "category"}, 400),
    ],
)
def test_a_deletion_that_cannot_be_changes_nothing(
    shelf: Site, body: object, status: int
) -> None:
    before = shelf.state()

    answer = shelf.client.post(f"{IMAGES}/delete", json=body)

    assert answer.status_code == status
    assert shelf.state() == before


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "nothing"),
        ("DELETE", "nothing"),
        ("GET", "nothing/original"),
        ("GET", "nothing/thumbnail"),
        ("GET", "a%00b"),
    ],
)
def test_an_unknown_image_is_not_found(shelf: Site, method: str, path: str) -> None:
    before = shelf.state()

    answer = shelf.client.open(f"{IMAGES}/{path}", method=method)

    assert answer.status_code == 404
    assert shelf.state() == before


def test_metadata_of_an_unknown_image_are_not_found(shelf: Site) -> None:
    answer = shelf.client.patch(f"{IMAGES}/nothing", json={"metadata": {}})

    assert answer.status_code == 404
    assert answer.json is not None
    assert answer.json["code"] == "image_not_found"


def test_an_original_is_a_download_that_cannot_run(shelf: Site) -> None:
    polyglot = photo("x") + b"<script>alert(1)</script>"
    shelf.ingest({'dir/a"b\\c;.html': polyglot})

    answer = shelf.client.get(f"{IMAGES}/dir/a%22b%5Cc%3B.html/original")

    assert answer.data == polyglot
    assert answer.mimetype == "image/jpeg"
    assert answer.headers["Content-Disposition"] == (
        'attachment; filename="a_b_c.jpeg"'
    )
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Cache-Control"].startswith("private")


@pytest.mark.parametrize("side", [160, 320, 640])
def test_a_thumbnail_has_the_side_that_is_asked_for(shelf: Site, side: int) -> None:
    shelf.ingest({"large": pictures.jpeg(seed=5, width=800, height=600)})

    answer = shelf.client.get(f"{IMAGES}/large/thumbnail?side={side}")

    assert answer.status_code == 200
    assert Image.open(io.BytesIO(answer.data)).size == (side, side * 3 // 4)
    assert answer.mimetype == "image/jpeg"
    assert "attachment" not in answer.headers.get("Content-Disposition", "")


@pytest.mark.parametrize(
    "side", ["100", "0", "x", "320.0", "-320", "\uff11\uff16\uff10"]
)
def test_a_thumbnail_of_any_other_side_is_refused(shelf: Site, side: str) -> None:
    answer = shelf.client.get(f"{IMAGES}/a/thumbnail", query_string={"side": side})

    assert answer.status_code == 400
    assert answer.json is not None
    assert "160" in answer.json["detail"]


def test_a_thumbnail_is_made_once(shelf: Site) -> None:
    first = shelf.client.get(f"{IMAGES}/a/thumbnail").data
    for path in shelf.parts.settings.originals.rglob("*"):
        if path.is_file() and "cache" not in path.parts:
            path.unlink()

    second = shelf.client.get(f"{IMAGES}/a/thumbnail")

    assert second.data == first


def test_a_thumbnail_that_is_known_is_not_sent_again(shelf: Site) -> None:
    first = shelf.client.get(f"{IMAGES}/a/thumbnail")

    again = shelf.client.get(
        f"{IMAGES}/a/thumbnail", headers={"If-None-Match": first.headers["ETag"]}
    )

    assert first.headers["Cache-Control"].startswith("private, max-age=")
    assert again.status_code == 304
    assert again.data == b""


def test_a_thumbnail_of_a_replaced_image_is_another(shelf: Site) -> None:
    first = shelf.client.get(f"{IMAGES}/a/thumbnail")
    shelf.ingest({"a": photo("z")})

    again = shelf.client.get(
        f"{IMAGES}/a/thumbnail", headers={"If-None-Match": first.headers["ETag"]}
    )

    assert again.status_code == 200
    assert again.data != first.data


def test_what_waits_for_its_worker_is_told_as_pending(shelf: Site) -> None:
    shelf.queue.is_held = True

    shelf.ingest({"x": photo("x")})

    assert get(shelf, f"{IMAGES}/x")["state"] == "pending"
    counts = get(shelf, "/v1/collections/things")["counts"]
    assert counts == {"pending": 1, "indexed": 6, "failed": 0}
