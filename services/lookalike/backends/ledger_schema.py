"""The ledger's schema: made where there is none, brought up where it is older."""

from __future__ import annotations

import re

from sqlalchemy import Column, Connection, insert, inspect, select, text, update
from sqlalchemy.schema import CreateColumn

from lookalike.backends import ledger_tables as tables
from lookalike.errors import Misconfigured

SCHEMA_LOCK = 0x6C6F6F6B  # any number no other application is likely to lock

TEAM_OF_WORK = """
UPDATE work SET team = COALESCE(
    (SELECT job.team FROM job WHERE job.id = work.job),
    (SELECT collection.team FROM collection WHERE collection.uid = work.collection),
    ''
)
"""


def is_current(connection: Connection) -> bool:
    """Whether the schema is there, and of this version."""
    if not inspect(connection).has_table(tables.schema.name):
        return False
    found = connection.scalar(select(tables.schema.c.version))
    return bool(found == tables.SCHEMA)


def prepare(connection: Connection) -> None:
    """Leave a schema of this version, whatever older one there was.

    Raises:
        Misconfigured: a newer Lookalike wrote the schema, or it cannot hold all text.
    """
    if connection.dialect.name == "postgresql":
        _check_encoding(connection)
        # Processes that start together would otherwise both create.
        connection.execute(
            text("SELECT pg_advisory_xact_lock(:key)"), {"key": SCHEMA_LOCK}
        )
    tables.metadata.create_all(connection)
    found = connection.scalar(select(tables.schema.c.version))
    if found is None:
        row = {"id": 1, "version": tables.SCHEMA}
        connection.execute(insert(tables.schema).values(row))
    elif found in (1, 2):
        if found == 1:
            _from_1_to_2(connection)
        _from_2_to_3(connection)
        _create_indexes(connection)
        connection.execute(update(tables.schema).values(version=tables.SCHEMA))
    elif found != tables.SCHEMA:
        raise Misconfigured(
            f"The ledger's database has schema {found}; this version of Lookalike "
            f"works with schema {tables.SCHEMA}. Run the version that wrote it, or "
            "point LOOKALIKE_DATABASE_URL at another database."
        )


def _from_1_to_2(connection: Connection) -> None:
    """Work knows its team, and what ended knows when."""
    _add_column(connection, tables.work.c.team)
    _add_column(connection, tables.work.c.ended_at)
    connection.execute(text(TEAM_OF_WORK))
    connection.execute(text("DROP INDEX work_due"))  # it was without the team


def _from_2_to_3(connection: Connection) -> None:
    """Collections have options, and images know whom they look like."""
    _add_column(connection, tables.collection.c.options)
    _add_column(connection, tables.image.c.signature)
    _add_column(connection, tables.image.c.duplicate_of)
    # It was without the collection.
    connection.execute(text("DROP INDEX IF EXISTS image_digest"))


def _create_indexes(connection: Connection) -> None:
    for table in tables.metadata.tables.values():
        for index in table.indexes:
            index.create(connection, checkfirst=True)


def _add_column(connection: Connection, column: Column[object]) -> None:
    definition = CreateColumn(column).compile(dialect=connection.dialect)
    connection.execute(text(f"ALTER TABLE {column.table.name} ADD COLUMN {definition}"))


def _check_encoding(connection: Connection) -> None:
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    if not re.fullmatch("UTF-?8", str(encoding), re.IGNORECASE):
        raise Misconfigured(
            f"The PostgreSQL database is encoded as {encoding}; the ledger needs UTF8."
        )
