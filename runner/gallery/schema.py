"""The table of pictures. Newer pictures have larger numbers; of those drawn together, the first has the largest."""

from runner.store.database import Layout

SCHEMA = """
CREATE TABLE pictures (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    prompt TEXT NOT NULL,
    favourite INTEGER NOT NULL DEFAULT 0,
    deleted REAL,
    bytes INTEGER NOT NULL,
    file TEXT NOT NULL,
    body BLOB NOT NULL,
    thumbnail BLOB NOT NULL
);
CREATE INDEX pictures_owner ON pictures (owner, number);
CREATE TABLE inputs (
    name TEXT NOT NULL,
    picture TEXT NOT NULL REFERENCES pictures (id) ON DELETE CASCADE,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (picture, name)
) WITHOUT ROWID;
CREATE INDEX inputs_name ON inputs (name);
"""
GALLERY = Layout("gallery", 1, SCHEMA, "the gallery's pictures", "--no-gallery")
