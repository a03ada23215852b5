"""Stored conversations and their items. Each function is part of one transaction."""

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from runner.store.threads import Item, Limits, add_items, bodies, drop_if_empty, prune, touch


class Conversation(NamedTuple):
    thread: str
    body: bytes


def create(
    db: sqlite3.Connection, limits: Limits, owner: str, id: str, body: bytes, items: Sequence[Item]
) -> None:
    touch(db, id)
    db.execute("INSERT INTO conversations VALUES (?, ?, ?, ?)", (id, id, owner, body))
    append(db, id, add_items(db, id, owner, items))
    prune(db, limits, id)


def get(db: sqlite3.Connection, owner: str, id: str) -> Conversation | None:
    row = db.execute(
        "SELECT thread, body FROM conversations WHERE id = ? AND owner = ?", (id, owner)
    ).fetchone()
    return None if row is None else Conversation(*row)


def update(db: sqlite3.Connection, id: str, body: bytes) -> None:
    db.execute("UPDATE conversations SET body = ? WHERE id = ?", (body, id))


def delete(db: sqlite3.Connection, owner: str, id: str) -> bool:
    """Whether there was one. Items that belong to responses stay with these."""
    conversation = get(db, owner, id)
    if conversation is None:
        return False
    db.execute("DELETE FROM conversations WHERE id = ?", (id,))
    db.execute("DELETE FROM items WHERE conversation = ? AND response IS NULL", (id,))
    db.execute("UPDATE items SET conversation = NULL, place = NULL WHERE conversation = ?", (id,))
    drop_if_empty(db, conversation.thread)
    return True


def add(db: sqlite3.Connection, limits: Limits, owner: str, id: str, items: Sequence[Item]) -> None:
    touch(db, id)
    append(db, id, add_items(db, id, owner, items))
    prune(db, limits, id)


def append(db: sqlite3.Connection, id: str, numbers: Sequence[int]) -> None:
    """Put items at the end of a conversation. Nothing, if it has been deleted."""
    if db.execute("SELECT 1 FROM conversations WHERE id = ?", (id,)).fetchone() is None:
        return
    (last,) = db.execute("SELECT COALESCE(MAX(place), 0) FROM items WHERE conversation = ?", (id,)).fetchone()
    db.executemany(
        "UPDATE items SET conversation = ?, place = ? WHERE number = ?",
        [(id, place, number) for place, number in enumerate(numbers, start=last + 1)],
    )


def read_items(db: sqlite3.Connection, id: str) -> list[tuple[int, str]]:
    """The numbers and ids of its items, in order."""
    rows: list[tuple[int, str]] = db.execute(
        "SELECT number, id FROM items WHERE conversation = ? ORDER BY place", (id,)
    ).fetchall()
    return rows


def get_item(db: sqlite3.Connection, id: str, item: str) -> bytes | None:
    row = db.execute("SELECT number FROM items WHERE conversation = ? AND id = ?", (id, item)).fetchone()
    return next(iter(bodies(db, row)), None) if row else None


def delete_item(db: sqlite3.Connection, id: str, item: str) -> bool:
    """Whether there was one. An item that belongs to a response stays with it."""
    rows = db.execute(
        "SELECT number, response FROM items WHERE conversation = ? AND id = ?", (id, item)
    ).fetchall()
    for number, response in rows:
        if response is None:
            db.execute("DELETE FROM items WHERE number = ?", (number,))
        else:
            db.execute("UPDATE items SET conversation = NULL, place = NULL WHERE number = ?", (number,))
    return bool(rows)
