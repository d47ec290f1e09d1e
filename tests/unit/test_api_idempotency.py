from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from werkzeug.test import TestResponse

from api_site import Site, photo
from lookalike import ingest
from lookalike.collections import DEFAULT_TEAM
from lookalike.errors import LedgerUnavailable
from lookalike.interfaces import Idempotency, Job

IMAGES = "/v1/collections/things/images"
KEY = {"Idempotency-Key": "5c7e-1"}

Pictures = Mapping[str, bytes]
Send = Callable[[Site, Pictures, Mapping[str, str]], TestResponse]


def as_form(site: Site, files: Pictures, headers: Mapping[str, str]) -> TestResponse:
    parts = [(io.BytesIO(data), f"{n}.jpg") for n, data in enumerate(files.values())]
    items = json.dumps([{"id": name, "metadata": {"price": 1}} for name in files])
    return site.client.post(
        IMAGES, data={"image": parts, "items": items}, headers=headers
    )


def entries(files: Pictures) -> list[dict[str, object]]:
    return [
        {
            "id": name,
            "base64": base64.b64encode(data).decode(),
            "metadata": {"price": 1.0},
        }
        for name, data in files.items()
    ]


def as_json(site: Site, files: Pictures, headers: Mapping[str, str]) -> TestResponse:
    return site.client.post(IMAGES, json=entries(files), headers=headers)


def as_lines(site: Site, files: Pictures, headers: Mapping[str, str]) -> TestResponse:
    body = "".join(json.dumps(entry) + "\n" for entry in entries(files))
    return site.client.post(
        IMAGES, data=body, content_type="application/x-ndjson", headers=headers
    )


FORMATS: dict[str, Send] = {"form": as_form, "json": as_json, "ndjson": as_lines}
every_format = pytest.mark.parametrize("send", FORMATS.values(), ids=FORMATS)


def job(answer: TestResponse, status: int = 202) -> dict[str, Any]:
    assert answer.status_code == status, answer.json
    assert answer.json is not None
    found: dict[str, Any] = answer.json["job"]
    return found


def code(answer: TestResponse) -> tuple[int, str]:
    assert answer.json is not None
    return answer.status_code, answer.json["code"]


def jobs(site: Site) -> list[Job]:
    return site.parts.ledger.jobs(DEFAULT_TEAM, None, 100)


# --- the same request ----------------------------------------------------------------


@every_format
def test_the_same_request_again_is_answered_with_the_same_job(
    shelf: Site, send: Send
) -> None:
    files = {"x": photo("x"), "y": photo("y")}
    first = send(shelf, files, KEY)
    before = shelf.state()

    again = send(shelf, files, KEY)

    assert job(again)["id"] == job(first)["id"]
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]
    assert shelf.state() == before


@pytest.mark.parametrize("again", FORMATS.values(), ids=FORMATS)
@every_format
def test_the_format_of_the_body_says_nothing(
    shelf: Site, send: Send, again: Send
) -> None:
    files = {"x": photo("x"), "y": photo("y")}
    first = send(shelf, files, KEY)

    repeated = again(shelf, files, KEY)

    assert job(repeated)["id"] == job(first)["id"]


def test_a_raw_image_can_be_sent_twice(shelf: Site) -> None:
    answers = [
        shelf.client.post(
            IMAGES,
            query_string={"id": "x", "metadata": '{"price": 1}'},
            data=photo("x"),
            content_type="image/jpeg",
            headers=KEY,
        )
        for _ in range(2)
    ]

    assert job(answers[0])["id"] == job(answers[1])["id"]
    assert job(as_form(shelf, {"x": photo("x")}, KEY))["id"] == job(answers[0])["id"]


def test_a_repeat_is_told_how_the_job_stands_now(shelf: Site) -> None:
    shelf.queue.is_held = True
    first = as_form(shelf, {"x": photo("x")}, KEY)
    shelf.queue.is_held = False
    shelf.parts.ledger.recover()
    shelf.queue.ring(shelf.parts.ledger.due(10))

    again = as_form(shelf, {"x": photo("x")}, KEY)

    assert (job(first)["pending"], job(again)["pending"]) == (1, 0)


def test_without_a_key_each_request_is_a_job(shelf: Site) -> None:
    files = {"x": photo("x")}

    ids = {job(as_form(shelf, files, {}))["id"] for _ in range(2)}

    assert len(ids) == 2


