"""What a request continues: an earlier response, a conversation, items that it refers to."""

import sqlite3
from dataclasses import dataclass, field

import msgspec

from runner.api.responses.items import Item, Placed, kind_of_item, listed, placed
from runner.api.responses.request import Prompted
from runner.errors import BadRequest, NotStored, PreviousNotStored
from runner.protocol.validation import shown
from runner.store import conversations, responses, threads
from runner.store.store import Store

UNFINISHED = ("queued", "in_progress")
NO_STORE = "nothing is stored, because this server was started with --no-store"


@dataclass
class History:
    """`items` are those that the request continues, `input` its own, with references replaced by what they refer to.
    `to_store` are the latter as they are stored, and `thread` where."""

    items: list[Placed] = field(default_factory=list)
    input: list[Placed] = field(default_factory=list)
    to_store: list[threads.Item] = field(default_factory=list)
    thread: str | None = None
    previous: str | None = None
    conversation: str | None = None

    @property
    def all(self) -> list[Placed]:
        return [*self.items, *self.input]


async def read_history(store: Store | None, owner: str, request: Prompted) -> History:
    if store is None:
        _check_unstored(request)
        return History(input=placed(request.input))
    if not _continues(request):
        history = History(input=placed(request.input))
        history.to_store = [_to_store(item) for _, item in history.input]
        return history
    reader = _Reader(store, owner, request)
    return await store.run(reader.read)


def conversation_id(request: Prompted) -> str | None:
    conversation = request.conversation
    return conversation if conversation is None or isinstance(conversation, str) else conversation.id


def _continues(request: Prompted) -> bool:
    references = any(kind_of_item(item) == "item_reference" for _, item in placed(request.input))
    return bool(request.previous_response_id or request.conversation or references)


def _check_unstored(request: Prompted) -> None:
    for name in ("previous_response_id", "conversation"):
        if getattr(request, name):
            raise BadRequest(f"{name}: {NO_STORE}; send the earlier messages as input")
    for place, item in placed(request.input):
        if kind_of_item(item) == "item_reference":
            raise BadRequest(f"{place}.id: {NO_STORE}; send the item itself")


def _to_store(item: Item) -> threads.Item:
    whole = listed(item)
    return threads.Item(whole["id"], msgspec.json.encode(whole))


class _Reader:
    """Reads what a request continues, in one transaction."""

    def __init__(self, store: Store, owner: str, request: Prompted) -> None:
        self._store = store
        self._owner = owner
        self._request = request

    def read(self, db: sqlite3.Connection) -> History:
        history = History()
        numbers: list[tuple[int, str]] = []
        if self._request.previous_response_id:
            numbers = self._previous(db, history, self._request.previous_response_id)
        elif (id := conversation_id(self._request)) is not None:
            numbers = self._conversation(db, history, id)
        place = "previous_response_id" if history.previous else "conversation"
        bodies = threads.bodies(db, [number for number, _ in numbers])
        history.items = [(place, msgspec.json.decode(body)) for body in bodies]
        for place, item in placed(self._request.input):
            self._add(db, history, place, item)
        return history

    def _previous(self, db: sqlite3.Connection, history: History, id: str) -> list[tuple[int, str]]:
        stored = responses.get(db, self._owner, id, self._store.writer.is_gone)
        if stored is None:
            raise PreviousNotStored(f"previous_response_id: a response with id {shown(id)} was not found")
        if stored.body["status"] in UNFINISHED:
            raise BadRequest(
                f"previous_response_id: {shown(id)} is {stored.body['status']}; wait until it is completed"
            )
        if stored.body.get("conversation"):
            raise BadRequest(
                f"previous_response_id: {shown(id)} belongs to a conversation; send conversation instead"
            )
        history.previous, history.thread = id, stored.thread
        return responses.read_items(db, id, output=True)

    def _conversation(self, db: sqlite3.Connection, history: History, id: str) -> list[tuple[int, str]]:
        conversation = conversations.get(db, self._owner, id)
        if conversation is None:
            raise NotStored(f"conversation: a conversation with id {shown(id)} was not found")
        history.conversation, history.thread = id, conversation.thread
        return conversations.read_items(db, id)

    def _add(self, db: sqlite3.Connection, history: History, place: str, item: Item) -> None:
        if kind_of_item(item) != "item_reference":
            history.input.append((place, item))
            history.to_store.append(_to_store(item))
            return
        id = item.get("id")
        row = threads.find_item(db, self._owner, id) if isinstance(id, str) else None
        if row is None:
            raise BadRequest(
                f"{place}.id: an item with id {shown(id)} was not found; items of responses with store false are not kept"
            )
        thread, body = row
        history.thread = history.thread or thread
        history.input.append((place, msgspec.json.decode(body)))
        history.to_store.append(threads.Item(str(id), None if thread == history.thread else body))
