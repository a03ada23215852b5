"""The store as the gateway has it: the database, its limits, and this process as a writer."""

import logging
from pathlib import Path

from runner.errors import StoreFailed
from runner.store.database import Database
from runner.store.locks import Writer
from runner.store.schema import RESPONSES
from runner.store.threads import Limits

log = logging.getLogger("diptych.store")


class Store:
    """Its file is opened when it is first used."""

    def __init__(self, limits: Limits, folder: Path | None = None) -> None:
        self.limits = limits
        self.database = Database(RESPONSES, folder)
        self.writer = Writer(self.database.folder / "writers")
        self.run = self.database.run
        self.submit = self.database.submit

    async def check(self) -> None:
        """Open the file, and warn if that is not possible."""
        try:
            await self.run(lambda db: None)
        except StoreFailed as error:
            log.warning("%s; responses are not stored", error.message)

    async def close(self) -> None:
        await self.database.close()
        self.writer.end()
