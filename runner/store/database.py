"""A SQLite file: opened privately, used from one thread, replaced when it is corrupt, shared by several processes."""

import asyncio
import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from models import private_folder
from runner.errors import StoreFailed
from runner.paths import state_folder
from runner.store.locks import locked

log = logging.getLogger("diptych.store")

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

BUSY_SECONDS = 30.0  # how long to wait while another process writes
WAL_BYTES = 16 * 1024**2  # what is left of the write-ahead log once it has been copied into the file
CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@dataclass(frozen=True)
class Layout:
    """What is in the file: `name.db`, in a folder of that name in the user's state folder. `what` are its contents in
    messages, and `without` is the option that goes without them."""

    name: str
    version: int
    schema: str
    what: str
    without: str


class Database:
    """Every piece of work is one transaction, on a thread that does nothing else."""

    def __init__(self, layout: Layout, folder: Path | None = None) -> None:
        self.layout = layout
        self.folder = folder or state_folder() / layout.name
        self.path = self.folder / f"{layout.name}.db"
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._connection: sqlite3.Connection | None = None
        self._inode = 0

    async def run(self, work: Work[T]) -> T:
        """What `work` returns, once it is committed. It is done even if the caller is cancelled."""
        return await asyncio.shield(asyncio.wrap_future(self.submit(work)))

    def submit(self, work: Work[T]) -> "Future[T]":
        """The same without waiting. Work is done in the order in which it was submitted."""
        return self._thread.submit(self._do, work)

    async def close(self) -> None:
        """Once the work that was submitted is done."""
        await asyncio.wrap_future(self._thread.submit(self._disconnect))
        self._thread.shutdown(wait=False)

    def _do(self, work: Work[T]) -> T:
        try:
            try:
                return self._transact(work)
            except sqlite3.DatabaseError as error:
                if not _is_corrupt(error):
                    raise
                self._set_aside(error)
                return self._transact(work)
        except (sqlite3.Error, OSError) as error:
            self._disconnect()
            raise StoreFailed(f"{self.layout.what} cannot be used: {self.path}: {error}") from error

    def _transact(self, work: Work[T]) -> T:
        connection = self._connect()
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # it may have been rolled back by the error itself
                connection.execute("ROLLBACK")
            raise
        return result

    def _connect(self) -> sqlite3.Connection:
        """The connection, to the file that is at the path now: another process may have replaced it."""
        with contextlib.suppress(FileNotFoundError):
            if self._connection is not None and os.stat(self.path).st_ino == self._inode:
                return self._connection
        self._disconnect()
        private_folder.make_private(
            state_folder() if self.folder.is_relative_to(state_folder()) else self.folder,
            self.folder,
            "remove it, or set XDG_STATE_HOME to a folder of your own",
        )
        with locked(self.folder / "lock"):
            self._connection = self._open()
        return self._connection

    def _open(self) -> sqlite3.Connection:
        # SQLite gives its other files the mode of this one.
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        os.chmod(self.path, 0o600)
        self._inode = os.stat(self.path).st_ino
        connection = sqlite3.connect(
            self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            _configure(connection, self.layout)
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_aside(self, error: sqlite3.DatabaseError) -> None:
        """Move the file away, unless another process has done so already."""
        self._disconnect()
        with locked(self.folder / "lock"):
            if os.stat(self.path).st_ino != self._inode:
                return
            aside = f"{self.path}.corrupt-{time.strftime('%Y%m%d-%H%M%S')}"
            log.warning("%s are corrupt (%s); they were moved to %s", self.layout.what, error, aside)
            for suffix in ("-wal", "-shm", ""):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(f"{self.path}{suffix}", f"{aside}{suffix}")

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()


def _configure(connection: sqlite3.Connection, layout: Layout) -> None:
    # In this order: a file is given its layout before its first table, and its journal.
    for pragma in (
        "auto_vacuum = INCREMENTAL",
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "foreign_keys = ON",
        "secure_delete = ON",
        f"journal_size_limit = {WAL_BYTES}",
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > layout.version:
        raise sqlite3.NotSupportedError(
            f"a newer version of Diptych wrote this file; {layout.without} goes without"
        )
    if version == 0:
        connection.executescript(f"BEGIN; {layout.schema} PRAGMA user_version = {layout.version}; COMMIT;")


def _is_corrupt(error: sqlite3.DatabaseError) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in CORRUPT


def used_bytes(connection: sqlite3.Connection) -> int:
    """What the file holds, without the pages that are free."""
    values: Iterator[int] = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    pages, free, size = values
    return (pages - free) * size
