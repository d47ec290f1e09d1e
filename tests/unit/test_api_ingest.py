from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Mapping
from typing import Any

import pytest
from werkzeug.test import EnvironBuilder, TestResponse
from werkzeug.wrappers import Response

from api_site import Site, photo
from lookalike.errors import StorageUnavailable

IMAGES = "/v1/collections/things/images"


def entry(data: bytes, **more: object) -> dict[str, object]:
    return {"base64": base64.b64encode(data).decode(), **more}


def lines(*entries: object) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in entries)


def job(answer: TestResponse) -> dict[str, Any]:
    assert answer.status_code == 202, answer.json
    assert answer.json is not None
    found: dict[str, Any] = answer.json["job"]
    return found


def post_lines(site: Site, body: bytes) -> TestResponse:
    return site.client.post(IMAGES, data=body, content_type="application/x-ndjson")


# --- what is taken in ----------------------------------------------------------------


def test_a_form_of_many_files_becomes_one_job(shelf: Site) -> None:
    answer = shelf.form([photo("x"), photo("y")])

    made = job(answer)
    assert made["total"] == 2
    assert answer.headers["Location"] == f"/v1/jobs/{made['id']}"
    told = shelf.client.get(answer.headers["Location"]).json
    assert told is not None
    assert (told["done"], told["pending"]) == (2, 0)
    assert told["finished_at"] is not None


def test_pictures_for_a_collection_of_another_backbone_are_refused(
    shelf: Site,
) -> None:
    before = shelf.ids()
    shelf.embedder.fingerprint = "other"

    answer = shelf.form([photo("x")])

    assert answer.status_code == 409
    assert answer.json is not None
    assert answer.json["code"] == "backbone_mismatch"
    assert (answer.json["expected"], answer.json["runs"]) == ("fake", "other")
    assert shelf.ids() == before


def test_without_an_id_the_digest_is_the_id(shelf: Site) -> None:
    shelf.form([photo("x")])

    assert hashlib.sha256(photo("x")).hexdigest() in shelf.ids()


def test_files_of_any_part_name_keep_their_order(shelf: Site) -> None:
    answer = shelf.client.post(
        IMAGES,
        data={
            "one": (io.BytesIO(photo("x")), "x.jpg"),
            "two": (io.BytesIO(photo("y")), "y.jpg"),
            "items": json.dumps([{"id": "x"}, {"id": "y"}]),
        },
    )

    assert job(answer)["total"] == 2
    digest = hashlib.sha256(photo("y")).hexdigest()
    image = shelf.client.get(f"{IMAGES}/y").json
    assert image is not None
    assert image["digest"] == digest


def test_metadata_of_a_file_go_over_those_of_the_form(shelf: Site) -> None:
    shelf.form(
        [photo("x"), photo("y")],
        metadata=json.dumps({"category": "hats", "price": 1}),
        items=json.dumps([{"id": "x"}, {"id": "y", "metadata": {"price": 2}}]),
    )

    told = [shelf.client.get(f"{IMAGES}/{name}").json for name in "xy"]
    assert told[0] is not None
    assert told[1] is not None
    assert told[0]["metadata"] == {"category": "hats", "price": 1.0}
    assert told[1]["metadata"] == {"category": "hats", "price": 2.0}


def test_a_raw_image_is_taken_with_its_id_and_metadata(shelf: Site) -> None:
    answer = shelf.client.post(
        IMAGES,
        query_string={"id": "raw/x", "metadata": '{"category": "hats"}'},
        data=photo("x"),
        content_type="image/jpeg",
    )

    assert job(answer)["total"] == 1
    image = shelf.client.get(f"{IMAGES}/raw/x").json
    assert image is not None
    assert image["metadata"] == {"category": "hats"}


def test_an_image_of_a_type_that_is_not_told_is_detected(shelf: Site) -> None:
    answer = shelf.client.post(
        IMAGES, data=photo("x"), content_type="application/octet-stream"
    )

    assert job(answer)["total"] == 1


@pytest.mark.parametrize("wrap", [lambda e: {"images": e}, lambda e: e])
def test_json_holds_images_in_base64(shelf: Site, wrap: Any) -> None:
    entries = [entry(photo("x"), id="x"), entry(photo("y"), metadata={"price": 3})]

    answer = shelf.client.post(IMAGES, json=wrap(entries))

    assert job(answer)["total"] == 2
    assert "x" in shelf.ids()


