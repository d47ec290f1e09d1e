from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from werkzeug.test import EnvironBuilder, TestResponse
from werkzeug.wrappers import Response

from api_site import Site, open_site, photo
from lookalike.client import Client, Upload
from lookalike.errors import Overloaded, StorageFull
from lookalike.webserver import WebServer, listen

IMAGES = "/v1/collections/things/images"
MORE_THAN_ANY_DISK = 2**62


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Site]:
    """A site at its limit: two images wait, and no more may."""
    with open_site(tmp_path, max_pending_images_per_team=2) as site:
        site.create()
        site.ingest({"done": photo("d")}, {"category": "shoes"})
        site.queue.is_held = True
        site.ingest({"a": photo("a"), "b": photo("b")}, {"category": "shoes"})
        yield site


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Site]:
    """A site whose disk is nearly full."""
    with open_site(tmp_path) as site:
        site.create()
        site.ingest({"done": photo("d")}, {"category": "shoes"})
        site.limit(min_free_bytes=MORE_THAN_ANY_DISK)
        yield site


def code(answer: TestResponse) -> tuple[int, str]:
    assert answer.json is not None
    return answer.status_code, answer.json["code"]


class Unread:
    """A body that must not be read."""

    def __init__(self) -> None:
        self.taken = 0

    def read(self, size: int = -1) -> bytes:
        self.taken += size
        return b"x" * size

    def readinto(self, buffer: bytearray) -> int:
        buffer[:] = self.read(len(buffer))
        return len(buffer)


@pytest.mark.parametrize(
    "media",
    [
        "multipart/form-data; boundary=x",
        "application/x-ndjson",
        "application/json",
        "image/jpeg",
    ],
)
@pytest.mark.parametrize(
    ("limit", "status"),
    [
        ({"max_pending_images_per_team": 1}, 429),
        ({"max_pending_images": 1}, 429),
        ({"min_free_bytes": MORE_THAN_ANY_DISK}, 507),
    ],
    ids=["team", "all", "disk"],
)
def test_without_room_the_body_is_not_read(
    tmp_path: Path, media: str, limit: dict[str, int], status: int
) -> None:
    with open_site(tmp_path) as site:
        site.create()
        site.queue.is_held = True
        site.ingest({"a": photo("a")})
        site.limit(**limit)
        before = site.state()
        body = Unread()
        environ = EnvironBuilder(IMAGES, method="POST", content_type=media)
        asked = environ.get_environ()
        asked.pop("CONTENT_LENGTH", None)
        asked.update({"wsgi.input": body, "wsgi.input_terminated": True})

        answer = Response.from_app(site.app, asked)

        assert answer.status_code == status
        assert int(answer.headers["Retry-After"]) > 0
        assert body.taken == 0
        assert site.state() == before


def test_a_backlog_at_its_limit_is_told_as_such(busy: Site) -> None:
    answer = busy.form([photo("x")])

    assert code(answer) == (429, "backlog_full")
    assert answer.json is not None
    assert (answer.json["pending"], answer.json["limit"]) == (2, 2)
    assert answer.json["retryable"] is True


def test_images_are_taken_again_when_the_backlog_has_shrunk(busy: Site) -> None:
    refused = busy.form([photo("x")])
    busy.queue.is_held = False
    busy.parts.ledger.recover()
    busy.queue.ring(busy.parts.ledger.due(10))

    answer = busy.form([photo("x")])

    assert refused.status_code == 429
    assert answer.status_code == 202


@pytest.mark.parametrize("name", ["busy", "full"])
def test_everything_else_goes_on_without_room(
    name: str, request: pytest.FixtureRequest
) -> None:
    site: Site = request.getfixturevalue(name)
    one = f"{IMAGES}/done"

    found = site.search(query={"id": "done"})
    changed = site.client.patch(one, json={"metadata": {"price": 2}})
    listed = site.client.get(IMAGES)
    deleted = site.client.post(
        f"{IMAGES}/delete", json={"filter": {"category": "shoes"}}
    )

    answers = [found, changed, listed, deleted]
    assert [answer.status_code for answer in answers] == [200] * 4
    assert site.ids() == []


def test_a_request_may_go_over_the_limit_by_its_own_images(tmp_path: Path) -> None:
    with open_site(tmp_path, max_pending_images_per_team=2) as site:
        site.create()
        site.queue.is_held = True

        answer = site.form([photo(name) for name in "abcde"])

        assert answer.status_code == 202


@pytest.mark.parametrize("step", ["stage", "keep"])
@pytest.mark.parametrize("format", ["form", "raw"])
def test_a_disk_that_gets_full_meanwhile_is_507_and_records_nothing(
    shelf: Site, monkeypatch: pytest.MonkeyPatch, step: str, format: str
) -> None:
    def fail(given: object) -> None:
        raise StorageFull("The disk of the originals is full.")

    before = shelf.state()
    monkeypatch.setattr(shelf.parts.blobs, step, fail)

    if format == "form":
        answer = shelf.client.post(
            IMAGES, data={"image": (io.BytesIO(photo("x")), "x.jpg")}
        )
    else:
        answer = shelf.client.post(IMAGES, data=photo("x"), content_type="image/jpeg")

    assert code(answer) == (507, "storage_full")
    assert int(answer.headers["Retry-After"]) > 0
    assert shelf.state() == before


def test_a_full_disk_keeps_no_one_from_seeing_a_picture(
    shelf: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object) -> None:
        raise StorageFull("The disk of the originals is full.")

    monkeypatch.setattr(shelf.parts.blobs, "cache", fail)

    answer = shelf.client.get(f"{IMAGES}/a/thumbnail")

    assert answer.status_code == 200
    assert answer.mimetype == "image/jpeg"


def test_a_caller_in_the_middle_of_a_large_upload_gets_the_answer(busy: Site) -> None:
    with listen("127.0.0.1", 0, exactly=True) as listener:
        server = WebServer(listener, busy.app, threads=4)
        server.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        uploads = [Upload(bytes(2**20), str(number)) for number in range(20)]

        with Client(url) as client, pytest.raises(Overloaded) as caught:
            client.ingest("things", uploads)

        server.stop()
    assert caught.value.extra["limit"] == 2
