"""What a scenario found, as a row of the one table."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

COLUMNS = (
    "scenario",
    "kills",
    "acknowledged images",
    "lost",
    "wrong counts",
    "stale hits",
    "late calls",
    "back after, s (p50/max)",
    "drain, s",
    "seed",
    "notes",
)


@dataclass
class Report:
    """One row: what was done, and what was broken by it.

    Attributes:
        kills: by victim.
        lost: acknowledged images that are not there, or not as they must be (I1, I2).
        wrong_counts: jobs that count otherwise than once an image (I4).
        stale: deleted images that were seen again (I3).
        late: calls past their deadline and a second, or errors without a code (I6).
        recoveries: by part, seconds from each kill until it was back.
        drain: seconds from the last request until nothing was pending.
        figures: what else was measured.
        breaches: the first of each kind, in words.
    """

    scenario: str
    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    lost: int = 0
    wrong_counts: int = 0
    stale: int = 0
    late: int = 0
    recoveries: dict[str, list[float]] = field(default_factory=dict)
    drain: float = 0.0
    seconds: float = 0.0
    figures: dict[str, object] = field(default_factory=dict)
    breaches: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether every invariant held."""
        return not self.breaches

    def as_json(self) -> dict[str, Any]:
        """Everything, for a file."""
        # A Counter would be made of pairs by asdict, and count those.
        return asdict(self) | {"kills": dict(self.kills)}

    def cells(self) -> list[str]:
        """The row's cells, by ``COLUMNS``."""
        back = [
            f"{part} {statistics.median(took):.1f}/{max(took):.1f}"
            for part, took in sorted(self.recoveries.items())
        ]
        notes = [f"{name}: {value}" for name, value in self.figures.items()]
        return [
            self.scenario,
            ", ".join(f"{count} {name}" for name, count in sorted(self.kills.items()))
            or "-",
            f"{self.acknowledged:,}",
            str(self.lost),
            str(self.wrong_counts),
            str(self.stale),
            str(self.late),
            ", ".join(back) or "-",
            f"{self.drain:.0f}",
            str(self.seed),
            "; ".join(notes),
        ]


def table(reports: Sequence[Report]) -> str:
    """All rows, in Markdown, and below them what was broken."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(report.cells()) + " |" for report in reports]
    for report in reports:
        lines += [f"- BROKEN in {report.scenario}: {line}" for line in report.breaches]
    return "\n".join(lines)
