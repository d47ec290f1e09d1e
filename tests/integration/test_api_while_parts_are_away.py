"""What the API answers while a real Redis or a real Milvus server is away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from flask.testing import FlaskClient

import pictures
from api_site import FIELDS, Site, open_site, photo
from lookalike.api import create_app
from lookalike.backends.celery import CeleryQueue
from lookalike.backends.milvus import MilvusIndex
from servers.milvus import ServerMissing, running_milvus
from servers.redis import redis_binary, running_redis

ACCEPT_SECONDS = 1.0
OPEN_SECONDS = 0.1


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with open_site(tmp_path) as opened:
        yield opened


def eventually(is_true: Callable[[], bool], within: float = 20) -> bool:
    deadline = time.monotonic() + within
    while not is_true():
        if time.monotonic() > deadline:
            return False
        threading.Event().wait(0.05)
    return True


def slowest_accept(client: FlaskClient, first: int) -> float:
    """Seconds that the slowest of ten images took to be accepted."""
    slowest = 0.0
    for number in range(first, first + 10):
        started = time.monotonic()
        answer = client.post(
            f"/v1/collections/things/images?id={number}",
            data=pictures.jpeg(number, 64, 48),
            content_type="image/jpeg",
        )
        slowest = max(slowest, time.monotonic() - started)
        assert answer.status_code == 202
    return slowest


@pytest.mark.redis_server
@pytest.mark.skipif(redis_binary() is None, reason="no redis-server")
def test_images_are_accepted_at_once_while_redis_hangs_and_while_it_is_down(
    site: Site, tmp_path: Path
) -> None:
    site.create()
    with running_redis(tmp_path) as redis:
        queue = CeleryQueue(redis.url, chunk_images=4, retry_seconds=0.5)
        client = create_app(replace(site.parts, queue=queue)).test_client()
        assert client.get("/readyz").json["status"] == "ready"  # type: ignore[index]

        redis.freeze()
        hung = slowest_accept(client, 0)
        hung_state = state(client)
        redis.thaw()
        redis.kill()
        down = slowest_accept(client, 10)
        down_state = state(client)
        redis.start()

        assert max(hung, down) < ACCEPT_SECONDS
        degraded = ("degraded", True, "queue_unavailable")
        assert hung_state == down_state == degraded
        assert eventually(lambda: state(client) == ("ready", True, None))
        queue.close()


def state(client: FlaskClient) -> tuple[str, bool, str | None]:
    """What /readyz says once it has looked anew."""
    threading.Event().wait(1.1)
    answer = client.get("/readyz").json
    assert answer is not None
    return answer["status"], answer["ingests"], answer["parts"]["queue"]["code"]


@pytest.mark.milvus_server
@pytest.mark.timeout(600)
def test_searches_answer_503_at_once_and_ingestion_goes_on_while_milvus_hangs(
    site: Site,
) -> None:
    try:
        with running_milvus() as server:
            parts = replace(
                site.parts, index=MilvusIndex(server.uri, consistency="Strong")
            )
            client = create_app(parts).test_client()
            made = client.post(
                "/v1/collections", json={"name": "things", "fields": FIELDS}
            )
            assert made.status_code == 201
            site.queue.is_held = True
            assert search(client)[0] == 200

            server.freeze()
            eventually(lambda: not server.is_healthy)
            eventually(lambda: search(client)[2] < OPEN_SECONDS)
            answers = [search(client) for _ in range(50)]
            accepted = slowest_accept(client, 0)
            alive = client.get("/healthz").status_code
            health = client.get("/readyz").json
            server.thaw()

            assert {answer[:2] for answer in answers} == {(503, "index_unavailable")}
            assert max(seconds for _, _, seconds in answers) < OPEN_SECONDS
            assert accepted < ACCEPT_SECONDS
            assert alive == 200
            assert health is not None
            assert health["status"] == "degraded"
            assert health["ingests"]
            assert not health["searches"]
            assert health["parts"]["index"]["code"] == "index_unavailable"
            assert eventually(lambda: search(client)[0] == 200)
            parts.index.close()
    except ServerMissing as reason:
        pytest.skip(f"no Milvus server: {reason}")


def search(client: FlaskClient) -> tuple[int, str | None, float]:
    """Status, code and seconds of a search by picture."""
    started = time.monotonic()
    answer = client.post(
        "/v1/collections/things/search",
        data=photo("a"),
        content_type="image/jpeg",
    )
    taken = time.monotonic() - started
    code = answer.json.get("code") if answer.json else None
    return answer.status_code, code, taken
