from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from api_site import Site, open_site, photo
from lookalike.answers import Answer, Match
from lookalike.cli import main
from lookalike.cli import search as search_module
from lookalike.cli.search import results_table
from lookalike.client import Client
from lookalike.interfaces import ImageId
from served import served


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Site]:
    """A site with three shoes and two bags."""
    with open_site(tmp_path / "data") as site:
        site.create()
        for category, names in {"shoes": "abc", "bags": "de"}.items():
            files = {name: photo(name) for name in names}
            site.ingest(files, {"category": category, "tags": ["[red]", "new"]})
        yield site


@pytest.fixture
def url(shop: Site) -> Iterator[str]:
    with served(shop) as address:
        yield address


@pytest.fixture
def picture(tmp_path: Path) -> str:
    file = tmp_path / "a.jpg"
    file.write_bytes(photo("a"))
    return str(file)


def search(url: str, *arguments: str, stdin: bytes | None = None) -> Result:
    command = ["search", *arguments, "--url", url]
    return CliRunner().invoke(main, command, input=stdin)


def test_the_picture_itself_comes_first_with_its_metadata(
    url: str, picture: str
) -> None:
    result = search(url, picture)

    head, first, *_ = result.stdout.splitlines()
    assert result.exit_code == 0, result.output
    assert head.split() == ["#", "score", "id", "category", "tags"]
    assert first.split() == ["1", "1.0000", "a", "shoes", "[red],", "new"]
    assert "5 matches (fewer than asked for: there are no more images)" in result.stdout
    assert "ms in the server: decode " in result.stdout.replace("\n", " ")


def test_a_filter_and_a_limit_are_kept_to(url: str, picture: str) -> None:
    result = search(url, picture, "--filter", '{"category": "bags"}', "-k", "1")

    assert "bags" in result.stdout
    assert "shoes" not in result.stdout
    assert "1 matches;" in result.stdout


def test_the_answer_of_the_server_is_printed_as_json(url: str, picture: str) -> None:
    result = search(url, picture, "--json", "--min-score", "0.999")

    answer = json.loads(result.stdout)
    assert [match["id"] for match in answer["matches"]] == ["a"]
    assert "took_ms" in answer


def test_a_stored_image_is_searched_from_by_its_id(url: str) -> None:
    result = search(url, "b", "--id", "--json")

    ids = [match["id"] for match in json.loads(result.stdout)["matches"]]
    assert "b" not in ids
    assert len(ids) == 4


def test_a_picture_is_read_from_standard_input(url: str) -> None:
    result = search(url, "-", "--json", stdin=photo("c"))

    assert json.loads(result.stdout)["matches"][0]["id"] == "c"


def test_no_match_is_said(url: str, picture: str) -> None:
    result = search(url, picture, "--filter", '{"category": "hats"}')

    assert result.exit_code == 0
    assert "No match." in result.stdout


def test_several_collections_are_named_when_none_was_chosen(
    url: str, picture: str
) -> None:
    with Client(url) as client:
        client.create_collection("others", {})

    result = search(url, picture)

    assert result.exit_code == 2
    assert "There are 2 collections: others, things." in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.jpg"], "nowhere.jpg cannot be read: No such file"),
        (["x", "--id"], "x"),
        (["a", "--id", "--filter", "{oops"], "--filter is not JSON"),
        (["a", "--id", "--filter", '{"categry": 1}'], "did you mean 'category'"),
        (["a", "--id", "-k", "0"], "limit"),
        (["a", "--id", "-c", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_searched_ends_with_one_clear_line(
    url: str, arguments: list[str], said: str
) -> None:
    result = search(url, *arguments)

    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.startswith("Error: ")
    assert result.stdout == ""


def test_a_table_shows_only_the_metadata_there_is_room_for() -> None:
    metadata = {"a": "1", "b": "x" * 30, "c": "3"}
    match = Match(ImageId("i" * 40), 0.5, metadata)  # type: ignore[arg-type]
    answer = Answer([match], True, {}, {})

    narrow = [str(column.header) for column in results_table(answer, 70).columns]
    wide = [str(column.header) for column in results_table(answer, 200).columns]

    assert narrow == ["#", "score", "id", "a"]
    assert wide == ["#", "score", "id", "a", "b", "c"]


# --- several examples, groups, facets ------------------------------------------------


def test_more_is_looked_for_and_some_is_avoided(url: str, picture: str) -> None:
    result = search(url, picture, "--also", "id:b", "--not", "id:d", "--json")

    ids = [match["id"] for match in json.loads(result.stdout)["matches"]]
    assert "b" not in ids
    assert "d" not in ids
    assert ids[0] == "a"


def test_a_part_of_the_picture_can_count_alone(url: str, picture: str) -> None:
    result = search(url, picture, "--crop", "0,0,0.5,0.5", "--json")

    best = json.loads(result.stdout)["matches"][0]
    assert best["score"] < 0.9999


def test_groups_and_counted_values_are_shown(url: str, picture: str) -> None:
    result = search(url, picture, "--group-by", "category", "--facet", "category")

    lines = [line.split() for line in result.stdout.splitlines()]
    assert [line[0] for line in lines[1:3]] == ["1", "2"]
    assert ["category", "images"] in lines
    assert ["shoes", "3"] in lines
    assert "there are no more groups" in result.stdout


def test_more_matches_than_one_request_gives_are_paged(
    url: str, picture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_module, "PAGE", 2)

    result = search(url, picture, "-k", "5", "--json")

    document = json.loads(result.stdout)
    assert sorted(match["id"] for match in document["matches"]) == list("abcde")
    assert document["complete"] is True


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--crop", "left"], "--crop is x0,y0,x1,y1"),
        (["--crop", "0,0,2,2"], "fractions"),
        (["--also", "nowhere.jpg"], "nowhere.jpg cannot be read"),
        (["--not", "id:nobody"], "nobody"),
        (["--group-by", "categry"], "did you mean 'category'"),
        (["--facet", "categry"], "did you mean 'category'"),
        (["--diversity", "7"], "Diversity is 0 to 1"),
    ],
)
def test_a_wrong_option_ends_with_one_clear_line(
    url: str, picture: str, arguments: list[str], said: str
) -> None:
    result = search(url, picture, *arguments)

    assert result.exit_code == 2
    assert said in result.stderr