def test_a_data_url_is_base64_too(shelf: Site) -> None:
    text = "data:image/jpeg;base64," + base64.b64encode(photo("x")).decode()

    answer = shelf.client.post(IMAGES, json=[{"id": "x", "base64": text}])

    assert job(answer)["total"] == 1


def test_ndjson_is_taken_line_by_line(shelf: Site) -> None:
    body = lines(entry(photo("x"), id="x"), entry(photo("y"), id="y"))

    answer = post_lines(shelf, body.rstrip(b"\n"))

    assert job(answer)["total"] == 2
    assert {"x", "y"} <= set(shelf.ids())


def test_a_blank_line_is_no_image(shelf: Site) -> None:
    answer = post_lines(shelf, b"\n" + lines(entry(photo("x"))) + b"  \n\n")

    assert job(answer)["total"] == 1


def test_the_same_again_is_unchanged_and_not_embedded(shelf: Site) -> None:
    made = shelf.ingest({"a": photo("a")}, {"category": "shoes", "price": ord("a")})

    told = shelf.client.get(f"/v1/jobs/{made['id']}").json
    assert told is not None
    assert (told["unchanged"], told["done"]) == (1, 0)


def test_an_empty_file_input_of_a_browser_is_no_image(shelf: Site) -> None:
    answer = shelf.client.post(
        IMAGES,
        data={
            "image": (io.BytesIO(photo("x")), "x.jpg"),
            "more": (io.BytesIO(b""), ""),
        },
    )

    assert job(answer)["total"] == 1


# --- one bad entry fails alone -------------------------------------------------------


BAD_FILES = {
    "image_empty": b"",
    "image_unsupported": b"<svg onload='alert(1)'/>",
    "image_truncated": photo("x")[:400],
}


@pytest.mark.parametrize(("code", "data"), BAD_FILES.items())
def test_a_bad_file_fails_alone(shelf: Site, code: str, data: bytes) -> None:
    answer = shelf.form([photo("x"), data, photo("y")])

    made = job(answer)
    failures = shelf.client.get(f"/v1/jobs/{made['id']}/failures").json
    assert failures is not None
    assert [(one["position"], one["code"]) for one in failures["failures"]] == [
        (1, code)
    ]
    assert (made["total"], made["failed"]) == (3, 1)


@pytest.mark.parametrize(
    ("item", "code"),
    [
        ({"id": 7}, "request_invalid"),
        ({"ide": "x"}, "request_invalid"),
        ("x", "request_invalid"),
        ({"id": "../x"}, "id_invalid"),
        ({"id": "x/original"}, "id_invalid"),
        ({"metadata": 7}, "metadata_wrong_type"),
        ({"metadata": {"price": "7"}}, "metadata_wrong_type"),
        ({"metadata": {"prise": 7}}, "metadata_unknown_field"),
    ],
)
def test_a_bad_item_fails_alone(shelf: Site, item: object, code: str) -> None:
    items = json.dumps([{"id": "x"}, item])

    answer = shelf.form([photo("x"), photo("y")], items=items)

    made = job(answer)
    failures = shelf.client.get(f"/v1/jobs/{made['id']}/failures").json
    assert failures is not None
    assert [one["code"] for one in failures["failures"]] == [code]
    assert "x" in shelf.ids()


BAD_ENTRIES: dict[str, object] = {
    "not an object": 7,
    "no image": {"id": "y"},
    "unknown key": entry(photo("y"), meta={}),
    "not base64": {"base64": "***"},
}


@pytest.mark.parametrize("bad", BAD_ENTRIES.values(), ids=BAD_ENTRIES)
@pytest.mark.parametrize("format", ["json", "ndjson"])
def test_a_bad_entry_fails_alone(shelf: Site, bad: object, format: str) -> None:
    entries = [entry(photo("x"), id="x"), bad]

    if format == "json":
        answer = shelf.client.post(IMAGES, json=entries)
    else:
        answer = post_lines(shelf, lines(*entries))

    assert (job(answer)["total"], job(answer)["failed"]) == (2, 1)
    assert "x" in shelf.ids()


@pytest.mark.parametrize("bad", [b'{"base64": \n', b'{"a":1,"a":2}\n', b"\xff\n"])
def test_a_line_that_is_no_json_fails_alone(shelf: Site, bad: bytes) -> None:
    answer = post_lines(shelf, lines(entry(photo("x"), id="x")) + bad)

    made = job(answer)
    failures = shelf.client.get(f"/v1/jobs/{made['id']}/failures").json
    assert failures is not None
    assert [one["code"] for one in failures["failures"]] == ["json_invalid"]


