"""What the scores of collections mean, as it was last found out."""

from __future__ import annotations

from sqlalchemy.dialects import postgresql, sqlite

from lookalike.backends.ledger_database import Database
from lookalike.backends.ledger_recording import Recording
from lookalike.backends.ledger_tables import calibration as calibrations
from lookalike.backends.ledger_values import moment
from lookalike.collections import Collection
from lookalike.relevance import Calibration, from_text, to_text


class SqlCalibrations:
    """The part of the ledger that is ``Calibrations``."""

    _database: Database

    def calibration(self, collection: Collection) -> Calibration | None:
        """What the scores mean; None if that was not found out for this backbone."""
        query = (
            "SELECT fingerprint, made_at, text FROM calibration "
            "WHERE collection = ? AND fingerprint = ?"
        )
        known = (collection.uid, collection.fingerprint)
        for fingerprint, made_at, text in self._database.fetch(query, known):
            return from_text(text, fingerprint, moment(made_at))
        return None

    def keep_calibration(
        self, collection: Collection, calibration: Calibration
    ) -> None:
        """Remember what the scores mean, in place of what was known of them."""
        row = {
            "fingerprint": calibration.fingerprint,
            "made_at": calibration.made_at.timestamp(),
            "text": to_text(calibration),
        }
        dialect = sqlite if self._database.is_sqlite else postgresql
        made = dialect.insert(calibrations).values(collection=collection.uid, **row)
        with self._database.writing() as connection:
            Recording(self._database, connection, collection)  # it is still there
            connection.execute(
                made.on_conflict_do_update(
                    index_elements=[calibrations.c.collection], set_=row
                )
            )
