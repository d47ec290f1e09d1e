from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import pytest
from pydantic import SecretStr
from rich.console import Console

from api_site import Site, open_site, photo
from lookalike.bootstrap import Backends
from lookalike.cli.verify import conclusion, show, verify_all
from lookalike.collections import DEFAULT_TEAM, Collection
from lookalike.config import Settings
from lookalike.errors import CollectionNotFound, Misconfigured
from lookalike.interfaces import ImageId, ImageKey
from lookalike.verify import Report

BROKEN = Report(checked=9, missing=3, ghosts=1)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with open_site(tmp_path / "data", milvus_uri="http://127.0.0.1:1") as made:
        made.create()
        made.ingest({"a": photo("a"), "b": photo("b")})
        yield made


class KeptOpen(Backends):
    """The same parts, which a command does not close."""

    def __init__(self, parts: Backends) -> None:
        super().__init__(
            **{each.name: getattr(parts, each.name) for each in fields(parts)}
        )

    def close(self) -> None:
        pass


def collection(site: Site) -> Collection:
    return site.parts.ledger.collection(DEFAULT_TEAM, "things")


def lose(site: Site) -> ImageKey:
    """Take one row out of the index."""
    mine = collection(site)
    ((key, _), *_) = site.parts.index.rows(mine, None, 1)
    site.parts.index.delete(mine, [key])
    return key


def verified(
    site: Site, name: str | None = None, *, repair: bool = False
) -> tuple[dict[str, Report], bool]:
    """What the command finds with the parts of a site, which stay open."""

    return verify_all(
        site.parts.settings, name, repair=repair, connect=lambda _: KeptOpen(site.parts)
    )


def test_every_collection_is_verified_unless_one_is_named(site: Site) -> None:
    site.create("more")

    everything, _ = verified(site)
    one, _ = verified(site, "more")

    assert everything == {"more": Report(), "things": Report(checked=2)}
    assert one == {"more": Report()}


def test_an_unknown_collection_is_refused(site: Site) -> None:
    with pytest.raises(CollectionNotFound, match="unknown"):
        verified(site, "unknown")


def test_repairs_are_rung_for_where_workers_are_others(site: Site) -> None:
    key = lose(site)

    found, _ = verified(site)
    repaired, waits = verified(site, repair=True)

    assert found == {"things": Report(checked=2, missing=1)}
    assert repaired == {"things": Report(checked=2, missing=1, repaired=1)}
    assert not waits
    assert key in dict(site.parts.index.rows(collection(site), None, 9))


def test_repairs_that_wait_for_a_worker_are_told(site: Site) -> None:
    lose(site)
    site.queue.is_held = True

    reports, waits = verified(site, repair=True)

    assert reports["things"].remaining == 0
    assert waits


def test_repairs_are_done_here_where_there_is_no_other_process(site: Site) -> None:
    key = lose(site)
    site.queue.is_held = True
    embedded = site.parts.settings.model_copy(update={"milvus_uri": ""})
    alone = KeptOpen(replace(site.parts, settings=embedded))

    reports, waits = verify_all(embedded, None, repair=True, connect=lambda _: alone)

    assert reports == {"things": Report(checked=2, missing=1, repaired=1)}
    assert not waits
    held = site.parts.index.rows(collection(site), None, 9)
    assert key in dict(held)


def test_settings_that_up_refuses_are_refused(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, redis_url=SecretStr("redis://127.0.0.1:1"))

    with pytest.raises(Misconfigured, match="LOOKALIKE_MILVUS_URI"):
        verify_all(settings, None, repair=False)


def printed(reports: dict[str, Report]) -> str:
    console = Console(file=io.StringIO(), width=100)
    show(console, reports)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_table_says_what_was_found_and_what_it_means() -> None:
    lost = replace(
        BROKEN, originals_missing=3, without_original=(ImageId("[red]x"), ImageId("y"))
    )

    text = printed({"shop": lost, "other": Report(checked=1_000_000)})

    assert "shop" in text
    assert "1,000,000" in text
    assert "missing: images that are not in the index" in text
    assert "stale:" not in text
    assert "originals missing in shop: '[red]x', 'y' and 1 more" in text


@pytest.mark.parametrize(
    ("report", "repair", "waits", "said"),
    [
        (Report(checked=1), False, False, "holds what the ledger says"),
        (BROKEN, False, False, "4 problems. `lookalike verify --repair`"),
        (replace(BROKEN, repaired=4), True, False, "0 problems remain."),
        (replace(BROKEN, repaired=4), True, True, "wait for a worker"),
        (Report(checked=1, originals_missing=1), True, False, "1 problem remains."),
        (Report(checked=1, originals_missing=1), False, False, "1 problem remains."),
    ],
)
def test_the_last_line_says_how_it_stands(
    report: Report, repair: bool, waits: bool, said: str
) -> None:
    assert said in conclusion({"shop": report}, repair=repair, waits=waits)