def test_a_line_that_is_too_long_fails_alone(shelf: Site) -> None:
    long = b'{"base64": "' + b"A" * (3 * 2**20) + b'"}\n'

    answer = post_lines(shelf, long + lines(entry(photo("x"), id="x")))

    made = job(answer)
    failures = shelf.client.get(f"/v1/jobs/{made['id']}/failures").json
    assert failures is not None
    assert [(one["position"], one["code"]) for one in failures["failures"]] == [
        (0, "line_too_long")
    ]
    assert "x" in shelf.ids()


# --- refused, and nothing changed ----------------------------------------------------


def refused(site: Site, answer: TestResponse, before: object) -> dict[str, Any]:
    """The problem, once it is certain that nothing changed."""
    assert 400 <= answer.status_code < 500, answer.data
    assert site.state() == before
    assert answer.json is not None
    problem: dict[str, Any] = answer.json
    assert problem["detail"]
    assert not problem["retryable"]
    return problem


@pytest.mark.parametrize(("code", "data"), BAD_FILES.items())
@pytest.mark.parametrize("format", ["form", "raw", "json", "ndjson"])
def test_a_single_bad_image_is_refused_by_name(
    shelf: Site, format: str, code: str, data: bytes
) -> None:
    before = shelf.state()

    answer = {
        "form": lambda: shelf.form([data]),
        "raw": lambda: shelf.client.post(IMAGES, data=data, content_type="image/png"),
        "json": lambda: shelf.client.post(IMAGES, json=[entry(data)]),
        "ndjson": lambda: post_lines(shelf, lines(entry(data))),
    }[format]()

    assert refused(shelf, answer, before)["code"] == code
    assert answer.status_code == 422


def test_a_bomb_is_refused_from_its_header(shelf: Site, bomb: bytes) -> None:
    before = shelf.state()

    answer = shelf.form([bomb])

    assert refused(shelf, answer, before)["code"] == "image_too_large"


def test_a_file_over_the_limit_is_refused(shelf: Site) -> None:
    before = shelf.state()

    answer = shelf.client.post(
        IMAGES, data=photo("x") + bytes(3 * 2**20), content_type="image/jpeg"
    )

    assert refused(shelf, answer, before)["code"] == "image_too_large"


def test_if_all_are_refused_each_is_told(shelf: Site) -> None:
    before = shelf.state()

    answer = shelf.form(list(BAD_FILES.values()))

    problem = refused(shelf, answer, before)
    assert problem["code"] == "all_refused"
    assert [one["code"] for one in problem["failures"]] == list(BAD_FILES)


def test_an_unknown_field_of_metadata_names_the_nearest(shelf: Site) -> None:
    before = shelf.state()

    answer = shelf.form([photo("x")], metadata='{"categori": "shoes"}')

    problem = refused(shelf, answer, before)
    assert problem["code"] == "metadata_unknown_field"
    assert problem["nearest"] == "category"


def test_metadata_of_the_wrong_type_is_refused(shelf: Site) -> None:
    before = shelf.state()

    answer = shelf.form([photo("x")], metadata='{"price": "cheap"}')

    assert refused(shelf, answer, before)["code"] == "metadata_wrong_type"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"metadata": "{"}, "json_invalid"),
        ({"metadata": "[]"}, "request_invalid"),
        ({"items": "[{]"}, "json_invalid"),
        ({"items": "{}"}, "request_invalid"),
        ({"items": "[{}, {}]"}, "request_invalid"),
        ({"item": "[]"}, "request_invalid"),
    ],
)
def test_a_form_with_wrong_fields_is_refused(
    shelf: Site, fields: Mapping[str, str], code: str
) -> None:
    before = shelf.state()

    answer = shelf.form([photo("x")], **fields)

    assert refused(shelf, answer, before)["code"] == code


def test_a_form_without_files_is_refused(shelf: Site) -> None:
    before = shelf.state()

    answer = shelf.client.post(
        IMAGES,
        data={"metadata": "{}", "items": "[]"},
        content_type="multipart/form-data",
    )

    assert refused(shelf, answer, before)["code"] == "no_images"


def test_too_many_files_are_refused_with_the_limit(shelf: Site) -> None:
    before = shelf.state()

    answer = shelf.form([photo("x")] * 21)

    problem = refused(shelf, answer, before)
    assert answer.status_code == 413
    assert (problem["code"], problem["limit"]) == ("too_many_images", 20)


def test_too_many_images_in_json_are_refused_with_the_limit(shelf: Site) -> None:
    before = shelf.state()

    answer = shelf.client.post(IMAGES, json=[entry(photo("x"))] * 21)

    problem = refused(shelf, answer, before)
    assert answer.status_code == 413
    assert (problem["code"], problem["limit"]) == ("too_many_images", 20)


