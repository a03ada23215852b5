"""The gallery: its database, its files, and its limits."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from runner.errors import StoreFailed
from runner.gallery import pictures
from runner.gallery.files import Files, input_name, thumbnail
from runner.gallery.picture import Drawn, Found, Limits, Picture, Query
from runner.gallery.schema import GALLERY
from runner.store.database import Database

log = logging.getLogger("diptych.gallery")

T = TypeVar("T")


class Gallery:
    """Its file is opened when it is first used. `owner` is whose pictures are meant: each API key has its own."""

    def __init__(self, limits: Limits, folder: Path | None = None) -> None:
        self.limits = limits
        self.database = Database(GALLERY, folder)
        self.files = Files(self.database.folder)

    async def check(self) -> bool:
        """Whether it can be used; otherwise that is in the log."""
        try:
            needed = await self._run(lambda db: pictures.files(db))
            await self._remove(await self._run(pictures.purge))
            await asyncio.to_thread(self.files.sweep, needed)
        except (StoreFailed, OSError) as error:
            log.warning("%s; pictures stay in the browser that draws them", error)
            return False
        return True

    async def close(self) -> None:
        await self.database.close()

    async def add(
        self, owner: str, made: Sequence[tuple[Picture, bytes]], inputs: Sequence[bytes] = ()
    ) -> list[Picture]:
        """Store the pictures of one request, and its input pictures."""
        names = {input_name(data): data for data in inputs}
        sizes = {name: len(data) for name, data in names.items()}
        drawn = await asyncio.to_thread(lambda: [Drawn(one, data, thumbnail(data)) for one, data in made])

        def work(db: sqlite3.Connection) -> list[str]:
            # Here, so that no file is removed for want of a row before it has one.
            self._write(drawn, names)
            return pictures.add(db, self.limits, owner, drawn, sizes)

        await self._remove(await self._run(work))
        return [one.picture for one in drawn]

    async def find(self, owner: str, query: Query, limit: int) -> Found:
        return await self._run(lambda db: pictures.find(db, owner, query, limit))

    async def get(self, owner: str, id: str) -> Picture | None:
        return await self._run(lambda db: pictures.get(db, owner, id))

    async def thumbnail(self, owner: str, id: str) -> bytes | None:
        return await self._run(lambda db: pictures.thumbnail(db, owner, id))

    async def has_input(self, owner: str, name: str) -> bool:
        return await self._run(lambda db: pictures.has_input(db, owner, name))

    async def change(
        self, owner: str, id: str, favourite: bool | None = None, deleted: bool | None = None
    ) -> Picture | None:
        changed = await self._run(lambda db: pictures.change(db, owner, id, favourite, deleted))
        await self._remove(await self._run(pictures.purge))
        return changed

    async def remove(self, owner: str, id: str) -> bool:
        """Whether there was such a picture."""
        gone = await self._run(lambda db: pictures.remove(db, owner, id))
        await self._remove(gone or [])
        return gone is not None

    async def clear(self, owner: str) -> None:
        await self._remove(await self._run(lambda db: pictures.clear(db, owner)))

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self.database.run(work)

    def _write(self, drawn: Sequence[Drawn], inputs: dict[str, bytes]) -> None:
        for name, data in inputs.items():
            self.files.write(name, data)
        for one in drawn:
            self.files.write(one.picture.file, one.data)

    async def _remove(self, names: Sequence[str]) -> None:
        """The rows are gone already: what cannot be removed now is found by a later `check`."""
        if names:
            try:
                await self._run(lambda db: self.files.remove(set(names) - pictures.files(db)))
            except StoreFailed as error:
                log.warning("a picture that was deleted is still on the disk: %s", error)
