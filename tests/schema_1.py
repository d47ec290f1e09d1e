"""A ledger's database as an older version left it: schema 1, with some rows."""

from __future__ import annotations

from sqlalchemy import create_engine, text

TABLES = """
CREATE TABLE collection (
    uid {text} NOT NULL PRIMARY KEY,
    team {text} NOT NULL,
    name {text} NOT NULL,
    fields {text} NOT NULL,
    backbone {text} NOT NULL,
    fingerprint {text} NOT NULL,
    dimension INTEGER NOT NULL,
    metric {text} NOT NULL,
    created_at {double} NOT NULL,
    CONSTRAINT collection_name UNIQUE (team, name)
);
CREATE TABLE job (
    id {text} NOT NULL PRIMARY KEY,
    team {text} NOT NULL,
    collection {text} NOT NULL,
    collection_name {text} NOT NULL,
    total BIGINT NOT NULL,
    done BIGINT DEFAULT 0 NOT NULL,
    unchanged BIGINT DEFAULT 0 NOT NULL,
    failed BIGINT DEFAULT 0 NOT NULL,
    superseded BIGINT DEFAULT 0 NOT NULL,
    open BOOLEAN NOT NULL,
    created_at {double} NOT NULL,
    touched_at {double} NOT NULL,
    finished_at {double},
    CONSTRAINT job_counts CHECK (done + unchanged + failed + superseded <= total)
);
CREATE INDEX job_open ON job (touched_at) WHERE open;
CREATE INDEX job_team ON job (team, id);
CREATE TABLE schema (
    id INTEGER NOT NULL PRIMARY KEY,
    version INTEGER NOT NULL,
    generation BIGINT DEFAULT 0 NOT NULL,
    checked_at {double} DEFAULT 0 NOT NULL
);
CREATE TABLE image (
    key {key} NOT NULL PRIMARY KEY,
    collection {text} NOT NULL REFERENCES collection (uid),
    image_id {text} NOT NULL,
    gen BIGINT NOT NULL,
    want {text} NOT NULL,
    born_gen BIGINT NOT NULL,
    indexed_gen BIGINT NOT NULL,
    failed {text},
    doubtful BOOLEAN DEFAULT false NOT NULL,
    digest {text} NOT NULL,
    bytes BIGINT NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    format {text} NOT NULL,
    metadata {text} NOT NULL,
    created_at {double} NOT NULL,
    updated_at {double} NOT NULL,
    CONSTRAINT image_id UNIQUE (collection, image_id),
    CONSTRAINT image_want CHECK (want IN ('present', 'absent'))
);
CREATE TABLE work (
    id {serial},
    job {text} REFERENCES job (id),
    position INTEGER NOT NULL,
    collection {text} NOT NULL,
    key {key},
    image_id {text},
    gen BIGINT NOT NULL,
    op {text} NOT NULL,
    state {text} DEFAULT 'pending' NOT NULL,
    attempts SMALLINT DEFAULT 0 NOT NULL,
    claims INTEGER DEFAULT 0 NOT NULL,
    lease_until {double} DEFAULT 0 NOT NULL,
    not_before {double} DEFAULT 0 NOT NULL,
    hinted_at {double} DEFAULT 0 NOT NULL,
    error_code {text},
    error_detail {text},
    retryable BOOLEAN DEFAULT false NOT NULL,
    CONSTRAINT work_state CHECK (state IN ('pending', 'done', 'failed', 'superseded'))
);
CREATE INDEX work_due ON work (hinted_at) WHERE state = 'pending';
CREATE INDEX work_failed ON work (job, position) WHERE state = 'failed';
CREATE INDEX work_key ON work (key) WHERE state = 'pending';
CREATE INDEX work_spent ON work (lease_until) WHERE state = 'pending' AND attempts >= 5;
INSERT INTO schema (id, version, generation) VALUES (1, 1, 2);
"""

# One image is indexed, one waits, and one has failed; a repair of the first waits too.
ROWS = """
INSERT INTO collection VALUES
    ('u1', 'old', 'shop', '{{}}', 'resnet18', 'f', 512, 'cosine', 1e9);
INSERT INTO job (id, team, collection, collection_name, total, done, failed, open,
                 created_at, touched_at) VALUES
    ('j1', 'old', 'u1', 'shop', 3, 1, 1, false, 1e9, 1e9);
INSERT INTO image VALUES
    ('k1', 'u1', 'a', 1, 'present', 1, 1, NULL, false, 'd1', 9, 4, 3, 'PNG', '{{}}',
     1e9, 1e9),
    ('k2', 'u1', 'b', 1, 'present', 1, 0, NULL, false, 'd2', 9, 4, 3, 'PNG', '{{}}',
     1e9, 1e9),
    ('k3', 'u1', 'c', 1, 'present', 1, 0, 'gone', false, 'd3', 9, 4, 3, 'PNG', '{{}}',
     1e9, 1e9);
INSERT INTO work (job, position, collection, key, image_id, gen, op, state, error_code,
                  error_detail, retryable) VALUES
    ('j1', 0, 'u1', 'k1', 'a', 1, 'put', 'done', NULL, NULL, false),
    ('j1', 1, 'u1', 'k2', 'b', 1, 'put', 'pending', NULL, NULL, false),
    ('j1', 2, 'u1', 'k3', 'c', 1, 'put', 'failed', 'gone', 'It is gone.', true),
    (NULL, 0, 'u1', 'k1', 'a', 1, 'put', 'pending', NULL, NULL, false);
"""

TYPES = {
    "sqlite": {
        "text": "TEXT",
        "double": "DOUBLE",
        "key": "VARCHAR(32)",
        "serial": "INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT",
    },
    "postgresql": {
        "text": 'TEXT COLLATE "C"',
        "double": "DOUBLE PRECISION",
        "key": 'VARCHAR(32) COLLATE "C"',
        "serial": "BIGSERIAL PRIMARY KEY",
    },
}


def build_schema_1(url: str) -> None:
    """Write it to a database in which there is nothing yet."""
    engine = create_engine(url)
    kind = engine.dialect.name
    script = (TABLES + ROWS).format(**TYPES[kind])
    if kind == "postgresql":
        script += "CREATE SEQUENCE generation START 2;"
    with engine.begin() as connection:
        for statement in filter(str.strip, script.split(";")):
            connection.execute(text(statement))
    engine.dispose()
