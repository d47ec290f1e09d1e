"""Which failures of a job can be tried again."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import select

from lookalike.backends.ledger_database import Database
from lookalike.backends.ledger_tables import image, is_failed, is_present, work
from lookalike.backends.ledger_values import Rows
from lookalike.errors import NothingToRetry
from lookalike.interfaces import JobId, Operation

PAGE = 2_000  # failures that are taken in again in one transaction


def pages(database: Database, job_id: JobId) -> Iterator[tuple[Rows, bool]]:
    """The failures to try again, a page at a time, and whether more pages come.

    There is one page at least, which may be empty. Each is read when it is asked for.
    """
    after, more = -1, True
    while more:
        rows = _retryable(database, job_id, after)
        more = len(rows) == PAGE
        yield rows, more
        after = rows[-1].position if rows else after


def nothing_to_retry() -> NothingToRetry:
    """The error for a job without a failure that can be tried again."""
    return NothingToRetry(
        "No failure of this job can be tried again: none is retryable, or the images "
        "were ingested again, changed or deleted since."
    )


def _retryable(database: Database, job_id: JobId, after: int) -> Rows:
    """The next failures that no newer operation has overtaken, in order of position.

    What was refused when its request came was never kept, and has no key.
    """
    query = (
        select(work.c.position, work.c.key, work.c.image_id, work.c.gen)
        .join(image, image.c.key == work.c.key)
        .where(
            work.c.job == job_id,
            is_failed,
            work.c.retryable,
            work.c.position > after,
            work.c.op != Operation.DELETE.value,
            image.c.gen == work.c.gen,
            image.c.failed.is_not(None),
            is_present,
        )
        .order_by(work.c.position)
        .limit(PAGE)
    )
    with database.reading() as connection:
        return list(connection.execute(query))
