from __future__ import annotations

import io
import json
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from rich.console import Console

from api_site import open_site
from labelled import fill
from lookalike.bootstrap import Backends
from lookalike.cli import main
from lookalike.cli.charts import chart
from lookalike.cli.evaluate import Connect, as_json, evaluated, missed, show
from lookalike.config import Settings
from lookalike.embedded import only_process
from lookalike.errors import CollectionNotFound
from lookalike.evaluate import Band, ByLabel, Report, Tenth
from small import Small

GOOD = Band(1.0, 1.0, 200, 0.999, 0.9, 0, 2.0, 9.0, ["no filter"])
POOR = Band(0.01, 0.0123, 200, 0.913, 0.1, 0, 3.0, 120.0, ["price from 1 to 2"])
LABELS = ByLabel("category", 200, 0.6, 0.45, 200, 0.3, [Tenth(0.4, 0.44, 500)])
REPORT = Report(
    *("things", "resnet18-01", "cosine", 12_345, 10),
    *(datetime(2026, 1, 2, tzinfo=UTC), [GOOD, POOR], LABELS),
)


class KeptOpen(Backends):
    """The same parts, which a command does not close."""

    def __init__(self, parts: Backends) -> None:
        super().__init__(
            **{each.name: getattr(parts, each.name) for each in fields(parts)}
        )

    def close(self) -> None:
        pass


# --- the report ----------------------------------------------------------------------


def test_a_collection_is_evaluated_and_calibrated(tmp_path: Path) -> None:
    small = Small.build(tmp_path / "small")
    fill(small, 120)
    with open_site(tmp_path / "site", milvus_uri="http://127.0.0.1:1") as site:
        parts = KeptOpen(replace(site.parts, ledger=small.ledger, index=small.index))

        report = evaluated(
            parts.settings,
            "things",
            label="category",
            k=5,
            queries=8,
            connect=_to(parts),
        )

        with pytest.raises(CollectionNotFound):
            evaluated(
                parts.settings, "none", label=None, k=5, queries=8, connect=_to(parts)
            )
    kept = small.ledger.calibration(small.collection)
    small.ledger.close()
    assert (report.images, report.k, report.recall) == (120, 5, 1)
    assert kept is not None
    assert kept.labels is not None
    assert kept.labels.field == "category"


def _to(parts: Backends) -> Connect:
    return lambda _settings: parts


def test_the_report_is_json_for_programs() -> None:
    told = json.loads(as_json(REPORT))

    assert told["made_at"] == "2026-01-02T00:00:00+00:00"
    assert told["bands"][1]["recall"] == 0.913
    assert told["labels"]["tenths"] == [{"stated": 0.4, "seen": 0.44, "matches": 500}]


def test_the_report_is_a_table_for_people() -> None:
    out = io.StringIO()

    show(Console(file=out, width=120), REPORT)

    text = out.getvalue()
    for part in ("all (no filter)", "1.23%", "0.9130", "120.0 ms", "mAP 0.300"):
        assert part in text


# --- gates ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recall", "precision", "told"),
    [
        (None, None, []),
        (0.9, 0.4, []),
        (0.95, 0.4, ["Recall is 0.9130, less than 0.95."]),
        (0.9, 0.5, ["Precision@10 is 0.450, less than 0.5."]),
    ],
)
def test_what_was_demanded_is_held_against_what_is(
    recall: float | None, precision: float | None, told: list[str]
) -> None:
    assert missed(REPORT, recall, precision) == told


def test_too_few_results_miss_any_demanded_recall() -> None:
    short = replace(REPORT, bands=[replace(GOOD, short=3)])

    assert missed(short, 0.1, None) == [
        "3 searches found too few although there are more."
    ]
    assert missed(short, None, None) == []


# --- the plot ------------------------------------------------------------------------


def test_the_plot_is_svg_with_a_panel_for_each_part() -> None:
    root = ElementTree.fromstring(chart(REPORT))

    texts = "".join(root.itertext())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.get("width") == str(4 * 340)
    for part in ("recall@10", "p99 grey", "precision@10", "stated chance", "1.2 %"):
        assert part in texts


def test_without_labels_the_plot_has_two_panels() -> None:
    root = ElementTree.fromstring(chart(replace(REPORT, labels=None)))

    assert root.get("width") == str(2 * 340)


def test_names_cannot_break_the_plot() -> None:
    odd = replace(REPORT, collection='<script>"&', labels=None)

    root = ElementTree.fromstring(chart(odd))

    assert '<script>"&' in "".join(root.itertext())
    assert root.find(".//{*}script") is None


# --- the command ---------------------------------------------------------------------


def test_a_demanded_precision_needs_a_label() -> None:
    answer = CliRunner().invoke(main, ["evaluate", "things", "--min-precision", "0.5"])

    assert answer.exit_code == 2
    assert "--label" in answer.output


def test_while_a_server_runs_on_the_data_it_is_refused(tmp_path: Path) -> None:
    with open_site(tmp_path / "site") as site:
        settings = replace_data_dir(site.parts, tmp_path)
        with only_process(settings):
            answer = CliRunner().invoke(
                main, ["evaluate", "things", "--data-dir", str(tmp_path)]
            )

    assert answer.exit_code == 2
    assert "in use by process" in answer.output


def replace_data_dir(parts: Backends, folder: Path) -> Settings:
    return parts.settings.model_copy(update={"data_dir": folder})
