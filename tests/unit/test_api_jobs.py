from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from api_site import Site, photo
from lookalike.api.jobs import HEARTBEAT_SECONDS, LONGEST_SECONDS, events
from lookalike.api.schemas import Job
from lookalike.errors import LedgerUnavailable


def test_a_job_tells_exact_counts(shelf: Site) -> None:
    files = {"a": photo("a"), "new": photo("x"), "broken": b"no picture"}

    made = shelf.ingest(files, {"category": "shoes", "price": ord("a")})

    told = shelf.client.get(f"/v1/jobs/{made['id']}").json
    assert told is not None
    assert told["collection"] == "things"
    counts = {name: told[name] for name in ("total", "done", "unchanged", "failed")}
    assert counts == {"total": 3, "done": 1, "unchanged": 1, "failed": 1}
    assert told["pending"] == told["superseded"] == 0


def test_jobs_are_listed_newest_first_page_by_page(shelf: Site) -> None:
    shelf.ingest({"x": photo("x")})
    shelf.ingest({"y": photo("y")})
    whole = shelf.client.get("/v1/jobs").json
    first = shelf.client.get("/v1/jobs?limit=2").json
    assert whole is not None
    assert first is not None

    second = shelf.client.get(f"/v1/jobs?limit=2&cursor={first['next_cursor']}").json

    assert second is not None
    assert first["jobs"] + second["jobs"] == whole["jobs"]
    assert len(whole["jobs"]) == 3
    assert second["next_cursor"] is None
    times = [job["created_at"] for job in whole["jobs"]]
    assert times == sorted(times, reverse=True)


def test_failures_are_listed_page_by_page(shelf: Site) -> None:
    files = {f"broken {n}": b"no picture" for n in range(3)}
    made = shelf.ingest({"x": photo("x"), **files})
    path = f"/v1/jobs/{made['id']}/failures"

    first = shelf.client.get(f"{path}?limit=2").json
    assert first is not None
    second = shelf.client.get(f"{path}?limit=2&cursor={first['next_cursor']}").json

    assert second is not None
    listed = first["failures"] + second["failures"]
    assert [one["position"] for one in listed] == [1, 2, 3]
    assert listed[0]["id"] == "broken 0"
    assert listed[0]["code"] == "image_unsupported"
    assert listed[0]["retryable"] is False
    assert second["next_cursor"] is None


@pytest.mark.parametrize("path", ["", "/failures", "/events"])
@pytest.mark.parametrize("name", ["nothing", "0", "%F0%9F%98%80"])
def test_an_unknown_job_is_not_found(site: Site, path: str, name: str) -> None:
    answer = site.client.get(f"/v1/jobs/{name}{path}")

    assert answer.status_code == 404
    assert answer.json is not None
    assert answer.json["code"] == "job_not_found"


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("limit=0", "limit_invalid"),
        ("limit=1001", "limit_invalid"),
        ("limit=many", "request_invalid"),
        ("before=x", "request_invalid"),
        ("cursor=_", "cursor_invalid"),
    ],
)
def test_a_page_of_jobs_that_cannot_be_is_refused(
    site: Site, query: str, code: str
) -> None:
    answer = site.client.get(f"/v1/jobs?{query}")

    assert answer.status_code == 400
    assert answer.json is not None
    assert answer.json["code"] == code


def test_a_cursor_of_another_list_is_refused(shelf: Site) -> None:
    made = shelf.ingest({"x": photo("x"), "broken": b""})

    answer = shelf.client.get(f"/v1/jobs/{made['id']}/failures?cursor=YQ")

    assert answer.status_code == 400


def test_the_events_of_a_finished_job_end_at_once(shelf: Site) -> None:
    made = shelf.ingest({"x": photo("x")})

    answer = shelf.client.get(f"/v1/jobs/{made['id']}/events")

    assert answer.mimetype == "text/event-stream"
    assert answer.headers["Cache-Control"] == "no-store"
    progress, end, rest = answer.text.split("\n\n")
    assert progress.startswith("event: progress\ndata: {")
    assert json.loads(end.removeprefix("event: end\ndata: "))["done"] == 1
    assert rest == ""


def test_the_places_for_streams_are_limited_and_given_back(shelf: Site) -> None:
    made = shelf.ingest({"x": photo("x")})
    path = f"/v1/jobs/{made['id']}/events"
    open_streams = [shelf.client.get(path, buffered=False) for _ in range(2)]

    refused = shelf.client.get(path)
    for stream in open_streams:
        stream.close()
    again = shelf.client.get(path)

    assert refused.status_code == 503
    assert refused.json is not None
    assert refused.json["code"] == "too_many_streams"
    assert again.status_code == 200


# --- trying again --------------------------------------------------------------------


def cancelled(site: Site) -> dict[str, Any]:
    """A job of two images that was cancelled before a worker began."""
    site.queue.is_held = True
    made = site.ingest({"x": photo("x"), "y": photo("y")}, {"category": "hats"})
    answer = site.client.post(f"/v1/jobs/{made['id']}/cancel")
    site.queue.is_held = False
    assert answer.status_code == 200
    assert answer.json is not None
    job: dict[str, Any] = answer.json["job"]
    return job


def test_a_cancelled_job_ends_at_once_with_its_reason(shelf: Site) -> None:
    job = cancelled(shelf)

    failures = shelf.client.get(f"/v1/jobs/{job['id']}/failures").json
    assert (job["total"], job["failed"], job["pending"]) == (2, 2, 0)
    assert job["finished_at"] is not None
    assert failures is not None
    assert {(one["code"], one["retryable"]) for one in failures["failures"]} == {
        ("cancelled", True)
    }


