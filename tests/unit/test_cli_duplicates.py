from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from api_site import Site, open_site
from lookalike.cli import main
from lookalike.client import Client
from lookalike.errors import ImageNotFound
from pictures import jpeg
from served import served


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """The address of a site with two copies of a picture, three of another."""
    with open_site(tmp_path) as site:
        fill(site)
        with served(site) as address:
            yield address


def fill(site: Site) -> None:
    site.create()
    first, second = jpeg(1), jpeg(2)
    site.ingest({"a": first, "b": first, "c": second, "d": second, "e": second})


def duplicates(url: str, *arguments: str) -> Result:
    command = ["duplicates", "things", *arguments, "--url", url]
    return CliRunner().invoke(main, command)


def test_groups_are_shown_with_how_alike_the_images_are(url: str) -> None:
    result = duplicates(url)

    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "a",
        "  1.000  exact    b",
        "c",
        "  1.000  exact    d",
        "  1.000  exact    e",
        "2 groups",
    ]


def test_groups_for_programs_are_a_json_object_a_line(url: str) -> None:
    result = duplicates(url, "--json", "--tier", "exact", "--limit", "1")

    (group,) = [json.loads(line) for line in result.stdout.splitlines()]
    assert group["tier"] == "exact"


def test_what_was_judged_is_not_shown_again(url: str) -> None:
    with Client(url) as client:
        client.judge("things", ["c", "d", "e"], "not_duplicate")

    assert duplicates(url).stdout.splitlines()[-1] == "1 group"


def test_judging_an_unknown_image_says_so(url: str) -> None:
    with Client(url) as client, pytest.raises(ImageNotFound):
        client.judge("things", ["a", "nothing"], "duplicate")


def test_an_unknown_collection_is_one_clear_line(url: str) -> None:
    result = CliRunner().invoke(main, ["duplicates", "nothing", "--url", url])

    assert result.exit_code == 2
    assert "nothing" in result.stderr
