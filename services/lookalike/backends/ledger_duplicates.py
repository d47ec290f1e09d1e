"""Which images have the same bytes, and verdicts on those that look alike."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Select, delete, func, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from lookalike.backends.ledger_database import Database
from lookalike.backends.ledger_recording import Recording
from lookalike.backends.ledger_states import is_large
from lookalike.backends.ledger_tables import image as images
from lookalike.backends.ledger_tables import is_present
from lookalike.backends.ledger_tables import verdict as verdicts
from lookalike.backends.ledger_values import chunks, moment, to_image
from lookalike.collections import Collection
from lookalike.interfaces import Digest, Image, ImageKey, Judged, Pair, Verdict

SCAN = 20_000  # images that one call looks at for repeated digests


class SqlDuplicates:
    """The part of the ledger that is ``Duplicates``."""

    _database: Database

    def by_key(
        self, collection: Collection, keys: Sequence[ImageKey]
    ) -> dict[ImageKey, Image]:
        """Those of the images that are there, by key."""
        found: dict[ImageKey, Image] = {}
        for chunk in chunks(sorted(set(keys))):
            query = select(images).where(images.c.key.in_(chunk), is_present)
            # Asking for the collection too would make SQLite walk all of it.
            with self._database.reading() as connection:
                for row in connection.execute(query):
                    if row.collection == collection.uid:
                        found[ImageKey(row.key)] = to_image(row)
        return found

    def copies(
        self, collection: Collection, digests: Sequence[Digest], each: int
    ) -> dict[Digest, list[Image]]:
        """Images with those bytes: of each digest the first that came."""
        found: dict[Digest, list[Image]] = {}
        with self._database.reading() as connection:
            for digest in sorted(set(digests)):
                query = (
                    select(images)
                    .where(images.c.digest == digest, is_present)
                    .where(images.c.collection == collection.uid)
                    .order_by(images.c.born_gen, images.c.key)
                    .limit(each)
                )
                if rows := connection.execute(query).all():
                    found[digest] = [to_image(row) for row in rows]
        return found

    def repeated(
        self, collection: Collection, after: Digest | None, limit: int
    ) -> tuple[list[Digest], Digest | None]:
        """The next digests that several images have, and where to go on."""
        with self._database.reading() as connection:
            if is_large(connection, collection):
                found, last = _walked(connection, collection, after)
            else:
                found, last = _counted(connection, collection, after, limit + 1), None
        if len(found) > limit:
            return found[:limit], found[limit - 1]
        return found, last

    def judge(
        self, collection: Collection, pairs: Sequence[Pair], verdict: Verdict
    ) -> list[Judged]:
        """Remember a verdict on each pair, in place of an earlier one."""
        with self._database.writing() as connection:
            recording = Recording(self._database, connection, collection)
            digests = _digests(connection, collection, {k for p in pairs for k in p})
            rows = [
                {
                    "collection": collection.uid,
                    "a": a,
                    "b": b,
                    "a_digest": digests[a],
                    "b_digest": digests[b],
                    "verdict": verdict.value,
                    "created_at": recording.now,
                }
                for a, b in sorted(set(pairs))
                if {a, b} <= digests.keys()
            ]
            if rows:
                made = (sqlite if self._database.is_sqlite else postgresql).insert(
                    verdicts
                )
                changes = ("a_digest", "b_digest", "verdict", "created_at")
                statement = made.on_conflict_do_update(
                    index_elements=["collection", "a", "b"],
                    set_={name: made.excluded[name] for name in changes},
                )
                connection.execute(statement, rows)
        return [_judged_of(row["a"], row["b"], verdict, recording.now) for row in rows]

    def withdraw(self, collection: Collection, pairs: Sequence[Pair]) -> int:
        """Forget the verdicts on those pairs; gives back how many there were."""
        gone = 0
        with self._database.writing() as connection:
            for chunk in chunks(sorted(set(pairs))):
                statement = delete(verdicts).where(
                    verdicts.c.collection == collection.uid,
                    tuple_(verdicts.c.a, verdicts.c.b).in_(chunk),
                )
                gone += connection.execute(statement).rowcount
        return gone

    def judged(
        self, collection: Collection, keys: Sequence[ImageKey]
    ) -> dict[Pair, Verdict]:
        """The verdicts that hold on pairs of which both images are among these."""
        known = set(keys)
        found: dict[Pair, Verdict] = {}
        with self._database.reading() as connection:
            for chunk in chunks(sorted(known)):
                query = _holding(collection).where(verdicts.c.a.in_(chunk))
                for row in connection.execute(query):
                    if row.b in known:
                        found[ImageKey(row.a), ImageKey(row.b)] = Verdict(row.verdict)
        return found

    def verdicts(
        self, collection: Collection, after: Pair | None, limit: int
    ) -> list[Judged]:
        """The next verdicts in order of pair, at most ``limit``."""
        query = _holding(collection)
        if after is not None:
            query = query.where(tuple_(verdicts.c.a, verdicts.c.b) > tuple_(*after))
        query = query.order_by(verdicts.c.a, verdicts.c.b).limit(limit)
        with self._database.reading() as connection:
            return [
                _judged_of(row.a, row.b, Verdict(row.verdict), row.created_at)
                for row in connection.execute(query)
            ]


def _walked(
    connection: Connection, collection: Collection, after: Digest | None
) -> tuple[list[Digest], Digest | None]:
    """Repeated digests in the next part of the order, whosever images these are.

    Only the index of digests is read.
    """
    query = (
        select(images.c.digest, images.c.collection)
        .where(is_present, images.c.digest > (after or ""))
        .order_by(images.c.digest, images.c.collection)
        .limit(SCAN)
    )
    rows = connection.execute(query).all()
    counts = {
        digest: sum(row.collection == collection.uid for row in group)
        for digest, group in groupby(rows, key=lambda row: row.digest)
    }
    last: Digest | None = None
    if len(rows) == SCAN:  # the last one may have more images than were read
        cut = rows[-1].digest
        if len(counts) > 1:
            del counts[cut]
        last = Digest(max(counts))
    return [Digest(one) for one, count in counts.items() if count > 1], last


def _counted(
    connection: Connection, collection: Collection, after: Digest | None, limit: int
) -> list[Digest]:
    query = (
        select(images.c.digest)
        .where(images.c.collection == collection.uid, is_present)
        .where(images.c.digest > (after or ""))
        .group_by(images.c.digest)
        .having(func.count() > 1)
        .order_by(images.c.digest)
        .limit(limit)
    )
    return [Digest(one) for one in connection.execute(query).scalars()]


def _digests(
    connection: Connection, collection: Collection, keys: set[ImageKey]
) -> dict[str, str]:
    found: dict[str, str] = {}
    for chunk in chunks(sorted(keys)):
        query = select(images.c.key, images.c.collection, images.c.digest).where(
            images.c.key.in_(chunk), is_present
        )
        for row in connection.execute(query):
            if row.collection == collection.uid:
                found[row.key] = row.digest
    return found


def _holding(collection: Collection) -> Select[Any]:
    """Verdicts on images that are there with the pictures they had."""
    a, b = images.alias(), images.alias()
    return (
        select(verdicts)
        .join(a, (a.c.key == verdicts.c.a) & (a.c.digest == verdicts.c.a_digest))
        .join(b, (b.c.key == verdicts.c.b) & (b.c.digest == verdicts.c.b_digest))
        .where(
            verdicts.c.collection == collection.uid,
            a.c.want == "present",
            b.c.want == "present",
        )
    )


def _judged_of(a: Any, b: Any, verdict: Verdict, seconds: float) -> Judged:
    return Judged((ImageKey(a), ImageKey(b)), verdict, moment(seconds))
