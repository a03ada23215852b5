"""The tables of stored responses and conversations."""

from runner.store.database import Layout

# A thread is what is kept or dropped as a whole: responses that continue each other, or a conversation. An item without a
# body refers to the one of the same id.
SCHEMA = """
CREATE TABLE threads (id TEXT PRIMARY KEY, used REAL NOT NULL);
CREATE INDEX threads_used ON threads (used);
CREATE TABLE responses (
    id TEXT PRIMARY KEY,
    thread TEXT NOT NULL REFERENCES threads ON DELETE CASCADE,
    owner TEXT NOT NULL,
    previous TEXT,
    writer TEXT,
    deleted INTEGER NOT NULL DEFAULT 0,
    body BLOB NOT NULL
);
CREATE INDEX responses_thread ON responses (thread);
CREATE INDEX responses_previous ON responses (previous);
CREATE TABLE conversations (
    id TEXT PRIMARY KEY,
    thread TEXT NOT NULL REFERENCES threads ON DELETE CASCADE,
    owner TEXT NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX conversations_thread ON conversations (thread);
CREATE TABLE items (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    thread TEXT NOT NULL REFERENCES threads ON DELETE CASCADE,
    owner TEXT NOT NULL,
    response TEXT,
    output INTEGER NOT NULL,
    conversation TEXT,
    place INTEGER,
    body BLOB
);
CREATE INDEX items_id ON items (id, owner);
CREATE INDEX items_thread ON items (thread);
CREATE INDEX items_response ON items (response);
CREATE INDEX items_conversation ON items (conversation, place);
"""
RESPONSES = Layout("responses", 1, SCHEMA, "stored responses", "--no-store")