def test_cancelling_a_finished_job_changes_nothing(shelf: Site) -> None:
    made = shelf.ingest({"x": photo("x")})
    before = shelf.client.get(f"/v1/jobs/{made['id']}").json

    answer = shelf.client.post(f"/v1/jobs/{made['id']}/cancel")

    assert answer.status_code == 200
    assert answer.json is not None
    assert answer.json["job"] == before


def test_failures_that_can_succeed_are_tried_again_as_a_new_job(shelf: Site) -> None:
    old = cancelled(shelf)

    answer = shelf.client.post(f"/v1/jobs/{old['id']}/retry")

    assert answer.status_code == 202
    assert answer.json is not None
    new = answer.json["job"]
    assert new["id"] != old["id"]
    assert answer.headers["Location"] == f"/v1/jobs/{new['id']}"
    told = shelf.client.get(f"/v1/jobs/{new['id']}").json
    assert told is not None
    assert (told["total"], told["done"]) == (2, 2)
    assert shelf.client.get(f"/v1/jobs/{old['id']}").json == old
    assert {"x", "y"} <= set(shelf.ids())


def test_retrying_twice_with_one_key_makes_one_job(shelf: Site) -> None:
    old = cancelled(shelf)
    path, key = f"/v1/jobs/{old['id']}/retry", {"Idempotency-Key": "again"}

    first, again = [shelf.client.post(path, headers=key) for _ in range(2)]

    assert first.json is not None
    assert again.json is not None
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json["job"]["id"] == first.json["job"]["id"]
    assert again.headers["Idempotency-Replayed"] == "true"


def test_the_key_of_another_retry_is_refused(shelf: Site) -> None:
    jobs = [cancelled(shelf) for _ in range(2)]
    key = {"Idempotency-Key": "again"}
    # The newest first: the older one has nothing left to try.
    shelf.client.post(f"/v1/jobs/{jobs[1]['id']}/retry", headers=key)

    answer = shelf.client.post(f"/v1/jobs/{jobs[0]['id']}/retry", headers=key)

    assert answer.status_code == 422
    assert answer.json is not None
    assert answer.json["code"] == "idempotency_key_reused"


def test_failures_that_can_never_succeed_are_not_tried_again(shelf: Site) -> None:
    made = shelf.ingest({"x": photo("x"), "bad": b"no picture"})
    before = shelf.state()

    answer = shelf.client.post(f"/v1/jobs/{made['id']}/retry")

    assert answer.status_code == 409
    assert answer.json is not None
    assert answer.json["code"] == "nothing_to_retry"
    assert answer.json["retryable"] is False
    assert shelf.state() == before


def test_what_was_sent_again_meanwhile_is_not_tried_again(shelf: Site) -> None:
    old = cancelled(shelf)
    shelf.ingest({"x": photo("x"), "y": photo("y")}, {"category": "hats"})

    answer = shelf.client.post(f"/v1/jobs/{old['id']}/retry")

    assert answer.status_code == 409


def test_a_retry_waits_for_room_as_images_do(shelf: Site) -> None:
    old = cancelled(shelf)
    shelf.queue.is_held = True
    shelf.ingest({"z": photo("z")})
    shelf.limit(max_pending_images=1)
    path = f"/v1/jobs/{old['id']}/retry"

    refused = shelf.client.post(path)
    shelf.limit(max_pending_images=2, min_free_bytes=2**62)
    taken = shelf.client.post(path)

    assert refused.status_code == 429
    # Nothing new is stored, so a full disk is no reason.
    assert taken.status_code == 202


@pytest.mark.parametrize("what", ["retry", "cancel"])
def test_an_unknown_job_can_be_neither_retried_nor_cancelled(
    site: Site, what: str
) -> None:
    answer = site.client.post(f"/v1/jobs/nothing/{what}")

    assert answer.status_code == 404
    assert answer.json is not None
    assert answer.json["code"] == "job_not_found"


# --- the stream itself ---------------------------------------------------------------


class Time:
    """A clock that moves only when someone sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def read(self) -> float:
        return self.now


def job_after(done: int, total: int = 2) -> Job:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return Job(
        id="j",
        collection="c",
        total=total,
        done=done,
        unchanged=0,
        failed=0,
        superseded=0,
        pending=total - done,
        created_at=moment,
        finished_at=moment if done == total else None,
    )


def heard(read: Callable[[], Job], time: Time) -> list[str]:
    stream = events(read, sleep=time.sleep, clock=time.read)
    return [piece.partition("\n")[0] for piece in stream]


def test_only_changes_are_told() -> None:
    time = Time()

    told = heard(lambda: job_after(min(2, int(time.now // 3))), time)

    assert told == ["event: progress"] * 3 + ["event: end"]


def test_silence_is_broken_by_heartbeats() -> None:
    time = Time()
    quiet = 3.5 * HEARTBEAT_SECONDS

    told = heard(lambda: job_after(2 if time.now > quiet else 0), time)

    assert told == ["event: progress", *[": still here"] * 3, *FINISH]


FINISH = ["event: progress", "event: end"]


def test_a_stream_does_not_last_for_ever() -> None:
    time = Time()

    told = heard(lambda: job_after(0), time)

    assert "event: end" not in told
    assert time.now == pytest.approx(LONGEST_SECONDS, abs=1)


def test_a_ledger_that_fails_ends_the_stream_without_its_end() -> None:
    time = Time()

    def read() -> Job:
        if time.now > 1:
            raise LedgerUnavailable("The database does not answer.")
        return job_after(0)

    assert heard(read, time) == ["event: progress"]
