"""What the store has of one response while it is made."""

import logging
import sqlite3

import msgspec
from msgspec.structs import replace

from runner.api.responses.history import History
from runner.api.responses.schemas import Response
from runner.errors import StoreFailed
from runner.store import responses
from runner.store.database import Work
from runner.store.responses import NewResponse
from runner.store.store import Store
from runner.store.threads import Item

log = logging.getLogger("diptych.store")


class Record:
    """Without a store, or once it has failed, nothing is written. `failure` says why."""

    def __init__(self, store: Store | None, owner: str, history: History) -> None:
        self._store = store
        self._owner = owner
        self._history = history
        self._begun = False
        self.failure = ""

    @property
    def conversation(self) -> str | None:
        return self._history.conversation

    @property
    def kept(self) -> bool:
        return self._store is not None

    async def begin(self, response: Response, must: bool = False) -> None:
        """Before its id is told to the client. `must`: a failure is an error."""
        if (store := self._store) is None:
            return
        new = self._new(response)
        try:
            await store.run(lambda db: responses.begin(db, store.limits, new, store.writer.begin()))
            self._begun = True
        except StoreFailed as error:
            if must:
                raise
            self._fail(error)

    def update(self, response: Response) -> None:
        """Without waiting."""
        if self._store is not None and self._begun:
            id, body = response.id, _body(response)
            self._store.submit(lambda db: responses.update(db, id, body))

    async def finish(self, response: Response) -> None:
        """Before the client is told that it is complete."""
        if (store := self._store) is None:
            return
        work = self._finishing(store, response)
        try:
            await store.run(work)
        except StoreFailed as error:
            self._fail(error)

    def abandon(self, response: Response) -> None:
        """Without waiting: what there is of a response that was cancelled or has failed. One that has not begun is
        forgotten."""
        if self._store is not None and self._begun:
            self._store.submit(self._finishing(self._store, response, complete=False))

    def _finishing(self, store: Store, response: Response, complete: bool = True) -> Work[None]:
        body = _body(response)
        output = [Item(item.id, msgspec.json.encode(item)) for item in response.output]
        new = None if self._begun else self._new(response)
        conversation = self._history.conversation if complete else None

        def work(db: sqlite3.Connection) -> None:
            if new is not None:
                responses.begin(db, store.limits, new, store.writer.begin())
            responses.finish(db, store.limits, response.id, body, output, conversation)

        return work

    def _new(self, response: Response) -> NewResponse:
        history = self._history
        thread = history.thread or response.id
        return NewResponse(
            response.id,
            self._owner,
            thread,
            history.previous,
            _body(response),
            history.to_store,
        )

    def _fail(self, error: StoreFailed) -> None:
        log.warning("a response is not stored: %s", error.message)
        self.failure = f"this response is not stored: {error.message}"
        self._store = None


def _body(response: Response) -> bytes:
    """Its output is stored apart."""
    return msgspec.json.encode(replace(response, output=[]))
