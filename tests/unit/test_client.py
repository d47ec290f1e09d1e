from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lookalike import client as client_module
from lookalike.answers import Answer, Example, Facet, Match, Query, SearchOptions
from lookalike.client import Client, Upload
from lookalike.collections import FieldType
from lookalike.errors import (
    BadFilter,
    BadInput,
    BadMetadata,
    BadRequest,
    CollectionExists,
    CollectionNotFound,
    ImageNotFound,
    LookalikeError,
    Overloaded,
    StorageFull,
    TooLarge,
    Unavailable,
)
from lookalike.interfaces import ImageId, ImageState, JobId
from scripted import Reply, Script, scripted_server

JOB = {
    "id": "j1",
    "collection": "things",
    "total": 2,
    "done": 1,
    "unchanged": 0,
    "failed": 1,
    "superseded": 0,
    "pending": 0,
    "created_at": "2026-01-31T12:00:00.000000Z",
    "finished_at": "2026-01-31T12:00:01.000000Z",
}
BUSY = Reply(503, {"detail": "Busy.", "code": "ledger_unavailable"})


@pytest.fixture
def server() -> Iterator[Script]:
    with scripted_server() as script:
        yield script


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def client(server: Script, pauses: list[float]) -> Iterator[Client]:
    with Client(server.url, patience=60, sleep=pauses.append) as made:
        yield made


def refusal(status: int, code: str, **extra: object) -> Reply:
    return Reply(status, {"detail": "No.", "code": code, "status": status, **extra})


def test_a_collection_comes_with_its_fields_and_counts(
    server: Script, client: Client
) -> None:
    document = {
        "name": "things",
        "backbone": "resnet18",
        "fields": {"price": {"type": "float"}},
        "counts": {"indexed": 3, "pending": 0, "failed": 1},
    }
    server.then(Reply(200, document))

    found = client.collection("things")

    assert found.fields == {"price": FieldType.FLOAT}
    assert found.counts[ImageState.INDEXED] == 3
    assert server.requests[0].path == "/v1/collections/things"


def test_creating_a_collection_declares_its_fields(
    server: Script, client: Client
) -> None:
    server.then(Reply(201))

    client.create_collection("things", {"tags": FieldType.STRINGS})

    assert server.requests[0].json() == {
        "name": "things",
        "fields": {"tags": {"type": "string[]"}},
    }


def test_images_are_sent_as_one_form_with_an_item_each(
    server: Script, client: Client
) -> None:
    server.then(Reply(202, {"job": JOB}))

    job = client.ingest(
        "things", [Upload(b"first", "a/1.jpg", {"price": 2}), Upload(b"second")]
    )

    body = server.requests[0].body
    assert job.id == "j1"
    assert job.pending == 0
    assert body.count(b'name="image"; filename=') == 2
    assert b'[{"id": "a/1.jpg", "metadata": {"price": 2}}, {}]' in body


def test_a_busy_server_is_asked_again_until_it_answers(
    server: Script, client: Client, pauses: list[float]
) -> None:
    server.then(BUSY, BUSY, Reply(200, JOB))

    job = client.job(JobId("j1"))

    assert job.done == 1
    assert len(server.requests) == 3
    assert pauses[0] < client_module.FIRST_PAUSE
    assert 0 < pauses[0] < pauses[1] * 2


def test_the_pause_is_at_least_what_the_server_asks_for(
    server: Script, client: Client, pauses: list[float]
) -> None:
    server.then(Reply(429, {"detail": "Slow down."}, {"Retry-After": "7"}))
    server.then(Reply(200, JOB))

    client.job(JobId("j1"))

    # On top of it, so that not all who were told the same come at once.
    assert 7 < pauses[0] < 7 + client_module.FIRST_PAUSE


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (429, "backlog_full"),
        (503, "ledger_unavailable"),
        (507, "storage_full"),
        (409, "idempotency_key_in_use"),
        (502, "http_error"),
        (504, "http_error"),
    ],
)
def test_what_can_succeed_later_is_tried_again(
    server: Script, client: Client, status: int, code: str
) -> None:
    server.then(refusal(status, code), Reply(200, JOB))

    assert client.job(JobId("j1")).id == "j1"
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("status", "code"),
    [(409, "nothing_to_retry"), (422, "idempotency_key_reused"), (400, "bad_request")],
)
def test_what_cannot_succeed_later_is_not_tried_again(
    server: Script, client: Client, status: int, code: str
) -> None:
    server.then(refusal(status, code))

    with pytest.raises(LookalikeError):
        client.retry(JobId("j1"))

    assert len(server.requests) == 1