@pytest.mark.parametrize("media", ["multipart/form-data; boundary=x", "image/jpeg"])
def test_a_body_over_the_limit_is_refused_unread(shelf: Site, media: str) -> None:
    before = shelf.state()

    answer = shelf.client.post(IMAGES, data=bytes(4 * 2**20 + 1), content_type=media)

    problem = refused(shelf, answer, before)
    assert answer.status_code == 413
    assert problem["code"] == "too_large"
    assert str(4 * 2**20) in problem["detail"]


@pytest.mark.parametrize(
    ("body", "media"),
    [
        (b"x", "multipart/form-data"),
        (b"x", "multipart/form-data; boundary=x"),
        (b"--x\r\nnonsense", "multipart/form-data; boundary=x"),
        (
            b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n'
            b"\r\nhalf an ima",
            "multipart/form-data; boundary=x",
        ),
    ],
)
def test_a_broken_form_is_refused(shelf: Site, body: bytes, media: str) -> None:
    before = shelf.state()

    answer = shelf.client.post(IMAGES, data=body, content_type=media)

    assert refused(shelf, answer, before)["code"] == "multipart_invalid"


@pytest.mark.parametrize("media", ["text/plain", "application/xml", ""])
def test_a_body_of_another_type_is_refused(shelf: Site, media: str) -> None:
    before = shelf.state()

    answer = shelf.client.post(IMAGES, data=photo("x"), content_type=media)

    problem = refused(shelf, answer, before)
    assert answer.status_code == 415
    assert "multipart/form-data" in problem["accepted"]


@pytest.mark.parametrize(
    "query", [{"ids": "x"}, {"metadata": "{"}, {"metadata": "[1]"}, {"id": "a//b"}]
)
def test_wrong_query_parameters_of_a_raw_image_are_refused(
    shelf: Site, query: Mapping[str, str]
) -> None:
    before = shelf.state()

    answer = shelf.client.post(
        IMAGES, query_string=query, data=photo("x"), content_type="image/jpeg"
    )

    refused(shelf, answer, before)


def test_query_parameters_do_not_go_with_a_form(shelf: Site) -> None:
    before = shelf.state()

    answer = shelf.client.post(
        f"{IMAGES}?id=x", data={"image": (io.BytesIO(photo("x")), "x.jpg")}
    )

    assert refused(shelf, answer, before)["code"] == "request_invalid"


def test_images_for_an_unknown_collection_are_refused(shelf: Site) -> None:
    before = shelf.state()

    answer = shelf.client.post(
        "/v1/collections/nothing/images", data=photo("x"), content_type="image/jpeg"
    )

    assert refused(shelf, answer, before)["code"] == "collection_not_found"


def test_malformed_json_of_images_is_refused(shelf: Site) -> None:
    before = shelf.state()

    answer = shelf.client.post(
        IMAGES, data=b'{"images": [', content_type="application/json"
    )

    assert refused(shelf, answer, before)["code"] == "json_invalid"


# --- failures in the middle ----------------------------------------------------------


def test_a_client_that_goes_away_leaves_nothing_behind(shelf: Site) -> None:
    before = shelf.state()
    body = (
        b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        + photo("x")
    )
    environ = EnvironBuilder(
        IMAGES,
        method="POST",
        content_type="multipart/form-data; boundary=x",
        input_stream=io.BytesIO(body),
        content_length=10 * len(body),
    ).get_environ()

    answer = Response.from_app(shelf.app, environ)

    assert answer.status_code == 400
    assert shelf.state() == before


@pytest.mark.parametrize("format", ["form", "raw", "ndjson"])
def test_storage_that_fails_leaves_nothing_behind(
    shelf: Site, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    def fail(staged: object) -> None:
        raise StorageUnavailable("The disk does not answer.")

    monkeypatch.setattr(shelf.parts.blobs, "keep", fail)
    before = shelf.state()

    answer = {
        "form": lambda: shelf.form([photo("x"), photo("y")]),
        "raw": lambda: shelf.client.post(
            IMAGES, data=photo("x"), content_type="image/jpeg"
        ),
        "ndjson": lambda: post_lines(shelf, lines(entry(photo("x")), entry(b""))),
    }[format]()

    assert answer.status_code == 503
    assert answer.json is not None
    told = answer.json["code"], answer.json["retryable"]
    assert told == ("storage_unavailable", True)
    assert shelf.state() == before
