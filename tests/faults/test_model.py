"""The model of the fault tests: what may be, out of what was answered."""

from __future__ import annotations

from pathlib import Path

from faults.acks import AckLog, Event, Item, Operation, acknowledged_images, read
from faults.model import Model, State


def put(version: int, key: str = "k") -> Operation:
    return Operation("put", key, (Item("a", version, tag=version),))


DELETE = Operation("delete", "d", (Item("a"),))
PATCH = Operation("patch", "p", (Item("a", tag=9),))


def story(*events: Event) -> Model:
    return Model.of(events)


def test_an_answer_settles_what_an_image_is() -> None:
    model = story(
        Event("try", 1, operation=put(1)), Event("ack", 1, status=202, job="j")
    )

    assert model.states == {"a": {State(1, 1)}}
    assert model.jobs == {"j": 1}


def test_without_an_answer_both_are_possible() -> None:
    model = story(Event("try", 1, operation=put(1)), Event("unanswered", 1))

    assert model.states == {"a": {None, State(1, 1)}}


def test_the_answer_to_a_repeat_settles_the_try_before_it() -> None:
    model = story(
        Event("try", 1, operation=put(1)),
        Event("unanswered", 1),
        Event("try", 2, operation=put(1)),
        Event("ack", 2, status=202, job="j"),
        Event("try", 3, operation=DELETE),
        Event("ack", 3, status=200, job="k"),
    )

    assert model.states == {"a": {None}}


def test_what_its_client_no_longer_waits_for_may_come_true_later() -> None:
    model = story(
        Event("try", 1, operation=put(1)),
        Event("late", 1),
        Event("try", 2, operation=DELETE),
        Event("ack", 2, status=200, job="j"),
    )

    assert model.states == {"a": {None, State(1, 1)}}


def test_other_metadata_leave_the_bytes_as_they_are() -> None:
    model = story(
        Event("try", 1, operation=put(4)),
        Event("ack", 1, status=202, job="j"),
        Event("try", 2, operation=PATCH),
        Event("ack", 2, status=200),
    )

    assert model.states == {"a": {State(4, 9)}}


def test_one_key_with_two_jobs_is_a_contradiction() -> None:
    model = story(
        Event("try", 1, operation=put(1)),
        Event("ack", 1, status=202, job="first"),
        Event("try", 2, operation=put(1)),
        Event("ack", 2, status=202, job="second"),
    )

    assert len(model.contradictions) == 1


def test_the_log_gives_back_what_was_written(tmp_path: Path) -> None:
    log = AckLog(tmp_path / "acks")
    number = log.tried(put(1))
    log.noted("ack", number, status=202, job="j")
    log.close()

    events = list(read(log.path))

    assert [event.what for event in events] == ["try", "ack"]
    assert events[0].operation == put(1)
    assert acknowledged_images(events) == 1