def test_a_server_at_its_limit_is_waited_for_longer(server: Script) -> None:
    pauses: list[float] = []
    said: list[tuple[str, float]] = []
    busy = Reply(429, {"detail": "Full.", "code": "backlog_full"}, {"Retry-After": "9"})
    server.then(busy, busy, Reply(202, {"job": JOB}))

    with Client(
        server.url,
        busy_patience=100,
        waiting=lambda refused, seconds: said.append((refused.detail, seconds)),
        sleep=pauses.append,
    ) as client:
        client.ingest("things", [Upload(b"x")])

    assert [detail for detail, _ in said] == ["Full."] * 2
    assert [seconds for _, seconds in said] == pauses


def test_a_server_at_its_limit_is_not_waited_for_for_ever(server: Script) -> None:
    server.then(Reply(429, {"detail": "Full.", "code": "backlog_full"}))

    with (
        Client(server.url, busy_patience=0) as client,
        pytest.raises(Overloaded, match=r"Full\."),
    ):
        client.ingest("things", [Upload(b"x")])


def test_being_busy_is_no_reason_to_wait_for_a_server_that_is_down(
    server: Script,
) -> None:
    server.then(Reply(507, {"detail": "Full.", "code": "storage_full"}))

    with (
        Client(server.url, busy_patience=100) as client,
        pytest.raises(StorageFull),
    ):
        client.ingest("things", [Upload(b"x")])

    assert len(server.requests) == 1


# --- what makes a job is sent with a key ---------------------------------------------


def keys(server: Script) -> list[str]:
    return [request.headers["Idempotency-Key"] for request in server.requests]


def test_an_upload_that_is_sent_again_keeps_its_key(
    server: Script, client: Client
) -> None:
    server.then(BUSY, BUSY, Reply(202, {"job": JOB}))

    client.ingest("things", [Upload(b"x")])

    assert len(set(keys(server))) == 1
    assert len(keys(server)) == 3


def test_an_upload_whose_connection_broke_is_sent_again_with_its_key(
    server: Script, client: Client
) -> None:
    server.then(Reply(0), Reply(202, {"job": JOB}))

    client.ingest("things", [Upload(b"x")])

    assert len(keys(server)) == 2
    assert len(set(keys(server))) == 1


def test_another_upload_has_another_key(server: Script, client: Client) -> None:
    server.then(Reply(202, {"job": JOB}), Reply(202, {"job": JOB}))

    for _ in range(2):
        client.ingest("things", [Upload(b"x")])

    assert len(set(keys(server))) == 2


def test_a_key_of_ones_own_is_sent(server: Script, client: Client) -> None:
    server.then(Reply(202, {"job": JOB}))

    client.ingest("things", [Upload(b"x")], key="mine")

    assert keys(server) == ["mine"]


def test_retry_cancel_and_deletions_are_asked_for(
    server: Script, client: Client
) -> None:
    server.then(*[Reply(200, {"job": JOB})] * 4)

    client.retry(JobId("j/1"))
    client.cancel(JobId("j1"))
    client.delete_images("things", filter={"price": 1})
    client.delete_images("things", ids=["a"])

    assert [(one.method, one.path) for one in server.requests] == [
        ("POST", "/v1/jobs/j%2F1/retry"),
        ("POST", "/v1/jobs/j1/cancel"),
        ("POST", "/v1/collections/things/images/delete"),
        ("POST", "/v1/collections/things/images/delete"),
    ]
    assert server.requests[2].json() == {"filter": {"price": 1}}
    assert server.requests[3].json() == {"ids": ["a"]}
    assert ["Idempotency-Key" in one.headers for one in server.requests] == [
        *(True, False, True, True)
    ]


def test_jobs_are_scrolled_page_by_page(server: Script, client: Client) -> None:
    server.then(
        Reply(200, {"jobs": [JOB], "next_cursor": "c"}),
        Reply(200, {"jobs": [JOB | {"id": "j0"}], "next_cursor": None}),
    )

    assert [job.id for job in client.jobs()] == ["j1", "j0"]


def test_a_pause_longer_than_the_patience_is_not_waited_for(server: Script) -> None:
    server.then(Reply(503, {"detail": "Later."}, {"Retry-After": "100"}))

    with (
        Client(server.url, patience=5) as client,
        pytest.raises(Unavailable, match=r"Later\."),
    ):
        client.job(JobId("j1"))

    assert len(server.requests) == 1


