"""Kills by a plan that a seed makes, and how long each part takes to be back."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import psutil

from faults.parts import Command, Part
from faults.platforms import Platform

TICK = 0.05
PATIENCE = 300.0  # seconds for a part to be back


@dataclass(frozen=True)
class Kill:
    """One kill: when, of what, and how long until it is started again."""

    at: float
    victim: str  # a part, or "PART child" for one of its children
    outage: float = 0.0


def plan(
    seed: int,
    seconds: float,
    counts: Mapping[str, int],
    outages: Mapping[str, float] | None = None,
) -> list[Kill]:
    """So many kills of each victim, spread over the time at random but evenly.

    Args:
        seed: makes the same plan again.
        seconds: how long it lasts.
        counts: kills by victim.
        outages: by victim, the longest time until it is started again.
    """
    generator = random.Random(f"kills/{seed}")
    kills = []
    for victim, count in sorted(counts.items()):
        longest = (outages or {}).get(victim, 0.0)
        for number in range(count):
            at = seconds * (number + generator.random()) / count
            kills.append(Kill(at, victim, generator.uniform(0, longest)))
    return sorted(kills, key=lambda kill: kill.at)


@dataclass
class Killer:
    """Carries out a plan in the thread that calls it, which also starts parts again.

    Attributes:
        done: kills by victim.
        recoveries: by part, the seconds from each kill until the part was back.
        outages: of the API, from when until when.
        ended: processes that ended though nobody killed them, and were started again.
    """

    platform: Platform
    is_searching: Callable[[float], bool]  # whether a search succeeded since then
    done: Counter[str] = field(default_factory=Counter)
    recoveries: dict[str, list[float]] = field(default_factory=dict)
    ended: Counter[str] = field(default_factory=Counter)
    outages: list[tuple[float, float]] = field(default_factory=list)
    _away: dict[str, float] = field(default_factory=dict)  # part: killed when
    _due: dict[str, float] = field(default_factory=dict)  # part: to be started when

    def carry_out(self, kills: list[Kill], is_over: Callable[[], bool]) -> None:
        """Kill as planned, until the plan or something else is at its end."""
        began = time.monotonic()
        waiting = list(kills)
        while waiting and not is_over():
            if time.monotonic() - began >= waiting[0].at:
                self._kill(waiting.pop(0))
            self.look()
            time.sleep(TICK)

    def wait(self, seconds: float) -> None:
        """Kill nothing, but start what is to be started."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.look()
            time.sleep(TICK)

    def settle(self) -> None:
        """Wait until every part is back.

        Raises:
            TimeoutError: one does not come back; names it.
        """
        began = time.monotonic()
        missing = dict.fromkeys(self.platform.parts, began)
        while missing or self._away or self._due:
            if time.monotonic() - began > PATIENCE:
                raise TimeoutError(f"not back: {', '.join(missing)}")
            self.look()
            for name in [name for name in missing if self._is_back(name, began)]:
                del missing[name]
            time.sleep(TICK)

    def look(self) -> None:
        """Start what is to be started, and note what is back."""
        now = time.monotonic()
        for name in [name for name, at in self._due.items() if at <= now]:
            del self._due[name]
            self.platform.parts[name].spawn()
        for name, since in list(self._away.items()):
            if name not in self._due and self._is_back(name, since):
                del self._away[name]
                self.recoveries.setdefault(_kind(name), []).append(now - since)
                if name in ("api", "up"):
                    self.outages.append((since, now))
        for command in self.platform.commands:
            if command.name not in self._due and not command.is_running:
                if command.name not in self._away:
                    self.ended[_kind(command.name)] += 1
                    self._away[command.name] = now
                command.spawn()

    def _is_back(self, name: str, since: float) -> bool:
        part = self.platform.parts[name]
        if name in ("milvus", "up") and not self.is_searching(since):
            return False
        return part.is_back()

    def _kill(self, kill: Kill) -> None:
        name, _, child = kill.victim.partition(" ")
        part = self._part(name)
        if child:
            if not self._kill_child(part):
                return
        else:
            part.kill()
            self._away[part.name] = time.monotonic()
            self._due[part.name] = time.monotonic() + kill.outage
        self.done[kill.victim] += 1

    def _part(self, name: str) -> Part:
        """That part; of several workers, each in its turn."""
        same = [
            part
            for key, part in sorted(self.platform.parts.items())
            if _kind(key) == name
        ]
        return same[sum(self.done.values()) % len(same)]

    def _kill_child(self, part: Part) -> bool:
        assert isinstance(part, Command)
        if not part.is_running:
            return False
        children = part.children()
        if not children:
            return False
        victim = children[sum(self.done.values()) % len(children)]
        with suppress(psutil.NoSuchProcess):
            victim.kill()
            return True
        return False


def _kind(name: str) -> str:
    return name.rstrip("0123456789")
