"""Ingesting and searching while the server that embeds goes away and comes back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import main_job
from main_job import Api, counts, expected
from photographs import Photograph
from servers.processes import running_up
from servers.triton import TritonServer, missing, running_triton

pytestmark = [
    pytest.mark.photographs,
    pytest.mark.triton_server,
    pytest.mark.skipif(bool(missing()), reason=missing()),
]

TIMEOUT = 2.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TritonServer]:
    with running_triton(tmp_path) as running:
        yield running


@pytest.fixture
def api(tmp_path: Path, server: TritonServer) -> Iterator[Api]:
    settings = {
        "LOOKALIKE_TRITON_URL": server.url,
        "LOOKALIKE_TRITON_TIMEOUT_SECONDS": str(TIMEOUT),
        "LOOKALIKE_CHUNK_IMAGES": "16",
        "LOOKALIKE_RECONCILE_SECONDS": "0.5",
    }
    with running_up(tmp_path, settings) as (_, url), Api(url) as found:
        yield found


def test_nothing_is_lost_while_triton_is_away(
    api: Api, server: TritonServer, photos: list[Photograph]
) -> None:
    api.create("clothing")
    items = [{"id": photo.id} for photo in photos[:300]]
    job = api.post("clothing", [(p.id, p.read()) for p in photos[:300]], items)
    main_job.until(lambda: _done(api, job) > 0)

    server.kill()
    before = _done(api, job)
    refused = _search(api, photos[0].read())
    health = api.http.get("/readyz")
    server.start()
    job = api.wait(job)

    assert before < 300
    assert refused == 503
    assert health.json()["status"] == "degraded"
    assert health.json()["parts"]["embedder"]["code"] == "embedder_unavailable"
    assert counts(job) == expected(total=300, done=300)
    best = api.search("clothing", photos[7].read(), limit=1)["matches"][0]
    assert best["id"] == photos[7].id
    assert best["score"] > 0.999
    main_job.until(lambda: _status(api) == "ready")


def test_a_search_does_not_wait_for_a_hung_server(
    api: Api, server: TritonServer, photos: list[Photograph]
) -> None:
    api.create("clothing")
    api.ingest("clothing", photos[:5])
    server.freeze()
    started = time.monotonic()

    status = _search(api, photos[0].read())
    took = time.monotonic() - started
    server.thaw()

    assert status == 503
    assert took < TIMEOUT + 1
    main_job.until(lambda: _search(api, photos[0].read()) == 200)


def test_the_api_starts_without_triton(tmp_path: Path, server: TritonServer) -> None:
    server.kill()
    settings = {"LOOKALIKE_TRITON_URL": server.url}

    with running_up(tmp_path, settings) as (process, url), Api(url) as api:
        health = _status(api)
        said = process.printed
        server.start()

        main_job.until(lambda: _status(api) == "ready")

    assert health == "degraded"
    assert "started without the embedder" in said


def _status(api: Api) -> str:
    """What the server says of itself as a whole."""
    status: str = api.http.get("/readyz").json()["status"]
    return status


def _done(api: Api, job: main_job.Json) -> int:
    return counts(api.http.get(f"/v1/jobs/{job['id']}").json())["done"]


def _search(api: Api, data: bytes) -> int:
    """The status of a search."""
    answer = api.http.post(
        "/v1/collections/clothing/search",
        files={"image": ("query.jpg", data)},
        data={"request": json.dumps({"limit": 1})},
    )
    if answer.status_code == 503:
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.json()["retryable"]
    return answer.status_code