def test_an_upload_that_was_refused_for_a_moment_is_sent_again_whole(
    server: Script, client: Client
) -> None:
    server.then(BUSY, Reply(202, {"job": JOB}))

    client.ingest("things", [Upload(b"the bytes", "a")])

    assert all(b"the bytes" in request.body for request in server.requests)
    assert len(server.requests) == 2


def test_a_caller_who_stops_is_not_kept_waiting(server: Script) -> None:
    server.then(BUSY)

    with Client(server.url, patience=60) as client:
        client.stop()
        with pytest.raises(Unavailable, match=r"Busy\."):
            client.job(JobId("j1"))

    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (404, "collection_not_found", CollectionNotFound),
        (409, "collection_exists", CollectionExists),
        (400, "filter_invalid", BadFilter),
        (413, "too_many_images", TooLarge),
        (422, "id_invalid", BadInput),
        (422, "metadata_wrong_type", BadMetadata),
        (500, "internal_error", LookalikeError),
    ],
)
def test_a_problem_is_raised_as_the_error_that_fits(
    server: Script,
    client: Client,
    status: int,
    code: str,
    expected: type[LookalikeError],
) -> None:
    server.then(refusal(status, code, nearest="price"))

    with pytest.raises(expected) as caught:
        client.collection("things")

    assert type(caught.value) is expected
    assert caught.value.detail == "No."
    assert caught.value.code == code
    assert caught.value.extra["nearest"] == "price"


def test_what_is_not_lookalike_is_said_so(server: Script, client: Client) -> None:
    server.then(Reply(200, b"<html>"), Reply(404, b"<html>"), Reply(200, {"a": 1}))

    with pytest.raises(LookalikeError, match="not a Lookalike server"):
        client.collection("things")
    with pytest.raises(LookalikeError, match="not as Lookalike does"):
        client.collection("things")
    with pytest.raises(LookalikeError, match="not a Lookalike server"):
        client.parts()


def test_no_server_at_all_names_the_way_to_start_one() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"

        with Client(url) as client, pytest.raises(Unavailable) as caught:
            client.collections()

    assert caught.value.code == "server_unreachable"
    assert "lookalike up" in caught.value.detail


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://localhost", ""])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(BadRequest, match="not an address"), Client(url) as client:
        client.collections()


def test_images_are_scrolled_page_by_page(server: Script, client: Client) -> None:
    image = {"digest": "d", "state": "indexed", "metadata": {}}
    server.then(
        Reply(200, {"images": [{"id": "a", **image}], "next_cursor": "c=="}),
        Reply(200, {"images": [{"id": "b", **image}], "next_cursor": None}),
    )

    found = list(client.images("things"))

    assert [one.id for one in found] == ["a", "b"]
    assert server.requests[1].path.endswith("cursor=c%3D%3D")


def test_failures_come_with_their_reason(server: Script, client: Client) -> None:
    entry = {"position": 1, "id": None, "code": "image_empty", "detail": "Empty."}
    server.then(Reply(200, {"failures": [entry], "next_cursor": None}))

    (failure,) = client.failures(JobId("j1"))

    assert (failure.position, failure.image_id) == (1, None)
    assert (failure.code, failure.retryable) == ("image_empty", False)


def test_waiting_ends_when_the_job_has_finished(server: Script, client: Client) -> None:
    server.then(Reply(200, JOB | {"finished_at": None}), Reply(200, JOB))

    job = client.wait(JobId("j1"))

    assert job.finished_at == datetime(2026, 1, 31, 12, 0, 1, tzinfo=UTC)


def test_waiting_does_not_last_for_ever(server: Script, client: Client) -> None:
    server.then(Reply(200, JOB | {"finished_at": None}))

    with pytest.raises(TimeoutError):
        client.wait(JobId("j1"), timeout=-1)


def test_a_search_asks_for_what_the_options_say(server: Script, client: Client) -> None:
    match = {"id": "a", "score": 0.5, "metadata": {"price": 1.5}}
    answer = {"matches": [match], "complete": True, "took_ms": {"total": 1.0}}
    server.then(*[Reply(200, answer)] * 3)
    options = SearchOptions({"price": {"$lt": 2}}, 3, 0.1)

    by_image = client.search_by_image("things", b"\xff\xd8", options)
    client.search_by_id("things", "a")
    client.search_by_vector("things", [1.0, 0.0])

    assert by_image.matches[0].metadata == {"price": 1.5}
    assert [request.json() for request in server.requests] == [
        {
            "query": {"image": "/9g="},
            "filter": {"price": {"$lt": 2}},
            "limit": 3,
            "min_score": 0.1,
        },
        {"query": {"id": "a"}, "limit": 10},
        {"query": {"vector": [1.0, 0.0]}, "limit": 10},
    ]


