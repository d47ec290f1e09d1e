"""Searches go before uploads inside one process."""

from __future__ import annotations

import threading
import time

import pytest

from lookalike.api.precedence import LONGEST_SECONDS, Precedence
from lookalike.errors import Overloaded


def test_an_upload_over_the_limit_is_refused_at_once() -> None:
    precedence = Precedence(1)

    with (
        precedence.uploading(),
        pytest.raises(Overloaded) as caught,
        precedence.uploading(),
    ):
        pass

    assert (caught.value.code, caught.value.retryable) == ("too_many_uploads", True)


def test_the_place_of_an_upload_that_failed_is_free_again() -> None:
    precedence = Precedence(1)

    with pytest.raises(ZeroDivisionError), precedence.uploading():
        raise ZeroDivisionError

    with precedence.uploading():
        pass


def test_an_image_of_an_upload_waits_for_the_search_that_runs() -> None:
    precedence = Precedence(1, longest_seconds=60)
    order: list[str] = []
    entered = threading.Event()

    def upload() -> None:
        entered.set()
        with precedence.turn():
            order.append("upload")

    with precedence.searching():
        thread = threading.Thread(target=upload)
        thread.start()
        entered.wait()
        order.append("search")
    thread.join()

    assert order == ["search", "upload"]


def test_uploads_go_on_under_searches_without_end() -> None:
    precedence = Precedence(1)
    began = time.monotonic()

    with precedence.searching(), precedence.turn():
        waited = time.monotonic() - began

    assert waited >= LONGEST_SECONDS * 0.9
