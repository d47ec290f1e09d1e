from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from api_site import open_site
from lookalike.cli import main
from lookalike.cli.index import size
from lookalike.collections import IndexKind
from lookalike.index_advice import SOURCES, advise
from served import served


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with open_site(tmp_path) as site:
        answer = site.client.post(
            "/v1/collections",
            json={"name": "shoes", "index": {"type": "HNSW", "params": {"M": 32}}},
        )
        assert answer.status_code == 201, answer.json
        with served(site) as address:
            yield address


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["index", "advise", *arguments])


def test_memory_follows_the_published_formulas() -> None:
    costs = {cost.kind: cost for cost in advise(1_000_000, 512).costs}

    assert costs[IndexKind.FLAT].memory == 1_000_000 * 512 * 4
    assert costs[IndexKind.HNSW].memory == 1_000_000 * (512 * 4 + 16 * 2 * 4)
    lists = 1_000_000 * 8 + 1_024 * 512 * 4
    assert costs[IndexKind.IVF_SQ8].memory == 1_000_000 * 512 + lists
    assert costs[IndexKind.DISKANN].disk > costs[IndexKind.FLAT].memory


def test_every_kind_is_explained_and_every_source_is_used() -> None:
    costs = advise(1_000, 64).costs

    assert [cost.kind for cost in costs] == list(IndexKind)
    assert {name for cost in costs for name in cost.sources} == set(SOURCES)


@pytest.mark.parametrize(
    ("images", "kind"), [(1_000, None), (1_000_000, None), (50_000_000, "IVF_SQ8")]
)
def test_the_advice_is_what_a_collection_of_that_size_gets(
    images: int, kind: str | None
) -> None:
    assert advise(images, 512).kind == kind


def test_a_size_is_advised_without_any_server() -> None:
    result = run("--images", "1000000", "--dimension", "512")

    assert result.exit_code == 0, result.output
    assert "1,000,000 images, vectors of 512 numbers" in result.stdout
    (line,) = [one for one in result.stdout.splitlines() if one.startswith("HNSW")]
    assert "2.2 GB" in line


def test_a_collection_is_advised_by_its_own_vectors(url: str) -> None:
    result = run("shoes", "--images", "5000", "--url", url)

    assert result.exit_code == 0, result.output
    assert "shoes was created with index type HNSW" in result.stdout
    assert "5,000 images, vectors of 192 numbers" in result.stdout


def test_programs_get_the_figures_as_json() -> None:
    told = json.loads(run("--images", "10", "--dimension", "4", "--json").stdout)

    assert told["costs"][0] | {"memory": 160} == told["costs"][0]
    assert told["formulas"].keys() == SOURCES.keys()


def test_an_advice_needs_a_size() -> None:
    result = run("--images", "10")

    assert result.exit_code == 2
    assert "--dimension" in result.output


def test_a_collection_that_is_not_there_is_reported(url: str) -> None:
    result = run("missing", "--url", url)

    assert result.exit_code == 2
    assert "missing" in result.output


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0.0 B"), (999, "999 B"), (999_600, "1.0 MB"), (2_176_000_000, "2.2 GB")],
)
def test_bytes_are_written_as_people_do(amount: int, text: str) -> None:
    assert size(amount) == text
