"""Broken image files through the API of a real ``lookalike up``."""

from __future__ import annotations

from pathlib import Path

from faults.malformed import KNOWN_CODES, run
from malformed import seeds, specimens
from servers.processes import running_up


def test_the_same_seed_makes_the_same_files() -> None:
    first = [specimen.data for specimen in specimens(50, seed=1)]

    assert first == [specimen.data for specimen in specimens(50, seed=1)]
    assert first != [specimen.data for specimen in specimens(50, seed=2)]
    assert not set(first) & set(seeds().values())


def test_1000_broken_files_crash_nothing_and_each_gets_a_stable_code(
    tmp_path: Path,
) -> None:
    with running_up(tmp_path) as (process, address):
        outcome = run(process, address, count=1_000)

        assert process.is_running

    print(outcome)
    assert outcome.sent == 1_000
    assert not outcome.server_errors
    assert not outcome.surprises
    assert set(outcome.codes) <= KNOWN_CODES
    assert outcome.codes["image_broken"] > 0
    assert outcome.codes["image_truncated"] > 0
    assert outcome.codes["image_too_large"] > 0
