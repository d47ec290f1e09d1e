"""What keeps the ledger, and the index that it describes, in order."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select, update

from lookalike.backends import ledger_leases as leases
from lookalike.backends import ledger_pruning as pruning
from lookalike.backends import ledger_repairs as repairs
from lookalike.backends.ledger_database import Database
from lookalike.backends.ledger_recording import Recording
from lookalike.backends.ledger_states import read_states
from lookalike.backends.ledger_tables import (
    collection as collections,
)
from lookalike.backends.ledger_tables import (
    image as images,
)
from lookalike.backends.ledger_tables import (
    is_pending,
    is_present,
    schema,
    work,
)
from lookalike.backends.ledger_values import chunks
from lookalike.collections import Collection, Team
from lookalike.interfaces import Digest, ImageKey, KeyState, WorkId

DAY_SECONDS = 86_400.0
RECOVERY_SECONDS = 600  # millions of pieces of work take their time


class SqlUpkeep:
    """The part of the ledger for housekeeping, and for processes at their start."""

    _database: Database
    _owner: str  # tells this ledger from others on the same database
    _sweep_lease_seconds: float
    _idempotency_seconds: float

    def pending(self) -> int:
        """How many pieces of work are not finished."""
        query = select(func.count()).select_from(work).where(is_pending)
        with self._database.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def has_pending(self) -> bool:
        """Whether any piece of work is not finished."""
        query = select(work.c.id).where(is_pending).limit(1)
        with self._database.reading() as connection:
            return connection.execute(query).first() is not None

    def recover(self) -> None:
        """Make all pending work due now, whoever held it."""
        unheld = update(work).where(is_pending).values(lease_until=0.0, hinted_at=0.0)
        with self._database.writing(seconds=RECOVERY_SECONDS) as connection:
            connection.execute(unheld)
        seconds = self._sweep_lease_seconds
        leases.seize(self._database, leases.SWEEP, self._owner, seconds)

    def turn(self, name: str, every_seconds: float) -> bool:
        """Whether it is this caller's turn to do what is done now and then."""
        return leases.take_turn(
            self._database, f"turn {name}", self._owner, every_seconds
        )

    def states(
        self, collection: Collection, after: ImageKey | None, limit: int
    ) -> list[KeyState]:
        """The next keys in order, at most ``limit``; those of deleted images too."""
        with self._database.reading() as connection:
            return read_states(connection, collection, after, limit)

    def repair(self, collection: Collection, keys: Sequence[ImageKey]) -> list[WorkId]:
        """Have the newest state of those images written to the index once more."""
        with self._database.writing() as connection:
            now = Recording(self._database, connection, collection).now
            return repairs.repair(connection, collection, keys, now)

    def named_digests(self, team: Team, digests: Sequence[Digest]) -> set[Digest]:
        """Those of the digests whose originals some image of the team needs."""
        mine = select(collections.c.uid).where(collections.c.team == team)
        with self._database.reading() as connection:
            uids = set(connection.execute(mine).scalars())
        found: set[Digest] = set()
        for chunk in chunks(digests):
            query = select(images.c.digest, images.c.collection).where(
                images.c.digest.in_(chunk), is_present
            )
            # Asking for the collections too would make SQLite walk all of them.
            with self._database.reading() as connection:
                rows = connection.execute(query).all()
            found.update(Digest(row.digest) for row in rows if row.collection in uids)
        return found

    def prune(self, keep_days: float) -> int:
        """Forget what ended long ago; gives back how many rows that were."""
        with self._database.reading() as connection:
            now = self._database.now(connection)
        return pruning.prune(
            self._database,
            ended_before=now - keep_days * DAY_SECONDS,
            keys_before=now - self._idempotency_seconds,
        )

    def check(self) -> None:
        """Return if the ledger can be read and written now."""
        with self._database.writing() as connection:
            now = self._database.now(connection)
            connection.execute(update(schema).values(checked_at=now))

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()
