"""Stored responses as they are answered: whole, as a stream, as lists of items."""

from collections.abc import AsyncGenerator
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request

from runner.api.lease import sse
from runner.errors import NotStored
from runner.gateway.app import Gateway
from runner.http.access import owner_of
from runner.protocol.text import parse
from runner.protocol.validation import shown
from runner.store.responses import Stored
from runner.store.store import Store
from runner.store.threads import Page

ENDED = ("completed", "incomplete", "failed", "cancelled")


class RetrieveQuery(Struct, frozen=True):
    stream: bool = False
    starting_after: Annotated[int, Meta(ge=-1, le=2**31 - 1)] = -1


class ListQuery(Struct, frozen=True):
    after: str | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"


def read_query(kind: Any, request: Request) -> Any:
    return parse(kind, dict(request.query_params), strict=False)


def needed_store(gateway: Gateway) -> Store:
    if gateway.store is None:
        raise NotStored("nothing is stored, because this server was started with --no-store")
    return gateway.store


def owner(gateway: Gateway, request: Request) -> str:
    """Each key has responses and conversations of its own."""
    return owner_of(request.scope, gateway.settings.keys)


def not_found(what: str, id: str) -> NotStored:
    return NotStored(f"{what} with id {shown(id[:100])} was not found")


def whole(stored: Stored) -> dict[str, Any]:
    return {**stored.body, "output": [msgspec.Raw(item) for item in stored.output]}


def item_list(page: Page) -> dict[str, Any]:
    ids = [msgspec.json.decode(item, type=_Id).id for item in page.items]
    return {
        "object": "list",
        "data": [msgspec.Raw(item) for item in page.items],
        "first_id": ids[0] if ids else "",
        "last_id": ids[-1] if ids else "",
        "has_more": page.has_more,
    }


class _Id(Struct, frozen=True):
    id: str


async def last_event(stored: Stored, after: int) -> AsyncGenerator[bytes, None]:
    """Of a response that has ended, clients that follow it get the last event, which has all of it."""
    name = f"response.{stored.body['status']}"
    if stored.body["status"] == "cancelled":
        name = "response.incomplete"  # the API has no event for it
    yield sse({"type": name, "sequence_number": after + 1, "response": whole(stored)}, name)
