from __future__ import annotations

import threading

import pytest

from api_site import Site
from lookalike.api.health import Probe
from lookalike.collections import DEFAULT_TEAM
from lookalike.errors import (
    EmbedderUnavailable,
    IndexUnavailable,
    LedgerUnavailable,
    StorageUnavailable,
    Unavailable,
)


def test_a_process_that_answers_is_alive(site: Site) -> None:
    answer = site.client.get("/healthz")

    assert answer.status_code == 200
    assert answer.json == {"status": "ok"}


def test_a_new_installation_is_ready(site: Site) -> None:
    answer = site.client.get("/readyz")

    assert answer.status_code == 200
    assert answer.json is not None
    assert answer.json["ready"] is True
    assert set(answer.json["parts"]) == {
        *("ledger", "storage", "queue", "embedder", "index")
    }
    assert answer.json["status"] == "ready"


def test_an_installation_in_use_is_ready(shelf: Site) -> None:
    before = shelf.state()

    assert shelf.client.get("/readyz").status_code == 200
    assert shelf.state() == before


def fails(
    monkeypatch: pytest.MonkeyPatch, part: object, method: str, error: Exception
) -> None:
    def fail(*args: object) -> None:
        raise error

    monkeypatch.setattr(part, method, fail)


@pytest.mark.parametrize(
    ("part", "method", "error", "works"),
    [
        ("embedder", "embed", EmbedderUnavailable("no network"), "ingests"),
        ("index", "search", IndexUnavailable("no index"), "ingests"),
        ("storage", "check", StorageUnavailable("no disk"), "searches"),
        ("queue", "check", Unavailable("no Redis"), "ingests searches"),
    ],
)
def test_what_goes_on_without_a_part_is_said_and_the_part_is_named(
    shelf: Site,
    monkeypatch: pytest.MonkeyPatch,
    part: str,
    method: str,
    error: Unavailable,
    works: str,
) -> None:
    broken = shelf.parts.blobs if part == "storage" else getattr(shelf.parts, part)
    fails(monkeypatch, broken, method, error)

    answer = shelf.client.get("/readyz")

    assert answer.status_code == 200
    assert answer.json is not None
    assert answer.json["status"] == "degraded"
    assert answer.json["ready"] is False
    assert [key for key in ("ingests", "searches") if answer.json[key]] == works.split()
    states = {name: state["ok"] for name, state in answer.json["parts"].items()}
    assert states == dict.fromkeys(states, True) | {part: False}
    assert answer.json["parts"][part]["detail"] == error.detail
    assert answer.json["parts"][part]["code"] == error.code


def test_without_the_ledger_nothing_works_and_it_alone_is_named(
    shelf: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = Probe(shelf.parts)
    probe.readiness(DEFAULT_TEAM)
    for method in ("check", "collections"):
        fails(monkeypatch, shelf.parts.ledger, method, LedgerUnavailable("no ledger"))

    answer = shelf.client.get("/readyz")

    assert answer.status_code == 503
    assert "Retry-After" in answer.headers
    assert answer.json is not None
    assert answer.json["code"] == "not_ready"
    assert answer.json["detail"] == "Not working: ledger."
    assert not answer.json["ingests"]
    assert not answer.json["searches"]


def test_who_asks_while_a_part_hangs_gets_what_was_known(shelf: Site) -> None:
    now = 0.0
    hangs, asked = threading.Event(), threading.Event()

    def check() -> None:
        asked.set()
        hangs.wait(10)

    probe = Probe(shelf.parts, clock=lambda: now)
    known = probe.readiness(DEFAULT_TEAM)
    shelf.queue.check = check  # type: ignore[method-assign]
    now = 2.0
    first = threading.Thread(target=probe.readiness, args=(DEFAULT_TEAM,))
    first.start()
    asked.wait(10)

    assert probe.readiness(DEFAULT_TEAM) is known
    hangs.set()
    first.join()


def test_many_who_ask_at_once_cost_one_try(
    shelf: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, tries = 0.0, 0

    def check() -> None:
        nonlocal tries
        tries += 1

    monkeypatch.setattr(shelf.parts.ledger, "check", check)
    probe = Probe(shelf.parts, clock=lambda: now)
    for moment in (0.0, 0.5, 0.99, 1.01, 1.5):
        now = moment
        assert probe.readiness(DEFAULT_TEAM).ready

    assert tries == 2