def test_several_examples_go_as_they_are(server: Script, client: Client) -> None:
    server.then(Reply(200, found("a")))
    query = Query(
        [Example(id="a", weight=2.0), Example(image=b"\xff\xd8", crop=[0, 0, 0.5, 1])],
        [Example(vector=[0.5, 1.0])],
        strategy="best",
    )
    options = SearchOptions(group_by="price", fields=["price"], explain=True)

    client.search("things", query, options)

    assert server.requests[0].json() == {
        "query": {
            "positive": [
                {"id": "a", "weight": 2.0},
                {"image": "/9g=", "crop": [0, 0, 0.5, 1]},
            ],
            "negative": [{"vector": [0.5, 1.0]}],
            "strategy": "best",
        },
        "limit": 10,
        "group_by": "price",
        "fields": ["price"],
        "explain": True,
    }


def test_what_a_match_brings_is_kept(server: Script, client: Client) -> None:
    answer = found("a") | {
        "incomplete_because": "groups",
        "facets": {
            "price": {
                "values": [{"value": 1.5, "count": 3}],
                "distinct": 9,
                "missing": 2,
            }
        },
    }
    more = {
        "relevance": {"percentile": 0.9, "same_label": None},
        "group": "shoes",
        "duplicates": ["b"],
    }
    answer["matches"][0] |= more
    server.then(Reply(200, answer))

    told = client.search_by_id("things", "x")

    assert told.matches == [Match(ImageId("a"), 0.5, {}, 0.9, "shoes", (ImageId("b"),))]
    assert told.because == "groups"
    assert told.facets == {"price": Facet([(1.5, 3)], 9, 2)}


def test_pages_follow_the_cursor_without_the_query(
    server: Script, client: Client
) -> None:
    pages = [found("a", cursor="c1"), found("b", cursor="c2"), found("c")]
    server.then(*[Reply(200, page) for page in pages])
    options = SearchOptions(limit=1, min_score=0.1, facets=("price",))

    told = client.search_pages("things", Query([Example(id="x")]), options)

    assert [match.id for page in told for match in page.matches] == ["a", "b", "c"]
    assert [request.json() for request in server.requests[1:]] == [
        {"limit": 1, "min_score": 0.1, "cursor": "c1"},
        {"limit": 1, "min_score": 0.1, "cursor": "c2"},
    ]


def test_each_search_of_many_has_an_answer_or_an_error(
    server: Script, client: Client
) -> None:
    problem = {"status": 404, "code": "image_not_found", "detail": "There is none."}
    answers = [
        {"answer": found("a"), "error": None},
        {"answer": None, "error": problem},
    ]
    server.then(Reply(200, {"answers": answers, "took_ms": {}}))
    query = Query([Example(id="x")])

    first, second = client.search_many(
        "things", [(query, SearchOptions(limit=1)), (query, SearchOptions())]
    )

    assert isinstance(first, Answer)
    assert first.matches[0].id == "a"
    assert isinstance(second, ImageNotFound)
    assert server.requests[0].json() == {
        "searches": [
            {"query": {"id": "x"}, "limit": 1},
            {"query": {"id": "x"}, "limit": 10},
        ]
    }


def test_values_are_counted(server: Script, client: Client) -> None:
    counted = {"values": [{"value": "a", "count": 2}], "distinct": 1, "missing": 0}
    server.then(Reply(200, {"images": 2, "facets": {"kind": counted}}))

    told = client.facets("things", ["kind"], {"price": 1}, limit=5)

    assert told == {"kind": Facet([("a", 2)], 1, 0)}
    assert server.requests[0].json() == {
        "fields": ["kind"],
        "filter": {"price": 1},
        "limit": 5,
    }


def found(name: str, cursor: str | None = None) -> dict[str, Any]:
    match = {"id": name, "score": 0.5, "metadata": {}}
    return {
        "matches": [match],
        "complete": cursor is not None,
        "next_cursor": cursor,
        "took_ms": {"total": 1.0},
    }


@pytest.mark.parametrize(
    ("header", "expected"),
    [(None, 0), ("3", 3), ("-1", 0), ("soon", 0), ("nan", 0), ("9999", 120)],
)
def test_retry_after_is_read_in_seconds(header: str | None, expected: float) -> None:
    assert client_module.retry_after(header) == expected


def test_retry_after_is_read_as_a_date() -> None:
    later = datetime.now(UTC) + timedelta(seconds=50)
    header = later.strftime("%a, %d %b %Y %H:%M:%S GMT")

    assert client_module.retry_after(header) == pytest.approx(50, abs=3)