def test_a_repeat_counts_what_was_refused_as_the_first_did(shelf: Site) -> None:
    files = {"x": photo("x"), "bad": b"no picture"}
    first = as_form(shelf, files, KEY)

    again = as_form(shelf, files, KEY)

    assert job(again)["id"] == job(first)["id"]
    assert (job(again)["total"], job(again)["done"], job(again)["failed"]) == (2, 1, 1)


# --- another request -----------------------------------------------------------------


OTHERS: dict[str, Pictures] = {
    "other bytes": {"x": photo("z"), "y": photo("y")},
    "another id": {"z": photo("x"), "y": photo("y")},
    "one less": {"x": photo("x")},
    "one more": {"x": photo("x"), "y": photo("y"), "z": photo("z")},
    "another order": {"y": photo("y"), "x": photo("x")},
    "one broken": {"x": photo("x"), "y": b"no picture"},
}


@pytest.mark.parametrize("files", OTHERS.values(), ids=OTHERS)
@every_format
def test_the_key_of_another_request_is_refused(
    shelf: Site, send: Send, files: Pictures
) -> None:
    send(shelf, {"x": photo("x"), "y": photo("y")}, KEY)
    before, ids = len(jobs(shelf)), shelf.ids()

    answer = send(shelf, files, KEY)

    assert code(answer) == (422, "idempotency_key_reused")
    assert len(jobs(shelf)) == before
    assert shelf.ids() == ids


def test_other_metadata_are_another_request(shelf: Site) -> None:
    item = {"id": "x", "base64": base64.b64encode(photo("x")).decode()}
    shelf.client.post(IMAGES, json=[item | {"metadata": {"price": 1}}], headers=KEY)

    answer = shelf.client.post(
        IMAGES, json=[item | {"metadata": {"price": 2}}], headers=KEY
    )

    assert code(answer) == (422, "idempotency_key_reused")


def test_another_collection_is_another_request(shelf: Site) -> None:
    shelf.create("others")
    as_form(shelf, {"x": photo("x")}, KEY)

    answer = shelf.client.post(
        "/v1/collections/others/images",
        query_string={"id": "x", "metadata": '{"price": 1}'},
        data=photo("x"),
        content_type="image/jpeg",
        headers=KEY,
    )

    assert code(answer) == (422, "idempotency_key_reused")


def test_a_deletion_is_another_request_than_an_ingestion(shelf: Site) -> None:
    as_form(shelf, {"x": photo("x")}, KEY)

    answer = shelf.client.post(f"{IMAGES}/delete", json={"ids": ["x"]}, headers=KEY)

    assert code(answer) == (422, "idempotency_key_reused")
    assert "x" in shelf.ids()


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "\xe4"])
@pytest.mark.parametrize("path", [IMAGES, f"{IMAGES}/delete", "/v1/jobs/x/retry"])
def test_a_key_that_cannot_be_remembered_is_refused(
    shelf: Site, key: str, path: str
) -> None:
    before = shelf.state()

    answer = shelf.client.post(path, headers={"Idempotency-Key": key}, json={})

    assert code(answer) == (400, "idempotency_key_invalid")
    assert shelf.state() == before


# --- nothing is remembered of what was refused ---------------------------------------


@every_format
def test_a_request_of_which_all_is_refused_leaves_its_key_free(
    shelf: Site, send: Send
) -> None:
    before = shelf.state()
    bad = {"x": b"no picture", "y": b"neither"}

    refused = [code(send(shelf, bad, KEY)) for _ in range(2)]

    assert refused == [(422, "all_refused")] * 2
    assert shelf.state() == before
    assert job(send(shelf, {"x": photo("x")}, KEY))["total"] == 1


# --- longer than one part ------------------------------------------------------------


