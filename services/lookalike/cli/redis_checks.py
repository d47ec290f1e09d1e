"""What can be checked of the Redis that rings for work."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from lookalike.cli.checks import PROBE_SECONDS, Check, Verdict, place, probe
from lookalike.config import Settings

SETTING = "LOOKALIKE_REDIS_URL"


def redis_checks(settings: Settings) -> Iterator[Check]:
    """Whether Redis answers and, if it does, whether a queue is safe in it."""
    url = settings.redis_url.get_secret_value()
    once = Retry(NoBackoff(), 0)  # by default, a wrong password is tried for seconds
    with redis.Redis.from_url(url, socket_timeout=PROBE_SECONDS, retry=once) as client:
        answer = probe("redis", SETTING, lambda: _version(client, url))
        yield answer
        if answer.verdict is Verdict.OK:
            yield _safety(client)


def _version(client: redis.Redis, url: str) -> str:
    return f"Redis {client.info('server')['redis_version']} at {place(url)}"


def _safety(client: redis.Redis) -> Check:
    """Whether messages outlive a crash and a full memory, and who may write them.

    No image is lost either way, because the ledger rings again; but work waits.
    """
    kept, policy = _setting(client, "appendonly"), _setting(client, "maxmemory-policy")
    limit = _setting(client, "maxmemory")
    problems = []
    if kept == "no":
        problems.append("`appendonly yes`, or a crash loses every message")
    if policy not in {"noeviction", ""} and limit != "0":
        problems.append(
            f"`maxmemory-policy noeviction`: with {policy}, a full Redis drops messages"
        )
    if _is_open(client):
        problems.append("`requirepass`: whoever reaches it can change the queue")
    found = f"AOF {kept or 'unknown'}, {policy or 'policy unknown'}"
    if not problems:
        return Check("redis settings", Verdict.OK, f"{found}, password")
    advice = f"Set {'; '.join(problems)}. infra/docker/redis.conf does."
    return Check("redis settings", Verdict.WARN, found, advice)


def _setting(client: redis.Redis, name: str) -> str:
    """A setting of the server; empty if it does not tell, as hosted ones do not."""
    try:
        return str(client.config_get(name).get(name, ""))
    except redis.ResponseError:
        return ""


def _is_open(client: redis.Redis) -> bool:
    """Whether it answers those who give no password."""
    known: dict[str, Any] = client.connection_pool.connection_kwargs
    stranger = {**known, "username": None, "password": None}
    connection = client.connection_pool.connection_class(**stranger)
    try:
        connection.connect()
        connection.send_command("PING")
        return bool(connection.read_response() in (b"PONG", "PONG"))
    except redis.RedisError:
        return False
    finally:
        connection.disconnect()
