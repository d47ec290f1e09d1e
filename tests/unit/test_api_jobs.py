from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

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
