from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from api_site import Site, open_site, photo
from lookalike.cli import main
from served import served


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Site]:
    with open_site(tmp_path) as opened:
        opened.create()
        yield opened


@pytest.fixture
def url(shop: Site) -> Iterator[str]:
    with served(shop) as address:
        yield address


def jobs(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["jobs", *arguments, "--url", url])


def test_jobs_are_listed_newest_first(shop: Site, url: str) -> None:
    made = [shop.ingest({name: photo(name)})["id"] for name in "abc"]

    result = jobs(url, "list", "--limit", "2")

    assert result.exit_code == 0, result.output
    _, first, second = result.stdout.splitlines()
    assert first.startswith(made[2])
    assert second.startswith(made[1])
    assert "things" in first
    assert "finished" in first


def test_a_list_for_programs_is_a_json_object_a_line(shop: Site, url: str) -> None:
    made = [shop.ingest({name: photo(name)})["id"] for name in "abc"]

    result = jobs(url, "list", "--json")

    listed = [json.loads(line) for line in result.stdout.splitlines()]
    assert [job["id"] for job in listed] == made[::-1]
    assert listed[0]["done"] == 1
    assert listed[0]["pending"] == 0


def test_a_server_without_jobs_says_so(url: str) -> None:
    assert "no job yet" in jobs(url, "list").stdout


def test_a_job_is_shown_with_what_failed(shop: Site, url: str) -> None:
    made = shop.ingest({"a": photo("a"), "bad [1]": b"no picture"})

    result = jobs(url, "show", made["id"])

    assert result.exit_code == 0, result.output
    assert "2 images: 1 done, 0 unchanged, 1 failed" in result.stdout
    assert "bad [1]" in result.stdout
    assert "image_unsupported" in result.stdout


def test_a_job_for_programs_has_all_its_failures(shop: Site, url: str) -> None:
    made = shop.ingest({"a": photo("a"), "bad": b"no picture"})

    told = json.loads(jobs(url, "show", made["id"], "--json").stdout)

    assert told["id"] == made["id"]
    assert [one["image_id"] for one in told["failures"]] == ["bad"]


def test_a_cancelled_job_is_retried(shop: Site, url: str) -> None:
    shop.queue.is_held = True
    made = shop.ingest({"a": photo("a"), "b": photo("b")})

    cancelled = jobs(url, "cancel", made["id"])
    shop.queue.is_held = False
    retried = jobs(url, "retry", made["id"], "--wait")

    assert "2 failed" in cancelled.stdout
    assert retried.exit_code == 0, retried.output
    assert "2 images are tried again" in retried.stdout
    assert "2 done" in retried.stdout
    assert set(shop.ids()) == {"a", "b"}


def test_a_retry_that_is_not_waited_for_names_its_job(shop: Site, url: str) -> None:
    shop.queue.is_held = True
    made = shop.ingest({"a": photo("a")})
    jobs(url, "cancel", made["id"])

    result = jobs(url, "retry", made["id"])

    assert result.exit_code == 0, result.output
    new = result.stdout.split()[-1].rstrip(".")
    assert new != made["id"]
    assert "1 pending" in jobs(url, "show", new).stdout


def test_nothing_to_retry_is_one_clear_line(shop: Site, url: str) -> None:
    made = shop.ingest({"a": photo("a"), "bad": b"no picture"})

    result = jobs(url, "retry", made["id"])

    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["show", "retry", "cancel"])
def test_an_unknown_job_is_one_clear_line(url: str, command: str) -> None:
    result = jobs(url, command, "nothing")

    assert result.exit_code == 2
    assert "There is no job 'nothing'" in result.stderr
