"""What the ledger knows of collections and their images."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import case, delete, func, insert, select
from sqlalchemy.exc import IntegrityError

from lookalike.backends import ledger_ends as ends
from lookalike.backends.ledger_database import Database
from lookalike.backends.ledger_locks import seize_collection
from lookalike.backends.ledger_tables import (
    calibration as calibrations,
)
from lookalike.backends.ledger_tables import (
    collection as collections,
)
from lookalike.backends.ledger_tables import image as images
from lookalike.backends.ledger_tables import is_present
from lookalike.backends.ledger_tables import verdict as verdicts
from lookalike.backends.ledger_values import (
    chunks,
    collection_row,
    is_storable,
    row_type,
    storable,
    to_collection,
    to_image,
)
from lookalike.collections import Collection, Team
from lookalike.errors import CollectionExists, CollectionNotFound, ImageNotFound
from lookalike.interfaces import Hit, Image, ImageId, ImageKey, ImageState, image_key

DELETE_SECONDS = 600  # a collection of millions of images takes its time

# Every search asks these two.
CollectionRow = row_type(collections)
ImageRow = row_type(images)
FIND_COLLECTION = (
    f"SELECT {', '.join(CollectionRow._fields)} FROM collection "
    "WHERE team = ? AND name = ?"
)
FIND_IMAGES = (
    f"SELECT {', '.join(ImageRow._fields)} FROM image "
    "WHERE want = 'present' AND key IN "
)


class SqlCatalogue:
    """The part of the ledger that is a ``Catalogue`` and ``Images``."""

    _database: Database

    # --- collections -----------------------------------------------------------------

    def create_collection(self, collection: Collection) -> None:
        """Record a collection."""
        with self._database.writing() as connection:
            try:
                row = collection_row(collection)
                connection.execute(insert(collections).values(row))
            except IntegrityError as error:
                raise CollectionExists(
                    f"There is a collection {collection.name!r} already."
                ) from error

    def collection(self, team: Team, name: str) -> Collection:
        """A collection by name."""
        if is_storable(name):
            for row in self._database.fetch(FIND_COLLECTION, (team, name)):
                return to_collection(CollectionRow(*row))
        raise CollectionNotFound(f"There is no collection {name[:80]!r}.")

    def collections(self, team: Team) -> list[Collection]:
        """All collections of a team, by name."""
        query = select(collections).where(collections.c.team == team)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(collections.c.name))
            return [to_collection(row) for row in rows]

    def delete_collection(self, collection: Collection) -> None:
        """Forget a collection with its images; pending work is superseded."""
        uid = collection.uid
        with self._database.writing(seconds=DELETE_SECONDS) as connection:
            seize_collection(connection, uid)
            ends.supersede_collection(connection, uid, self._database.now(connection))
            for table in (images, verdicts, calibrations):
                connection.execute(delete(table).where(table.c.collection == uid))
            connection.execute(delete(collections).where(collections.c.uid == uid))

    def image_counts(self, collection: Collection) -> dict[ImageState, int]:
        """How many images the collection has, by state."""
        state = case(
            (images.c.indexed_gen == images.c.gen, ImageState.INDEXED.value),
            (images.c.failed.is_(None), ImageState.PENDING.value),
            else_=ImageState.FAILED.value,
        ).label("state")
        query = (
            select(state, func.count().label("images"))
            .where(images.c.collection == collection.uid, is_present)
            .group_by(state)
        )
        counts = dict.fromkeys(ImageState, 0)
        with self._database.reading() as connection:
            for row in connection.execute(query):
                counts[ImageState(row.state)] = row.images
        return counts

    # --- images ----------------------------------------------------------------------

    def image(self, collection: Collection, image_id: ImageId) -> Image:
        """One image."""
        if is_storable(image_id):
            key = image_key(collection.team, collection.uid, image_id)
            query = select(images).where(images.c.key == key, is_present)
            with self._database.reading() as connection:
                if row := connection.execute(query).one_or_none():
                    return to_image(row)
        raise no_image(image_id)

    def images(
        self, collection: Collection, after: ImageId | None, limit: int
    ) -> list[Image]:
        """The next images in order of id, at most ``limit``."""
        query = select(images).where(images.c.collection == collection.uid, is_present)
        if after is not None:
            query = query.where(images.c.image_id > storable(after))
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(images.c.image_id).limit(limit))
            return [to_image(row) for row in rows]

    def verified(
        self, collection: Collection, hits: Sequence[Hit]
    ) -> dict[ImageKey, Image]:
        """The images behind those hits that may be returned now."""
        gens = {hit.key: hit.gen for hit in hits}
        found: dict[ImageKey, Image] = {}
        for keys in chunks(gens):
            places = ", ".join("?" * len(keys))
            for fetched in self._database.fetch(f"{FIND_IMAGES} ({places})", keys):
                row = ImageRow(*fetched)
                # Asking for the collection too would make SQLite walk all of it.
                is_mine = row.collection == collection.uid
                # An older vector is of a life that a deletion has ended.
                if is_mine and gens[row.key] >= row.born_gen:
                    found[row.key] = to_image(row)
        return found


def no_image(image_id: ImageId) -> ImageNotFound:
    """The error for an image that is not there."""
    return ImageNotFound(f"There is no image {image_id[:80]!r}.")
