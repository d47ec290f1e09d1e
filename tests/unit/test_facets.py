from __future__ import annotations

from pathlib import Path

import pytest

from ledgers import an_image
from lookalike.collections import Metadata
from lookalike.errors import BadQuery
from lookalike.facets import Facet, count_facets
from lookalike.filters import parse
from lookalike.interfaces import ImageId
from vector_shelf import FIELDS, FIRST, VectorShelf

METADATA: dict[str, Metadata] = {
    "a": {"product": "x", "tags": ["red", "big"], "size": 1},
    "b": {"product": "x", "tags": ["red", "red"], "size": 2},
    "c": {"product": "y", "size": 2, "is_new": True},
    "d": {},
}


@pytest.fixture
def shelf(tmp_path: Path) -> VectorShelf:
    shelf = VectorShelf(tmp_path)
    shelf.put(dict.fromkeys(METADATA, FIRST), METADATA)
    return shelf


def facet(shelf: VectorShelf, name: str, raw: object = None, limit: int = 20) -> Facet:
    condition = parse(raw, FIELDS)
    made = count_facets(shelf.ledger, shelf.collection, [name], condition, limit)
    return made.fields[name]


def test_values_are_counted_most_first_and_then_by_value(shelf: VectorShelf) -> None:
    assert facet(shelf, "product") == Facet((("x", 2), ("y", 1)), 2, 1)
    assert facet(shelf, "is_new") == Facet(((True, 1),), 1, 3)
    assert facet(shelf, "size").values == ((2, 2), (1, 1))


def test_an_image_counts_once_for_each_entry_of_a_list(shelf: VectorShelf) -> None:
    assert facet(shelf, "tags") == Facet((("red", 2), ("big", 1)), 2, 2)


def test_only_images_that_satisfy_the_filter_are_counted(shelf: VectorShelf) -> None:
    assert facet(shelf, "product", {"size": 2}).values == (("x", 1), ("y", 1))
    whole = count_facets(shelf.ledger, shelf.collection, [], parse({"size": 2}, FIELDS))
    assert whole.images == 2


def test_less_frequent_values_are_only_numbered(shelf: VectorShelf) -> None:
    assert facet(shelf, "product", limit=1) == Facet((("x", 2),), 2, 1)


def test_what_no_search_finds_is_not_counted(shelf: VectorShelf) -> None:
    shelf.ledger.delete_images(shelf.collection, [ImageId("a")])  # not yet done
    shelf.ledger.accept(shelf.collection, [an_image("e", metadata={"product": "z"})])

    assert facet(shelf, "product").values == (("x", 1), ("y", 1))


def test_changed_metadata_are_counted_at_once(shelf: VectorShelf) -> None:
    shelf.ledger.update_metadata(shelf.collection, ImageId("a"), {"product": "other"})

    counted = dict(facet(shelf, "product").values)
    assert counted == {"x": 1, "y": 1, "other": 1}


@pytest.mark.parametrize(
    ("fields", "limit", "code"),
    [
        (["produkt"], 20, "query_unknown_field"),
        (["product"] * 11, 20, "query_invalid"),
        (["product"], 0, "limit_invalid"),
        (["product"], 1_001, "limit_invalid"),
        (["where"], 20, "query_wrong_type"),
    ],
)
def test_what_cannot_be_counted_is_refused(
    shelf: VectorShelf, fields: list[str], limit: int, code: str
) -> None:
    with pytest.raises(BadQuery) as caught:
        count_facets(shelf.ledger, shelf.collection, fields, None, limit)

    assert caught.value.code == code
