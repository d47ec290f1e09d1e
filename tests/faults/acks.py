"""The ack log: what clients tried, and what they were answered, as it happened.

One line of JSON for each event, appended when it happened: a try is noted before its
request is sent, an answer after it was read. What the log does not say was answered
may have happened or not.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

Kind = Literal["put", "delete", "patch"]


@dataclass(frozen=True)
class Item:
    """One image of a request; ``version`` says which bytes, ``tag`` which metadata."""

    id: str
    version: int = 0
    tag: int = 0
    is_broken: bool = False  # its file is, so it will be refused


@dataclass(frozen=True)
class Operation:
    """What a client wants, however often it has to ask."""

    kind: Kind
    key: str  # of idempotency
    items: tuple[Item, ...]


@dataclass
class Event:
    """One line of the log.

    ``what``: try | ack | refused (it did not happen) | unanswered (it may have) | late
    (the client stopped waiting, and it may happen still).
    """

    what: str
    number: int  # of the try
    at: float = field(default_factory=time.monotonic)
    operation: Operation | None = None  # of a try
    status: int = 0
    job: str = ""
    detail: str = ""


class AckLog:
    """Writes events to a file as they happen. For any number of threads."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self.path = path

    def tried(self, operation: Operation) -> int:
        """Note a request that is about to be sent; gives back its number."""
        with self._lock:
            number = next(self._numbers)
            self._write(Event("try", number, operation=operation))
        return number

    def noted(self, what: str, number: int, **facts: Any) -> None:
        """Note what became of a request."""
        with self._lock:
            self._write(Event(what, number, **facts))

    def adopt(self, path: Path) -> None:
        """Take in what another process has logged."""
        with self._lock:
            numbers: dict[int, int] = {}
            for event in read(path):
                if event.operation is not None:
                    numbers[event.number] = next(self._numbers)
                self._write(replace(event, number=numbers[event.number]))

    def close(self) -> None:
        """Nothing more will happen."""
        self._file.close()

    def _write(self, event: Event) -> None:
        self._file.write(json.dumps(asdict(event)) + "\n")


def read(path: Path) -> Iterator[Event]:
    """The events of a log, in order."""
    with path.open() as file:
        for line in file:
            raw = json.loads(line)
            if told := raw["operation"]:
                raw["operation"] = Operation(
                    told["kind"],
                    told["key"],
                    tuple(Item(**one) for one in told["items"]),
                )
            yield Event(**raw)


def acknowledged_images(events: Sequence[Event]) -> int:
    """How many images were answered with a 202, each as often as it was sent anew."""
    sizes: dict[int, int] = {}
    keys: dict[int, str] = {}
    counted: dict[str, int] = {}
    for event in events:
        if event.operation is not None and event.operation.kind == "put":
            sizes[event.number] = sum(
                not item.is_broken for item in event.operation.items
            )
            keys[event.number] = event.operation.key
        elif event.what == "ack" and event.number in sizes:
            counted[keys[event.number]] = sizes[event.number]
    return sum(counted.values())
