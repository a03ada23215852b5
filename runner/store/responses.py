"""Stored responses: begun, finished, read, continued, deleted. Each function is part of one transaction."""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from runner.store.conversations import append
from runner.store.threads import Item, Limits, add_items, bodies, drop_if_empty, prune, touch

LOST = {"code": "server_error", "message": "the server ended while this response was being made"}


class NewResponse(NamedTuple):
    """`thread` is the one that it continues, `previous` the response."""

    id: str
    owner: str
    thread: str
    previous: str | None
    body: bytes
    input: Sequence[Item]


class Stored(NamedTuple):
    """`body` is the response without its output."""

    thread: str
    body: dict[str, Any]
    output: list[bytes]


def begin(db: sqlite3.Connection, limits: Limits, new: NewResponse, writer: str) -> None:
    """`writer` is the process that will finish it."""
    touch(db, new.thread)
    db.execute(
        "INSERT INTO responses (id, thread, owner, previous, writer, body) VALUES (?, ?, ?, ?, ?, ?)",
        (new.id, new.thread, new.owner, new.previous, writer, new.body),
    )
    add_items(db, new.thread, new.owner, new.input, response=new.id)
    prune(db, limits, new.thread)


def update(db: sqlite3.Connection, id: str, body: bytes) -> None:
    """What is known of a response that is being made."""
    db.execute("UPDATE responses SET body = ? WHERE id = ? AND writer IS NOT NULL", (body, id))


def finish(
    db: sqlite3.Connection,
    limits: Limits,
    id: str,
    body: bytes,
    output: Sequence[Item],
    conversation: str | None,
) -> bool:
    """Whether it was still being made: it may have been deleted, or cancelled through another process."""
    row = db.execute(
        "UPDATE responses SET body = ?, writer = NULL WHERE id = ? AND writer IS NOT NULL RETURNING thread, owner",
        (body, id),
    ).fetchone()
    if row is None:
        return False
    thread, owner = row
    touch(db, thread)
    add_items(db, thread, owner, output, response=id, output=True)
    if conversation is not None:
        numbers = db.execute("SELECT number FROM items WHERE response = ? ORDER BY number", (id,))
        append(db, conversation, [number for (number,) in numbers.fetchall()])
    prune(db, limits, thread)
    return True


def get(db: sqlite3.Connection, owner: str, id: str, is_gone: Callable[[str], bool]) -> Stored | None:
    """If the process that made it is gone, it has failed."""
    row = db.execute(
        "SELECT thread, body, writer FROM responses WHERE id = ? AND owner = ? AND NOT deleted", (id, owner)
    ).fetchone()
    if row is None:
        return None
    thread, body, writer = row[0], msgspec.json.decode(row[1]), row[2]
    if writer is not None and is_gone(writer):
        body |= {"status": "failed", "error": LOST}
        end(db, id, body)
    numbers = db.execute("SELECT number FROM items WHERE response = ? AND output ORDER BY number", (id,))
    return Stored(thread, body, bodies(db, [number for (number,) in numbers.fetchall()]))


def end(db: sqlite3.Connection, id: str, body: dict[str, Any]) -> None:
    """End a response as it is; whatever still makes it is in vain."""
    db.execute("UPDATE responses SET body = ?, writer = NULL WHERE id = ?", (msgspec.json.encode(body), id))


def read_items(db: sqlite3.Connection, id: str, output: bool) -> list[tuple[int, str]]:
    """The numbers and ids of the items that led to a response, in order; with its output, what a next one follows."""
    rows: list[tuple[int, str]] = db.execute(
        "WITH RECURSIVE chain (id, previous, depth) AS ("
        "SELECT id, previous, 0 FROM responses WHERE id = ?1 UNION ALL "
        "SELECT responses.id, responses.previous, depth + 1 FROM responses JOIN chain ON responses.id = chain.previous"
        ") SELECT items.number, items.id FROM chain JOIN items ON items.response = chain.id "
        "WHERE depth > 0 OR NOT items.output OR ?2 ORDER BY depth DESC, items.number",
        (id, output),
    ).fetchall()
    return rows


def delete(db: sqlite3.Connection, owner: str, id: str) -> bool:
    """Whether there was one. What later responses continue stays readable for them alone, until they are deleted too."""
    row = db.execute(
        "UPDATE responses SET deleted = 1, writer = NULL WHERE id = ? AND owner = ? AND NOT deleted RETURNING thread",
        (id, owner),
    ).fetchone()
    if row is None:
        return False
    last: str | None = id
    while last is not None:
        last = _remove_leaf(db, last)
    drop_if_empty(db, row[0])
    return True


def _remove_leaf(db: sqlite3.Connection, id: str) -> str | None:
    """Remove a deleted response that no other continues; the one that it continued."""
    row = db.execute(
        "DELETE FROM responses WHERE id = ?1 AND deleted AND NOT EXISTS "
        "(SELECT 1 FROM responses AS next WHERE next.previous = ?1) RETURNING previous",
        (id,),
    ).fetchone()
    if row is None:
        return None
    db.execute("DELETE FROM items WHERE response = ? AND conversation IS NULL", (id,))
    db.execute("UPDATE items SET response = NULL WHERE response = ?", (id,))
    previous: str | None = row[0]
    return previous
