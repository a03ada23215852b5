"""The gallery's rows. Each function is part of one transaction; those that remove rows return the files that go with them."""

import sqlite3
import time
from collections.abc import Iterable, Iterator

import msgspec

from runner.gallery.picture import Drawn, Found, Limits, Picture, Query

# How long a deleted picture can be restored.
UNDO_SECONDS = 600.0
COLUMNS = "body, favourite"

_picture = msgspec.json.Decoder(Picture)


def add(
    db: sqlite3.Connection, limits: Limits, owner: str, drawn: list[Drawn], inputs: dict[str, int]
) -> list[str]:
    """Store the pictures of one request, and drop what exceeds the limits. `inputs`: names and sizes of its input pictures."""
    for one in reversed(drawn):
        picture = one.picture
        db.execute(
            "INSERT INTO pictures (id, owner, prompt, bytes, file, body, thumbnail) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                picture.id,
                owner,
                str(picture.recipe.get("prompt", "")).casefold(),
                len(one.data),
                picture.file,
                msgspec.json.encode(picture),
                one.thumbnail,
            ),
        )
        db.executemany(
            "INSERT INTO inputs VALUES (?, ?, ?)", [(name, picture.id, size) for name, size in inputs.items()]
        )
    return purge(db) + prune(db, limits, {one.picture.id for one in drawn})


def find(db: sqlite3.Connection, owner: str, query: Query, limit: int) -> Found:
    where, values = _where(owner, query)
    (total,) = db.execute(f"SELECT COUNT(*) FROM pictures WHERE {where}", values).fetchone()
    if query.before:
        where += " AND number < COALESCE((SELECT number FROM pictures WHERE id = ? AND owner = ?), 0)"
        values = [*values, query.before, owner]
    rows = db.execute(
        f"SELECT {COLUMNS} FROM pictures WHERE {where} ORDER BY number DESC LIMIT ?", [*values, limit + 1]
    ).fetchall()
    return Found([_read(row) for row in rows[:limit]], len(rows) > limit, total, _used(db)[0])


def get(db: sqlite3.Connection, owner: str, id: str) -> Picture | None:
    row = db.execute(
        f"SELECT {COLUMNS} FROM pictures WHERE id = ? AND owner = ? AND deleted IS NULL", (id, owner)
    ).fetchone()
    return None if row is None else _read(row)


def thumbnail(db: sqlite3.Connection, owner: str, id: str) -> bytes | None:
    row = db.execute("SELECT thumbnail FROM pictures WHERE id = ? AND owner = ?", (id, owner)).fetchone()
    return None if row is None else row[0]


def has_input(db: sqlite3.Connection, owner: str, name: str) -> bool:
    """Whether a picture of this owner has this input picture."""
    query = "SELECT 1 FROM inputs JOIN pictures ON inputs.picture = pictures.id WHERE name = ? AND owner = ?"
    return db.execute(query, (name, owner)).fetchone() is not None


def change(
    db: sqlite3.Connection, owner: str, id: str, favourite: bool | None, deleted: bool | None
) -> Picture | None:
    """The changed picture; None if there is none. A deleted one can be restored for a while."""
    if favourite is not None:
        db.execute("UPDATE pictures SET favourite = ? WHERE id = ? AND owner = ?", (favourite, id, owner))
    if deleted is not None:
        when = time.time() if deleted else None
        db.execute("UPDATE pictures SET deleted = ? WHERE id = ? AND owner = ?", (when, id, owner))
    row = db.execute(f"SELECT {COLUMNS} FROM pictures WHERE id = ? AND owner = ?", (id, owner)).fetchone()
    return None if row is None else _read(row)


def remove(db: sqlite3.Connection, owner: str, id: str) -> list[str] | None:
    """None if there is no such picture."""
    rows = db.execute("SELECT id FROM pictures WHERE id = ? AND owner = ?", (id, owner)).fetchall()
    return _drop(db, [row[0] for row in rows]) if rows else None


def clear(db: sqlite3.Connection, owner: str) -> list[str]:
    return _drop(
        db, [row[0] for row in db.execute("SELECT id FROM pictures WHERE owner = ?", (owner,)).fetchall()]
    )


def purge(db: sqlite3.Connection) -> list[str]:
    """Drop what was deleted a while ago."""
    old = db.execute("SELECT id FROM pictures WHERE deleted < ?", (time.time() - UNDO_SECONDS,)).fetchall()
    return _drop(db, [row[0] for row in old])


def prune(db: sqlite3.Connection, limits: Limits, spared: set[str]) -> list[str]:
    """Drop the oldest while there are too many: deleted ones first, favourites last, and never those just drawn."""
    gone: list[str] = []
    order = "ORDER BY deleted IS NULL, favourite, number"
    for id, *_ in db.execute(f"SELECT id FROM pictures {order}").fetchall():
        size, count = _used(db)
        if size <= limits.size and count <= limits.count:
            break
        if id not in spared:
            gone += _drop(db, [id])
    return gone


def files(db: sqlite3.Connection) -> set[str]:
    """The names of all files that belong to pictures."""
    return {row[0] for row in db.execute("SELECT file FROM pictures UNION SELECT name FROM inputs")}


def _where(owner: str, query: Query) -> tuple[str, list[str]]:
    where, values = "owner = ? AND deleted IS NULL", [owner]
    for word in query.search.casefold().split():
        where += " AND instr(prompt, ?) > 0"
        values.append(word)
    return where + (" AND favourite" if query.favourites else ""), values


def _read(row: tuple[bytes, int]) -> Picture:
    return msgspec.structs.replace(_picture.decode(row[0]), favourite=bool(row[1]))


def _used(db: sqlite3.Connection) -> tuple[int, int]:
    """Bytes of all files, and the number of pictures."""
    (size, count) = db.execute("SELECT COALESCE(SUM(bytes), 0), COUNT(*) FROM pictures").fetchone()
    query = "SELECT COALESCE(SUM(bytes), 0) FROM (SELECT MAX(bytes) AS bytes FROM inputs GROUP BY name)"
    return size + db.execute(query).fetchone()[0], count


def _drop(db: sqlite3.Connection, ids: Iterable[str]) -> list[str]:
    """The files that no picture needs any more."""
    return [file for id in ids for file in _drop_one(db, id)]


def _drop_one(db: sqlite3.Connection, id: str) -> Iterator[str]:
    names = [row[0] for row in db.execute("SELECT name FROM inputs WHERE picture = ?", (id,)).fetchall()]
    for (file,) in db.execute("DELETE FROM pictures WHERE id = ? RETURNING file", (id,)).fetchall():
        yield file
    for name in names:
        if db.execute("SELECT 1 FROM inputs WHERE name = ?", (name,)).fetchone() is None:
            yield name
