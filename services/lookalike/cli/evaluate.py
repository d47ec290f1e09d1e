"""``lookalike evaluate``: how good are the searches of a collection?"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from lookalike import logs
from lookalike.cli.charts import chart
from lookalike.cli.settings import load
from lookalike.collections import DEFAULT_TEAM
from lookalike.config import Settings
from lookalike.evaluate import Report

if TYPE_CHECKING:
    from lookalike.bootstrap import Backends

Connect = Callable[[Settings], "Backends"]
FILE = click.Path(dir_okay=False, path_type=Path)


def evaluated(
    settings: Settings,
    name: str,
    *,
    label: str | None,
    k: int,
    queries: int,
    connect: Connect | None = None,
) -> Report:
    """The report on a collection; what its scores mean is found out, too.

    Raises:
        BadQuery: the label is no field of labels, or there are too few images.
        CollectionNotFound: there is none of that name.
        Misconfigured: `lookalike up` runs on this data.
        Unavailable: a part does not answer.
    """
    from lookalike import bootstrap, calibration, embedded
    from lookalike.evaluate import evaluate

    embedded.check_index(settings)
    with contextlib.ExitStack() as closing:
        if settings.is_embedded_index:
            closing.enter_context(embedded.only_process(settings))
        parts = (connect or bootstrap.connect)(settings)
        closing.callback(parts.close)
        collection = parts.ledger.collection(DEFAULT_TEAM, name)
        with Progress(console=Console(stderr=True), transient=True) as bars:
            tasks = {}

            def show(what: str, done: int, of: int) -> None:
                if what not in tasks:
                    tasks[what] = bars.add_task(what)
                bars.update(tasks[what], completed=done, total=of)

            report = evaluate(
                *(parts.ledger, parts.index, collection),
                label=label,
                k=k,
                queries=queries,
                progress=show,
            )
        if label is not None:
            calibration.keep(parts.ledger, parts.index, collection, label)
        return report


def as_json(report: Report) -> str:
    """The report for programs."""
    told = asdict(report) | {"made_at": report.made_at.isoformat()}
    return json.dumps(told, indent=2)


def show(console: Console, report: Report) -> None:
    """Print the report as tables."""
    console.print(
        f"{report.collection}: {report.images:,} images, {report.metric}, "
        f"{report.backbone}"
    )
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("filter keeps")
    for column in ("searches", f"recall@{report.k}", "worst", "short", "p50", "p99"):
        grid.add_column(column, justify="right")
    for band in report.bands:
        grid.add_row(
            "all (no filter)" if band.wanted == 1 else f"{band.share:.2%}",
            f"{band.queries:,}",
            f"{band.recall:.4f}",
            f"{band.worst:.2f}",
            f"{band.short}",
            f"{band.p50_ms:.1f} ms",
            f"{band.p99_ms:.1f} ms",
        )
    console.print(grid)
    if report.labels is None:
        return
    told = report.labels
    console.print(
        f"by {told.label}, {told.queries:,} searches: precision@1 "
        f"{told.precision_at_1:.3f}, precision@{report.k} {told.precision_at_k:.3f}; "
        f"mAP {told.mean_average_precision:.3f} ({told.ranked:,} rankings)"
    )
    if told.tenths:
        worst = max(abs(tenth.stated - tenth.seen) for tenth in told.tenths)
        console.print(
            f"stated chances of the same {told.label} differ from what was seen by "
            f"{worst:.3f} in the worst tenth of "
            f"{sum(tenth.matches for tenth in told.tenths):,} matches"
        )


def missed(
    report: Report, min_recall: float | None, min_precision: float | None
) -> list[str]:
    """What falls short of what was demanded, a sentence each."""
    found = []
    if min_recall is not None and report.recall < min_recall:
        found.append(f"Recall is {report.recall:.4f}, less than {min_recall:g}.")
    if min_recall is not None and report.short:
        found.append(
            f"{report.short:,} searches found too few although there are more."
        )
    if min_precision is not None and report.labels is not None:
        precision = report.labels.precision_at_k
        if precision < min_precision:
            found.append(
                f"Precision@{report.k} is {precision:.3f}, less than {min_precision:g}."
            )
    return found


@click.command()
@click.argument("collection")
@click.option("--label", metavar="FIELD", help="Tell precision by this field's values.")
@click.option(
    "--min-recall",
    type=click.FloatRange(0, 1),
    help="End with status 1 if a band's recall is less, or a search finds too few.",
)
@click.option(
    "--min-precision",
    type=click.FloatRange(0, 1),
    help="End with status 1 if precision@k by label is less.",
)
@click.option("-k", type=click.IntRange(1, 1000), default=10, show_default=True)
@click.option(
    "--queries",
    type=click.IntRange(1, 10_000),
    default=200,
    show_default=True,
    help="Images to search by, in each band.",
)
@click.option("--json", "json_file", type=FILE, help="Write the report there, as JSON.")
@click.option("--plot", "plot_file", type=FILE, help="Write a plot there, as SVG.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where everything is kept. [default: the user's data folder]",
)
def evaluate(
    collection: str,
    label: str | None,
    min_recall: float | None,
    min_precision: float | None,
    k: int,
    queries: int,
    json_file: Path | None,
    plot_file: Path | None,
    data_dir: Path | None,
) -> None:
    """Compare the searches of a COLLECTION with exact ones, and judge them by labels.

    Reads every vector once. Works on the parts themselves, not through a server:
    with Milvus Lite, which one process alone can open, stop `lookalike up` first; a
    cluster may go on serving.
    """
    if min_precision is not None and label is None:
        raise click.UsageError("--min-precision needs --label.")
    settings = load(data_dir=data_dir)
    logs.configure(settings.log_level)
    report = evaluated(settings, collection, label=label, k=k, queries=queries)
    show(Console(highlight=False), report)
    if json_file is not None:
        json_file.write_text(as_json(report) + "\n", encoding="utf-8")
    if plot_file is not None:
        plot_file.write_text(chart(report), encoding="utf-8")
    misses = missed(report, min_recall, min_precision)
    for sentence in misses:
        click.echo(sentence, err=True)
    sys.exit(1 if misses else 0)
