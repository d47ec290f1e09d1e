"""How many images have which metadata, on every database."""

from __future__ import annotations

from ledgers import a_collection, an_image, index_all
from lookalike.backends.ledger import SqlLedger
from lookalike.collections import Collection, Metadata
from lookalike.interfaces import ImageId

CHEAP: Metadata = {"price": 1.5}
TAGGED: Metadata = {"price": 1.5, "tags": ["é", 'quo"ted', "back\\slash"]}


def put(ledger: SqlLedger, shop: Collection, held: dict[str, Metadata]) -> None:
    images = [
        an_image(name, position=place, metadata=metadata)
        for place, (name, metadata) in enumerate(held.items())
    ]
    index_all(ledger, ledger.accept(shop, images))


def counted(ledger: SqlLedger, shop: Collection) -> list[tuple[Metadata, int]]:
    return sorted(ledger.metadata_counts(shop), key=str)


def test_equal_metadata_are_counted_together(
    ledger: SqlLedger, shop: Collection
) -> None:
    put(ledger, shop, {"a": CHEAP, "b": TAGGED, "c": CHEAP, "d": {}})

    assert counted(ledger, shop) == sorted([(CHEAP, 2), (TAGGED, 1), ({}, 1)], key=str)


def test_a_collection_without_images_has_none(
    ledger: SqlLedger, shop: Collection
) -> None:
    assert counted(ledger, shop) == []


def test_images_of_other_collections_are_not_counted(
    ledger: SqlLedger, shop: Collection
) -> None:
    other = a_collection(name="other")
    ledger.create_collection(other)
    put(ledger, shop, {"a": CHEAP})
    put(ledger, other, {"a": CHEAP})

    assert counted(ledger, shop) == [(CHEAP, 1)]


def test_an_image_is_counted_from_when_it_can_be_found(
    ledger: SqlLedger, shop: Collection
) -> None:
    ledger.accept(shop, [an_image("a", metadata=CHEAP)])

    assert counted(ledger, shop) == []


def test_a_deleted_image_is_not_counted_nor_its_next_life_too_early(
    ledger: SqlLedger, shop: Collection
) -> None:
    put(ledger, shop, {"a": CHEAP, "b": CHEAP})

    ledger.delete_images(shop, [ImageId("a")])
    gone = counted(ledger, shop)
    ledger.accept(shop, [an_image("a", metadata=CHEAP)])

    assert gone == [(CHEAP, 1)]
    assert counted(ledger, shop) == [(CHEAP, 1)]


def test_an_image_whose_picture_is_replaced_counts_by_its_new_metadata(
    ledger: SqlLedger, shop: Collection
) -> None:
    put(ledger, shop, {"a": CHEAP})

    ledger.accept(shop, [an_image("a", content="another", metadata=TAGGED)])

    # A search finds it by its old vector and tells its new metadata.
    assert counted(ledger, shop) == [(TAGGED, 1)]
