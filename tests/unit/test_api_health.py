from __future__ import annotations

import pytest

from api_site import Site
from lookalike.api.health import Probe
from lookalike.collections import DEFAULT_TEAM
from lookalike.errors import EmbedderUnavailable, IndexUnavailable, LedgerUnavailable


def test_a_process_that_answers_is_alive(site: Site) -> None:
    answer = site.client.get("/healthz")

    assert answer.status_code == 200
    assert answer.json == {"status": "ok"}


def test_a_new_installation_is_ready(site: Site) -> None:
    answer = site.client.get("/readyz")

    assert answer.status_code == 200
    assert answer.json is not None
    assert answer.json["ready"] is True
    assert set(answer.json["parts"]) == {"ledger", "storage", "embedder", "index"}


def test_an_installation_in_use_is_ready(shelf: Site) -> None:
    before = shelf.state()

    assert shelf.client.get("/readyz").status_code == 200
    assert shelf.state() == before


@pytest.mark.parametrize(
    ("part", "method", "error"),
    [
        ("embedder", "embed", EmbedderUnavailable("no network")),
        ("index", "search", IndexUnavailable("no index")),
        ("ledger", "check", LedgerUnavailable("no ledger")),
    ],
)
def test_a_part_that_is_down_is_named(
    shelf: Site,
    monkeypatch: pytest.MonkeyPatch,
    part: str,
    method: str,
    error: Exception,
) -> None:
    def fail(*args: object) -> None:
        raise error

    monkeypatch.setattr(getattr(shelf.parts, part), method, fail)

    answer = shelf.client.get("/readyz")

    assert answer.status_code == 503
    assert "Retry-After" in answer.headers
    assert answer.json is not None
    assert answer.json["code"] == "not_ready"
    assert answer.json["ready"] is False
    states = {name: state["ok"] for name, state in answer.json["parts"].items()}
    assert states == dict.fromkeys(states, True) | {part: False}
    assert answer.json["parts"][part]["detail"] == str(error)
    assert part in answer.json["detail"]


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
