"""``lookalike evaluate`` on a real index, as an operator runs it."""

from __future__ import annotations

import json
import random
from pathlib import Path

from click.testing import CliRunner

import pictures
from fakes import RecordingQueue
from lookalike import bootstrap, catalogue
from lookalike.cli import main
from lookalike.collections import DEFAULT_TEAM
from lookalike.config import Settings
from lookalike.ingest import Intake

FIELDS = {"category": "string", "price": "float"}


def fill(folder: Path, count: int) -> None:
    """A data folder with one collection of so many pictures."""
    parts = bootstrap.connect(Settings(data_dir=folder))
    try:
        made = catalogue.create_collection(
            *(parts.ledger, parts.index, parts.backbone, DEFAULT_TEAM),
            *("things", FIELDS),
        )
        queue = RecordingQueue()
        intake = Intake(
            *(parts.ledger, parts.blobs, queue, made, parts.limits),
            max_metadata_bytes=1_000,
            chunk_images=32,
        )
        rng = random.Random(1)
        for seed in range(count):
            staged = parts.blobs.stage(DEFAULT_TEAM)
            staged.file.write(pictures.jpeg(seed, width=120, height=120))
            known = {"category": rng.choice("ab"), "price": rng.random()}
            intake.add(staged, str(seed), known)
        intake.finish()
        for chunk in queue.take():
            parts.index_images(chunk)
    finally:
        parts.close()


def test_a_collection_is_evaluated_from_its_data_folder(tmp_path: Path) -> None:
    fill(tmp_path, 60)
    report, plot = tmp_path / "report.json", tmp_path / "plot.svg"
    asked = ["evaluate", "things", "--data-dir", str(tmp_path), "--queries", "30"]
    asked += ["--label", "category"]
    files = ["--json", str(report), "--plot", str(plot)]
    run = CliRunner()

    good = run.invoke(main, [*asked, "--min-recall", "0.99", *files])
    poor = run.invoke(main, [*asked, "--min-precision", "0.999"])

    assert good.exit_code == 0, good.output
    assert "all (no filter)" in good.output
    told = json.loads(report.read_text())
    assert told["images"] == 60
    assert {band["recall"] for band in told["bands"]} == {1.0}
    assert plot.read_text().startswith("<svg")
    assert poor.exit_code == 1
    assert "less than 0.999" in poor.output
