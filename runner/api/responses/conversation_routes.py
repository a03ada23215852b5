"""OpenAI's Conversations API: items that are kept, and that responses continue."""

import sqlite3
import time
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct, field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from runner.api.openai.routes import described
from runner.api.responses.items import Conversation as Chat
from runner.api.responses.items import kind_of_item, listed
from runner.api.responses.output import new_id
from runner.api.responses.request import Metadata
from runner.api.responses.schemas import ItemList
from runner.api.responses.stored import ListQuery, item_list, needed_store, not_found, owner, read_query
from runner.errors import BadRequest
from runner.gateway.app import Gateway
from runner.http.bodies import JsonResponse, read_body
from runner.protocol.text import parse_body
from runner.store import conversations, threads

T = TypeVar("T")
Items = Annotated[list[dict[str, Any]], Meta(max_length=20)]


class CreateRequest(Struct, frozen=True):
    items: Items | None = None
    metadata: Metadata | None = None


class UpdateRequest(Struct, frozen=True):
    metadata: Metadata | None


class AddRequest(Struct, frozen=True):
    items: Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=20)]


class Conversation(Struct, frozen=True):
    id: str
    created_at: int
    metadata: dict[str, str] = field(default_factory=dict)
    object: Literal["conversation"] = "conversation"


class ConversationDeleted(Struct, frozen=True):
    id: str
    deleted: Literal[True] = True
    object: Literal["conversation.deleted"] = "conversation.deleted"


def routes(gateway: Gateway) -> list[BaseRoute]:
    api = Conversations(gateway)
    one = "/v1/conversations/{id}"
    return [
        Route("/v1/conversations", api.create, methods=["POST"]),
        Route(one, api.retrieve),
        Route(one, api.update, methods=["POST"]),
        Route(one, api.delete, methods=["DELETE"]),
        Route(f"{one}/items", api.items),
        Route(f"{one}/items", api.add, methods=["POST"]),
        Route(f"{one}/items/{{item}}", api.item),
        Route(f"{one}/items/{{item}}", api.delete_item, methods=["DELETE"]),
    ]


class Conversations:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    @described("Create a conversation", body=CreateRequest, answer=Conversation)
    async def create(self, request: Request) -> Response:
        fields = parse_body(CreateRequest, await read_body(request) or b"{}")
        store, owned = needed_store(self._gateway), owner(self._gateway, request)
        conversation = Conversation(new_id("conv"), int(time.time()), fields.metadata or {})
        body, items = msgspec.json.encode(conversation), _to_store(fields.items or [])
        id = conversation.id
        await store.run(lambda db: conversations.create(db, store.limits, owned, id, body, items))
        return JsonResponse(conversation)

    @described("Get a conversation", answer=Conversation)
    async def retrieve(self, request: Request) -> Response:
        return JsonResponse(await self._run(request, lambda db, conversation: conversation))

    @described("Change a conversation's metadata", body=UpdateRequest, answer=Conversation)
    async def update(self, request: Request) -> Response:
        metadata = parse_body(UpdateRequest, await read_body(request)).metadata or {}

        def work(db: sqlite3.Connection, conversation: Conversation) -> Conversation:
            changed = msgspec.structs.replace(conversation, metadata=metadata)
            conversations.update(db, conversation.id, msgspec.json.encode(changed))
            return changed

        return JsonResponse(await self._run(request, work))

    @described("Delete a conversation; items of stored responses stay with these", answer=ConversationDeleted)
    async def delete(self, request: Request) -> Response:
        owned = owner(self._gateway, request)
        await self._run(request, lambda db, conversation: conversations.delete(db, owned, conversation.id))
        return JsonResponse(ConversationDeleted(request.path_params["id"]))

    @described("List the items of a conversation", query=ListQuery, answer=ItemList)
    async def items(self, request: Request) -> Response:
        query: ListQuery = read_query(ListQuery, request)

        def work(db: sqlite3.Connection, conversation: Conversation) -> threads.Page:
            rows = conversations.read_items(db, conversation.id)
            return threads.page(db, rows, query.after, query.limit, query.order == "desc")

        return JsonResponse(item_list(await self._run(request, work)))

    @described("Add items to a conversation", body=AddRequest, answer=ItemList)
    async def add(self, request: Request) -> Response:
        items = _to_store(parse_body(AddRequest, await read_body(request)).items)
        store, owned = needed_store(self._gateway), owner(self._gateway, request)
        await self._run(
            request,
            lambda db, conversation: conversations.add(db, store.limits, owned, conversation.id, items),
        )
        return JsonResponse(item_list(threads.Page([item.body for item in items if item.body], False)))

    @described("Get an item of a conversation", answer=dict[str, Any])
    async def item(self, request: Request) -> Response:
        id = request.path_params["item"]
        body = await self._run(request, lambda db, one: conversations.get_item(db, one.id, id))
        if body is None:
            raise not_found("an item", id)
        return Response(body, media_type="application/json")

    @described("Delete an item of a conversation", answer=Conversation)
    async def delete_item(self, request: Request) -> Response:
        id = request.path_params["item"]

        def work(db: sqlite3.Connection, conversation: Conversation) -> Conversation:
            if not conversations.delete_item(db, conversation.id, id):
                raise not_found("an item", id)
            return conversation

        return JsonResponse(await self._run(request, work))

    async def _run(self, request: Request, work: Callable[[sqlite3.Connection, Conversation], T]) -> T:
        """Work on the conversation that the path names, in one transaction."""
        id, owned = request.path_params["id"], owner(self._gateway, request)

        def find(db: sqlite3.Connection) -> T:
            stored = conversations.get(db, owned, id)
            if stored is None:
                raise not_found("a conversation", id)
            return work(db, msgspec.json.decode(stored.body, type=Conversation))

        return await needed_store(self._gateway).run(find)


def _to_store(items: list[dict[str, Any]]) -> list[threads.Item]:
    """The items as they are stored, once it is clear that a model can be given them."""
    for index, item in enumerate(items):
        if kind_of_item(item) == "item_reference":
            raise BadRequest(f"items[{index}].type: item_reference is not supported; send the item itself")
    Chat().add([(f"items[{index}]", item) for index, item in enumerate(items)])
    whole = [listed(item) for item in items]
    return [threads.Item(item["id"], msgspec.json.encode(item)) for item in whole]
