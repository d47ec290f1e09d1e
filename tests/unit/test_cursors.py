from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from lookalike.collections import Collection, Metric
from lookalike.cursors import (
    MAX_COMPARED_DEPTH,
    MAX_DEPTH,
    from_cursor,
    to_cursor,
)
from lookalike.errors import BadQuery, LookalikeError
from lookalike.filters import parse
from lookalike.interfaces import ImageId
from lookalike.queries import Example, Numbers, Picture, Query, Stored, Strategy
from lookalike.results import MARK, Want
from vector_shelf import FIELDS, FIRST, VectorShelf, at, near

WANT = Want(limit=2)


@pytest.fixture
def shelf(tmp_path: Path) -> VectorShelf:
    shelf = VectorShelf(tmp_path)
    shelf.put({f"{n}": at(1 - n / 100) for n in range(8)})
    return shelf


@pytest.fixture
def cursor(shelf: VectorShelf) -> str:
    found = shelf.find(FIRST, WANT)
    assert found.next_cursor is not None
    return found.next_cursor


def code_of(
    shelf: VectorShelf, cursor: str, want: Want = WANT, query: Query | None = None
) -> str:
    with pytest.raises(LookalikeError) as caught:
        shelf.searcher.next_page(shelf.collection, cursor, want, query)
    return caught.value.code


def test_a_cursor_is_plain_text_for_an_address(cursor: str) -> None:
    assert cursor.replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize("strategy", Strategy)
def test_a_cursor_remembers_the_query(shelf: VectorShelf, strategy: Strategy) -> None:
    query = Query(
        (Example(Stored(ImageId("1")), 2.0), Example(Numbers([1.0] * 8))),
        (Example(Stored(ImageId("5"))),),
        strategy,
    )
    found = shelf.searcher.search(shelf.collection, query, WANT)
    assert found.next_cursor is not None

    place = from_cursor(found.next_cursor, shelf.collection, WANT, query)

    assert place.probe.vectors.shape == (3, 8)
    assert place.probe.weights.tolist() == pytest.approx([2.0, 1.0, 0.3])
    assert place.probe.positives == 2
    assert place.probe.strategy is strategy
    assert len(place.probe.ids) == 2
    assert len(place.shown) == 2


@pytest.mark.parametrize("cursor", ["", "x", "abc", "AAAA", "%%%", "é", "A" * 200])
def test_what_is_no_cursor_is_refused(shelf: VectorShelf, cursor: str) -> None:
    assert code_of(shelf, cursor) == "cursor_invalid"


def test_a_cursor_with_any_byte_changed_is_refused(
    shelf: VectorShelf, cursor: str
) -> None:
    data = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))

    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1
        text = base64.urlsafe_b64encode(bytes(changed)).decode().rstrip("=")
        assert code_of(shelf, text) == "cursor_invalid"


def test_a_cursor_cut_anywhere_is_refused(shelf: VectorShelf, cursor: str) -> None:
    for length in range(len(cursor)):
        assert code_of(shelf, cursor[:length]) == "cursor_invalid"


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 0.0])
def test_a_forged_vector_is_refused(
    shelf: VectorShelf, cursor: str, number: float
) -> None:
    place = from_cursor(cursor, shelf.collection, WANT, None)
    forged = replace(
        place, probe=replace(place.probe, vectors=place.probe.vectors * 0 + number)
    )

    assert code_of(shelf, to_cursor(forged, shelf.collection)) == "cursor_invalid"


def test_numbers_that_do_not_fit_together_are_refused(shelf: VectorShelf) -> None:
    body = bytes([1, 0, 200, 200]) + bytes(40)
    checksum = hashlib.sha256(b"lookalike cursor" + body).digest()[:8]
    text = base64.urlsafe_b64encode(body + checksum).decode().rstrip("=")

    assert code_of(shelf, text) == "cursor_invalid"


OTHERS = {
    "filter": replace(WANT, condition=parse({"size": 1}, FIELDS)),
    "min_score": replace(WANT, min_score=0.5),
    "group_by": replace(WANT, group_by="product"),
    "group_size": replace(WANT, group_by="product", group_size=2),
    "diversity": replace(WANT, diversity=0.5),
    "collapse_duplicates": replace(WANT, collapse_duplicates=True),
    "include_query": replace(WANT, include_query=True),
}


@pytest.mark.parametrize("changed", OTHERS)
def test_a_cursor_of_another_search_is_refused(
    shelf: VectorShelf, cursor: str, changed: str
) -> None:
    assert code_of(shelf, cursor, OTHERS[changed]) == "cursor_mismatch"


def test_a_cursor_of_another_collection_is_refused(
    shelf: VectorShelf, cursor: str, tmp_path: Path
) -> None:
    other = VectorShelf(tmp_path / "other")
    longer = replace(other.collection, dimension=16)

    def code(collection: Collection) -> str:
        with pytest.raises(BadQuery) as caught:
            other.searcher.next_page(collection, cursor, WANT, None)
        return caught.value.code

    assert code(other.collection) == "cursor_mismatch"
    assert code(longer) == "cursor_mismatch"


def test_the_query_may_be_sent_again_but_not_changed(
    shelf: VectorShelf, cursor: str
) -> None:
    same = shelf.searcher.next_page(shelf.collection, cursor, WANT, near(FIRST))

    assert [match.id for match in same.matches] == ["2", "3"]
    assert code_of(shelf, cursor, WANT, near(at(0.5))) == "cursor_mismatch"
    picture = Query.of(Picture(b"another"))
    assert code_of(shelf, cursor, WANT, picture) == "cursor_mismatch"


def test_limit_and_explain_may_change_between_pages(
    shelf: VectorShelf, cursor: str
) -> None:
    want = replace(WANT, limit=4, explain=True)

    found = shelf.searcher.next_page(shelf.collection, cursor, want, None)

    assert [match.id for match in found.matches] == ["2", "3", "4", "5"]


@pytest.mark.parametrize(
    ("want", "most"),
    [(WANT, MAX_DEPTH), (replace(WANT, diversity=0.1), MAX_COMPARED_DEPTH)],
)
def test_pages_end_at_a_depth_that_is_told(
    shelf: VectorShelf, want: Want, most: int
) -> None:
    def cursor(shown: int) -> str:
        marks = frozenset(n.to_bytes(MARK, "big") for n in range(shown))
        first = shelf.find(FIRST, want).next_cursor
        assert first is not None
        place = from_cursor(first, shelf.collection, want, None)
        return to_cursor(replace(place, shown=marks), shelf.collection)

    found = shelf.searcher.next_page(shelf.collection, cursor(most - 1), want, None)

    assert len(found.matches) == 2
    with pytest.raises(BadQuery) as caught:
        shelf.searcher.next_page(shelf.collection, cursor(most), want, None)
    assert caught.value.code == "page_too_deep"
    assert caught.value.extra["limit"] == most
    assert "filter" in caught.value.detail


def test_another_metric_keeps_vectors_as_they_are(tmp_path: Path) -> None:
    shelf = VectorShelf(tmp_path, metric=Metric.EUCLIDEAN)
    shelf.put({f"{n}": [float(n)] * 8 for n in range(6)})

    pages = shelf.pages([1.0] * 8, Want(limit=2))

    assert pages == [["1", "0"], ["2", "3"], ["4", "5"]]
