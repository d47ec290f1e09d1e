"""What each image must be by now, out of the ack log alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from faults.acks import Event, Item, Operation


@dataclass(frozen=True)
class State:
    """An image that is there: which bytes, and which metadata."""

    version: int
    tag: int


Possible = frozenset[State | None]  # None: it is not there
NOWHERE: Possible = frozenset({None})


@dataclass
class Model:
    """Every id with the states it may be in; usually one, more if answers were lost.

    A client asks for one thing of an id at a time, and asks again until it is
    answered. So an answer settles what the tries before it left open; except those
    whose client stopped waiting while the server went on: they may still come true.

    Attributes:
        states: of every id that was ever asked for.
        jobs: acknowledged jobs, with how many images each has to count.
        keys: each key that was acknowledged, with the job it was answered with.
        puts: the requests of those keys that brought images.
        broken: by job, how many of its files were no pictures.
        contradictions: answers that cannot both be true.
    """

    states: dict[str, Possible] = field(default_factory=dict)
    jobs: dict[str, int] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    puts: dict[str, Operation] = field(default_factory=dict)
    broken: dict[str, int] = field(default_factory=dict)
    contradictions: list[str] = field(default_factory=list)
    _open: dict[int, Operation] = field(default_factory=dict)
    _late: dict[str, set[State | None]] = field(default_factory=dict)

    @classmethod
    def of(cls, events: Iterable[Event]) -> Model:
        """The model after these events."""
        model = cls()
        for event in events:
            model.apply(event)
        for image_id, late in model._late.items():
            model.states[image_id] |= late
        return model

    def apply(self, event: Event) -> None:
        """One event more."""
        if event.operation is not None:
            self._open[event.number] = event.operation
            for item in sound(event.operation):
                before = self.states.get(item.id, NOWHERE)
                self.states[item.id] = before | after(event.operation, item, before)
            return
        operation = self._open.pop(event.number)
        if event.what == "ack":
            self._settle(operation, event)
        elif event.what == "late":
            for item in sound(operation):
                states = after(operation, item, self.states[item.id])
                self._late.setdefault(item.id, set()).update(states)

    def _settle(self, operation: Operation, event: Event) -> None:
        for item in sound(operation):
            if event.status == 404:  # nothing there to change or to delete
                self.states[item.id] = NOWHERE
            else:
                self.states[item.id] = after(operation, item, self.states[item.id])
        if not event.job:
            return
        if self.keys.setdefault(operation.key, event.job) != event.job:
            self.contradictions.append(
                f"key {operation.key} was answered with jobs "
                f"{self.keys[operation.key]} and {event.job}"
            )
        if operation.kind == "put":
            self.puts[operation.key] = operation
            self.jobs[event.job] = len(operation.items)
            self.broken[event.job] = sum(item.is_broken for item in operation.items)


def sound(operation: Operation) -> list[Item]:
    """The images that a request changes, if it is carried out."""
    return [item for item in operation.items if not item.is_broken]


def after(operation: Operation, item: Item, before: Possible) -> Possible:
    """What an image may be after an operation on what it may have been."""
    if operation.kind == "put":
        return frozenset({State(item.version, item.tag)})
    if operation.kind == "delete":
        return NOWHERE
    return frozenset(
        None if state is None else State(state.version, item.tag) for state in before
    )
