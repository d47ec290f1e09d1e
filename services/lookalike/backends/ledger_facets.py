"""How many images of a collection have which metadata."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

from sqlalchemy import select

from lookalike.backends.ledger_database import Database
from lookalike.backends.ledger_tables import image as images
from lookalike.backends.ledger_tables import is_present
from lookalike.collections import Collection, Metadata

PAGE = 10_000  # images read at once, so that no statement takes long


class SqlFacets:
    """The part of the ledger that is ``Facets``."""

    _database: Database

    def metadata_counts(self, collection: Collection) -> Iterator[tuple[Metadata, int]]:
        """Metadata of findable images, and how many have them."""
        query = (
            select(images.c.image_id, images.c.metadata)
            .where(
                images.c.collection == collection.uid,
                is_present,
                # The index holds a vector of the life that the image has now.
                images.c.indexed_gen >= images.c.born_gen,
            )
            .order_by(images.c.image_id)
            .limit(PAGE)
        )
        after = ""
        while True:
            with self._database.reading() as connection:
                rows = connection.execute(query.where(images.c.image_id > after)).all()
            # The text is canonical: equal metadata are equal text.
            for text, count in Counter(row.metadata for row in rows).items():
                yield json.loads(text), count
            if len(rows) < PAGE:
                return
            after = rows[-1].image_id
