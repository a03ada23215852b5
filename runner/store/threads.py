"""Threads: which are kept, and their items. A thread is responses that continue each other, or a conversation."""

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from runner.errors import StoreFailed
from runner.store.database import used_bytes
from runner.units import show_size


@dataclass(frozen=True)
class Limits:
    """`size` in bytes, of everything; `age` in seconds, since a thread was last continued."""

    size: int
    age: float


class Item(NamedTuple):
    """`body` is JSON; None: that of the item with the same id, which the thread has already."""

    id: str
    body: bytes | None


class Page(NamedTuple):
    items: list[bytes]
    has_more: bool


def touch(db: sqlite3.Connection, thread: str) -> None:
    """Begin a thread, or make it the latest."""
    db.execute(
        "INSERT INTO threads VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET used = excluded.used",
        (thread, time.time()),
    )


def prune(db: sqlite3.Connection, limits: Limits, thread: str) -> None:
    """Drop the threads that are too old, and the oldest ones if there is too much. StoreFailed if this thread alone is too
    large."""
    db.execute("DELETE FROM threads WHERE used < ?", (time.time() - limits.age,))
    while used_bytes(db) > limits.size:
        oldest = "SELECT id FROM threads WHERE id != ? ORDER BY used LIMIT 1"
        gone = db.execute(f"DELETE FROM threads WHERE id = ({oldest})", (thread,))
        if not gone.rowcount:
            raise StoreFailed(
                f"what this response continues is larger than {show_size(limits.size)}, the most that is stored "
                "(--store-size)"
            )
    db.execute("PRAGMA incremental_vacuum").fetchall()


def drop_if_empty(db: sqlite3.Connection, thread: str) -> None:
    db.execute(
        "DELETE FROM threads WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM responses WHERE thread = ?1) "
        "AND NOT EXISTS (SELECT 1 FROM conversations WHERE thread = ?1)",
        (thread,),
    )


def add_items(
    db: sqlite3.Connection,
    thread: str,
    owner: str,
    items: Sequence[Item],
    *,
    response: str | None = None,
    output: bool = False,
) -> list[int]:
    """Their numbers, which grow."""
    insert = "INSERT INTO items (id, thread, owner, response, output, body) VALUES (?, ?, ?, ?, ?, ?)"
    numbers = []
    for item in items:
        cursor = db.execute(insert, (item.id, thread, owner, response, output, item.body))
        assert cursor.lastrowid is not None
        numbers.append(cursor.lastrowid)
    return numbers


def find_item(db: sqlite3.Connection, owner: str, id: str) -> tuple[str, bytes] | None:
    """The thread and the body of the latest item with this id."""
    row: tuple[str, bytes] | None = db.execute(
        "SELECT thread, body FROM items WHERE id = ? AND owner = ? AND body IS NOT NULL ORDER BY number DESC LIMIT 1",
        (id, owner),
    ).fetchone()
    return row


def bodies(db: sqlite3.Connection, numbers: Sequence[int]) -> list[bytes]:
    """The bodies of these items, in this order; without those whose item was deleted."""
    query = (
        "SELECT COALESCE(body, (SELECT body FROM items AS one WHERE one.id = items.id AND one.owner = items.owner "
        "AND one.body IS NOT NULL ORDER BY number DESC LIMIT 1)) FROM items WHERE number = ?"
    )
    rows = (db.execute(query, (number,)).fetchone()[0] for number in numbers)
    return [body for body in rows if body is not None]


def page(
    db: sqlite3.Connection, rows: Sequence[tuple[int, str]], after: str | None, limit: int, newest_first: bool
) -> Page:
    """The items behind `after`, of all these numbers and ids."""
    ordered = list(reversed(rows)) if newest_first else list(rows)
    if after is not None:
        begin = next((index + 1 for index, (_, id) in enumerate(ordered) if id == after), len(ordered))
        ordered = ordered[begin:]
    return Page(bodies(db, [number for number, _ in ordered[:limit]]), len(ordered) > limit)
