"""Break the platform on purpose, and check that nothing acknowledged is lost.

    PYTHONPATH=tests python -m faults                 every scenario, the long run
    PYTHONPATH=tests python -m faults --short         what CI runs: the walk and 60 s
    PYTHONPATH=tests python -m faults --only T3       one scenario
    PYTHONPATH=tests python -m faults.mutations       is each guard seen when broken?

Exit status 1 if an invariant was broken. The seed makes the same requests and the same
plan of kills again; the moments at which threads meet are never quite the same.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from faults.reports import Report, table
from faults.scenarios import SCENARIOS, SHORT, Scenario
from faults.trials import Options


def main() -> int:
    """Run the chosen scenarios and print their table."""
    arguments = parse()
    # So that processes are ended and folders removed when this one is told to stop.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    seed = arguments.seed if arguments.seed is not None else random.randrange(10**6)
    print(f"seed {seed}", flush=True)
    reports = []
    for scenario in chosen(arguments):
        reports.append(one(scenario, arguments, seed))
        print(table(reports[-1:]), flush=True)
        write(arguments.out, reports)
    print(f"\n{table(reports)}")
    return 0 if all(report.is_good for report in reports) else 1


def parse() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--short", action="store_true", help="what CI runs")
    parser.add_argument("--only", nargs="+", choices=[one.name for one in SCENARIOS])
    parser.add_argument("--seed", type=int)
    parser.add_argument("--images", type=int, help="acknowledged at least, where fixed")
    parser.add_argument("--kills", type=int, help="of all kinds together")
    parser.add_argument("--minutes", type=float, help="of faults, without the drain")
    parser.add_argument("--scale", type=float, default=1.0, help="of all numbers")
    parser.add_argument("--failpoints", nargs="+", default=(), help="of the walk")
    parser.add_argument("--out", type=Path, help="a file for the table")
    parser.add_argument("--keep", action="store_true", help="keep all logs")
    return parser.parse_args()


def chosen(arguments: argparse.Namespace) -> Sequence[Scenario]:
    """The scenarios to run, in order."""
    if arguments.only:
        return [one for one in SCENARIOS if one.name in arguments.only]
    if arguments.short:
        return [one for one in SCENARIOS if one.name in SHORT]
    return SCENARIOS


def one(scenario: Scenario, arguments: argparse.Namespace, seed: int) -> Report:
    """Run one scenario; one that does not come to its end is a broken one."""
    folder = Path(tempfile.mkdtemp(prefix=f"lookalike-faults-{scenario.name}-"))
    options = Options(
        folder=folder,
        seed=seed,
        scale=arguments.scale,
        images=arguments.images,
        kills=arguments.kills,
        minutes=arguments.minutes,
        failpoints=tuple(arguments.failpoints),
    )
    try:
        report = scenario.run(options)
    except Exception as error:
        traceback.print_exc()
        report = Report(scenario.name, seed, breaches=[f"{error!r}"])
    if report.is_good and not arguments.keep:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        print(f"logs of {scenario.name}: {folder}", flush=True)
    return report


def write(out: Path | None, reports: Sequence[Report]) -> None:
    """The table as Markdown, and everything as JSON beside it."""
    if out is not None:
        out.write_text(table(reports) + "\n")
        everything = [report.as_json() for report in reports]
        out.with_suffix(".json").write_text(json.dumps(everything, indent=1))


if __name__ == "__main__":
    sys.exit(main())