@pytest.fixture
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are recorded in parts of two, so that short ones have several."""
    monkeypatch.setattr(ingest, "PART", 2)


LONG = {name: photo(name) for name in "pqrst"}


@pytest.mark.usefixtures("short_parts")
@every_format
def test_a_long_request_again_is_the_same_job_and_counted_once(
    shelf: Site, send: Send
) -> None:
    first = send(shelf, LONG, KEY)
    before = shelf.state()

    again = send(shelf, LONG, KEY)

    assert job(again)["id"] == job(first)["id"]
    assert (job(again)["total"], job(again)["done"]) == (5, 5)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert shelf.state() == before


@pytest.mark.usefixtures("short_parts")
@pytest.mark.parametrize(
    "other",
    [
        {**LONG, "t": photo("x")},
        {name: LONG[name] for name in "pqrs"},
        {name: LONG[name] for name in "p"},
        {**LONG, "u": photo("u"), "v": photo("v")},
        {**LONG, "p": b"no picture"},
    ],
    ids=["last differs", "one less", "one part", "one part more", "first refused"],
)
def test_a_long_request_that_differs_is_refused_and_records_nothing(
    shelf: Site, other: Pictures
) -> None:
    as_lines(shelf, LONG, KEY)
    before, told = shelf.ids(), jobs(shelf)

    answer = as_lines(shelf, other, KEY)

    assert code(answer) == (422, "idempotency_key_reused")
    assert (shelf.ids(), jobs(shelf)) == (before, told)


class Interrupted:
    """A ledger that goes away after so many parts of a request."""

    def __init__(self, site: Site, monkeypatch: pytest.MonkeyPatch, parts: int) -> None:
        self.left = parts
        self.accept = site.parts.ledger.accept
        monkeypatch.setattr(site.parts.ledger, "accept", self)

    def __call__(self, *args: Any, **more: Any) -> Any:
        if self.left == 0 and more.get("idempotency") is not None:
            raise LedgerUnavailable("The database does not answer.")
        self.left -= 1
        return self.accept(*args, **more)


@pytest.mark.usefixtures("short_parts")
def test_a_long_request_that_broke_off_is_taken_in_whole_when_sent_again(
    shelf: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        Interrupted(shelf, patch, parts=2)
        broken = as_lines(shelf, LONG, KEY)

    again = as_lines(shelf, LONG, KEY)

    assert broken.status_code == 503
    assert job(again)["total"] == 5
    assert "Idempotency-Replayed" not in again.headers
    assert set(LONG) <= set(shelf.ids())
    # What was recorded of the first attempt has a job of its own, and an end.
    assert all(one.finished_at is not None for one in jobs(shelf))


@pytest.mark.usefixtures("short_parts")
def test_a_key_whose_request_is_still_being_read_is_refused_for_the_moment(
    shelf: Site,
) -> None:
    found = shelf.parts.ledger.collection(DEFAULT_TEAM, "things")
    key = Idempotency(KEY["Idempotency-Key"], None)
    shelf.parts.ledger.accept(found, [], more=True, idempotency=key)

    answers = [as_lines(shelf, files, KEY) for files in (LONG, {"x": photo("x")})]

    assert [code(answer) for answer in answers] == [(409, "idempotency_key_in_use")] * 2
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers)
    assert not set(LONG) & set(shelf.ids())


@pytest.mark.usefixtures("short_parts")
def test_the_request_whose_key_was_taken_over_is_told_to_repeat(
    shelf: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept = shelf.parts.ledger.accept

    def overtaken(*args: Any, **more: Any) -> Any:
        if more.get("job") is not None and more.get("more"):
            accept(args[0], [], job=more["job"])  # its job is closed by another
        return accept(*args, **more)

    monkeypatch.setattr(shelf.parts.ledger, "accept", overtaken)

    answer = as_lines(shelf, LONG, KEY)

    assert code(answer) == (409, "idempotency_key_in_use")


# --- deletions -----------------------------------------------------------------------


@pytest.mark.parametrize("body", [{"ids": ["a"]}, {"filter": {"category": "shoes"}}])
def test_a_deletion_again_is_the_same_job_and_deletes_nothing_new(
    shelf: Site, body: object
) -> None:
    first = shelf.client.post(f"{IMAGES}/delete", json=body, headers=KEY)
    shelf.ingest({"a": photo("a")}, {"category": "shoes"})

    again = shelf.client.post(f"{IMAGES}/delete", json=body, headers=KEY)

    assert job(again, 200)["id"] == job(first, 200)["id"]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "a" in shelf.ids()


@pytest.mark.parametrize(
    "other", [{"ids": ["b"]}, {"filter": {"category": "bags"}}, {"ids": []}]
)
def test_the_key_of_another_deletion_is_refused(shelf: Site, other: object) -> None:
    body = {"filter": {"category": "shoes"}}
    shelf.client.post(f"{IMAGES}/delete", json=body, headers=KEY)
    before = shelf.state()

    answer = shelf.client.post(f"{IMAGES}/delete", json=other, headers=KEY)

    assert code(answer) == (422, "idempotency_key_reused")
    assert shelf.state() == before
