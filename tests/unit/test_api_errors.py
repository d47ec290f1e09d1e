from __future__ import annotations

import inspect
import re

import pytest
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Response

from api_site import Site
from lookalike import errors
from lookalike.api.errors import RETRY_AFTER, STATUS, status_of
from lookalike.errors import LookalikeError

ALL = [
    kind
    for kind in vars(errors).values()
    if inspect.isclass(kind) and issubclass(kind, LookalikeError)
]


def test_every_error_has_a_status_of_its_own_or_of_a_listed_group() -> None:
    unlisted = {kind for kind in ALL if kind not in STATUS}

    assert {kind.__mro__[1] for kind in unlisted} <= {
        errors.NotFound,
        errors.Unavailable,
    }


def test_every_listed_error_exists() -> None:
    assert set(STATUS) <= set(ALL)


@pytest.mark.parametrize("kind", ALL)
def test_what_can_be_repeated_has_a_status_that_says_so(
    kind: type[LookalikeError],
) -> None:
    if kind.retryable:
        assert status_of(kind) in RETRY_AFTER
    else:
        assert status_of(kind) not in {429, 503, 507}


@pytest.mark.parametrize("kind", [one for one in ALL if one.retryable])
def test_what_can_be_repeated_says_when(site: Site, kind: type[LookalikeError]) -> None:
    def fail() -> str:
        raise kind("Not now.")

    site.app.add_url_rule("/fails", view_func=fail)

    answer = site.client.get("/fails")

    assert answer.status_code == status_of(kind)
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.json is not None
    assert answer.json["retryable"] is True


def test_what_cannot_be_repeated_says_no_time(site: Site) -> None:
    site.create()

    answer = site.client.post("/v1/collections", json={"name": "things"})

    assert answer.status_code == 409
    assert "Retry-After" not in answer.headers


def test_the_tree_in_the_docstring_is_the_tree_in_the_code() -> None:
    lines = (errors.__doc__ or "").splitlines()
    drawn = [re.split("[│├└─ ]+", line)[1] for line in lines if "──" in line]

    assert [kind.__name__ for kind in ALL[1:]] == drawn


def test_an_address_that_is_none_is_a_problem(site: Site) -> None:
    answer = site.client.get("/v1/nothing")

    assert answer.status_code == 404
    assert answer.json is not None
    assert answer.json["code"] == "address_not_found"


def test_a_wrong_method_says_which_are_allowed(site: Site) -> None:
    answer = site.client.put("/v1/collections")

    assert answer.status_code == 405
    assert answer.json is not None
    assert answer.json["code"] == "method_not_allowed"
    assert "POST" in answer.headers["Allow"]


def test_a_defect_tells_nothing_but_the_request(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> str:
        raise RuntimeError("secret")

    site.app.add_url_rule("/defect", view_func=fail)

    answer = site.client.get("/defect", headers={"X-Request-Id": "mine-1"})

    assert answer.status_code == 500
    assert answer.json is not None
    assert answer.json["code"] == "internal_error"
    assert "mine-1" in answer.json["detail"]
    assert "secret" not in answer.text
    assert "secret" in caplog.text


def test_a_part_that_is_down_says_when_to_come_back(site: Site) -> None:
    def fail() -> str:
        raise errors.LedgerUnavailable("The database does not answer.")

    site.app.add_url_rule("/down", view_func=fail)

    answer = site.client.get("/down")

    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.json is not None
    assert answer.json["code"] == "ledger_unavailable"
    assert answer.json["retryable"] is True


def test_the_id_of_a_request_is_echoed(site: Site) -> None:
    answer = site.client.get("/healthz", headers={"X-Request-Id": "trace.1-a"})

    assert answer.headers["X-Request-Id"] == "trace.1-a"


@pytest.mark.parametrize("given", ["", "a b", "x" * 200, "<script>"])
def test_an_id_that_could_do_harm_is_replaced(site: Site, given: str) -> None:
    answer = site.client.get("/healthz", headers={"X-Request-Id": given})

    assert answer.headers["X-Request-Id"] != given
    assert len(answer.headers["X-Request-Id"]) == 32


def test_a_page_of_another_site_cannot_write(shelf: Site) -> None:
    before = shelf.state()

    answer = shelf.client.delete(
        "/v1/collections/things", headers={"Sec-Fetch-Site": "cross-site"}
    )

    assert answer.status_code == 403
    assert shelf.state() == before


@pytest.mark.parametrize("text", ["", "{", '{"name": "x",}', "{'name': 'x'}", "\xff"])
def test_malformed_json_says_where(site: Site, text: str) -> None:
    before = site.state()

    answer = site.client.post(
        "/v1/collections", data=text.encode("latin-1"), content_type="application/json"
    )

    assert answer.status_code == 400
    assert answer.json is not None
    assert answer.json["code"] == "json_invalid"
    assert "line 1, column" in answer.json["detail"] or "byte" in answer.json["detail"]
    assert site.state() == before


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "x", "name": "y"}',
        '{"name": NaN}',
        '{"name": -Infinity}',
        '{"name": 1e999}',
        "[" * 100_000,
        '{"name": ' + "9" * 5_000 + "}",
    ],
)
def test_json_with_more_than_one_meaning_is_refused(site: Site, text: str) -> None:
    answer = site.client.post(
        "/v1/collections", data=text, content_type="application/json"
    )

    assert answer.status_code == 400
    assert answer.json is not None
    assert answer.json["code"] == "json_invalid"


def test_a_body_without_its_type_is_refused(site: Site) -> None:
    answer = site.client.post("/v1/collections", data='{"name": "x"}')

    assert answer.status_code == 415
    assert answer.json is not None
    assert answer.json["accepted"] == ["application/json"]


def test_a_json_body_over_its_limit_is_not_read(site: Site) -> None:
    before = site.state()

    answer = site.client.post(
        "/v1/collections",
        data=b'{"name": "' + b"x" * 2**20 + b'"}',
        content_type="application/json",
    )

    assert answer.status_code == 413
    assert answer.json is not None
    assert answer.json["code"] == "too_large"
    assert answer.json["limit"] == 2**20
    assert site.state() == before


class Endless:
    """A chunked body without an end that counts what was read of it."""

    def __init__(self) -> None:
        self.taken = 0

    def read(self, size: int = -1) -> bytes:
        assert size > 0
        self.taken += size
        return b" " * size

    def readinto(self, buffer: bytearray) -> int:
        buffer[:] = self.read(len(buffer))
        return len(buffer)


@pytest.mark.parametrize(
    ("path", "media", "most"),
    [
        ("/v1/collections", "application/json", 2**20),
        ("/v1/collections/things/images", "application/x-ndjson", 4 * 2**20),
        ("/v1/collections/things/images", "image/jpeg", 4 * 2**20),
        ("/v1/collections/things/search", "image/jpeg", 4 * 2**20),
    ],
)
def test_a_chunked_body_over_the_limit_is_cut_off(
    shelf: Site, path: str, media: str, most: int
) -> None:
    before = shelf.state()
    body = Endless()
    environ = EnvironBuilder(path, method="POST", content_type=media).get_environ()
    environ.pop("CONTENT_LENGTH", None)
    environ.update({"wsgi.input": body, "wsgi.input_terminated": True})

    answer = Response.from_app(shelf.app, environ)

    assert answer.status_code == 413
    assert body.taken < most + 2**20
    assert shelf.state() == before


@pytest.mark.parametrize("path", ["/v1/collections/a%00b", "/v1/jobs/%00"])
def test_an_address_with_nul_is_not_found(site: Site, path: str) -> None:
    assert site.client.get(path).status_code == 404
