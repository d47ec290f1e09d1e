"""A ledger's database as the last version left it: schema 2, with some rows."""

from __future__ import annotations

from sqlalchemy import create_engine, text

from schema_1 import TYPES, build_schema_1

# What schema 2 has beyond schema 1, and the rows of an image that was deleted.
CHANGES = """
ALTER TABLE work ADD COLUMN team {text} DEFAULT '' NOT NULL;
ALTER TABLE work ADD COLUMN ended_at {double};
UPDATE work SET team = 'old';
DROP INDEX work_due;
CREATE TABLE idempotency (
    team {text} NOT NULL,
    key {text} NOT NULL,
    job {text} NOT NULL,
    digest {text},
    created_at {double} NOT NULL,
    PRIMARY KEY (team, key)
);
CREATE TABLE lease (
    name {text} NOT NULL PRIMARY KEY,
    owner {text} NOT NULL,
    until {double} NOT NULL
);
CREATE INDEX idempotency_age ON idempotency (created_at);
CREATE INDEX image_digest ON image (digest) WHERE want = 'present';
CREATE INDEX image_gone ON image (updated_at) WHERE want = 'absent';
CREATE INDEX job_finished ON job (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX job_unfinished ON job (team) WHERE finished_at IS NULL;
CREATE INDEX work_due ON work (team, hinted_at, id) WHERE state = 'pending';
CREATE INDEX work_job ON work (job, id);
INSERT INTO image VALUES
    ('k4', 'u1', 'd', 2, 'absent', 1, 2, NULL, false, 'd4', 9, 4, 3, 'PNG', '{{}}',
     1e9, 1e9);
UPDATE schema SET version = 2;
"""


def build_schema_2(url: str) -> None:
    """Write it to a database in which there is nothing yet."""
    build_schema_1(url)
    engine = create_engine(url)
    script = CHANGES.format(**TYPES[engine.dialect.name])
    with engine.begin() as connection:
        for statement in filter(str.strip, script.split(";")):
            connection.execute(text(statement))
    engine.dispose()
