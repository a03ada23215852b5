"""What dialects share: models of the right kind, several requests side by side, answers that stop with their client."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

from msgspec import Struct
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from runner.errors import BadRequest
from runner.gateway.app import Gateway
from runner.gateway.lease import Lease
from runner.gateway.responses import cancel_on_disconnect
from runner.library import Installed
from runner.process.client import Broken
from runner.process.responses import error_from, read_object
from runner.process.supervisor import Event
from runner.protocol.text import encode
from runner.sources import ModelMode

DOES = {ModelMode.TEXT: "writes text", ModelMode.IMAGE: "draws pictures"}


@asynccontextmanager
async def leased(
    gateway: Gateway, name: str, mode: ModelMode, keep_alive: float | None, id: str
) -> AsyncIterator[Lease]:
    """The use of a model that is of this kind; one of the other kind is refused before it is loaded."""
    known = await gateway.pool.resolve(name)
    if known.mode is not mode:
        raise BadRequest(f"model: {name} {DOES[known.mode]}; one that {DOES[mode]} is needed here")
    async with await gateway.pool.acquire(name, keep_alive, id=id) as lease:
        yield lease


async def side_by_side(
    lease: Lease, requests: Sequence[Mapping[str, Any]], id: str
) -> AsyncGenerator[tuple[int, Event], None]:
    """The events of several requests as they come, each with its request's index. The first failure ends them all."""
    if len(requests) == 1:
        async with aclosing(lease.events(requests[0], id=id)) as events:
            async for event in events:
                yield 0, event
        return
    # Short: who reads slowly keeps the runner's events waiting where they are.
    heard: asyncio.Queue[tuple[int, Event] | BaseException | None] = asyncio.Queue(maxsize=16)

    async def read(index: int) -> None:
        try:
            # Ids in flight are unique; all begin with the client's.
            async with aclosing(lease.events(requests[index], id=f"{id}-{index}")) as events:
                async for event in events:
                    await heard.put((index, event))
            await heard.put(None)
        except Exception as error:
            await heard.put(error)

    tasks = [asyncio.ensure_future(read(index)) for index in range(len(requests))]
    try:
        going = len(tasks)
        while going:
            item = await heard.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                going -= 1
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def ask(lease: Lease, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """One answer of the runner's, as an object."""
    answer = await lease.server.send("POST", path, encode(body))
    try:
        found = await read_object(answer)
    except Broken as error:
        raise await lease.server.broken(error) from None
    finally:
        answer.close()
    if answer.status != 200:
        raise error_from(answer, found)
    return found


def names(model: Installed) -> tuple[str, ...]:
    """What clients call it: a folder only by its aliases."""
    return model.aliases if model.source == "folder" else (model.name, *model.aliases)


class Whole:
    """An ASGI answer of one JSON object that takes time to make; given up when its client leaves."""

    def __init__(self, making: Callable[[], Coroutine[Any, Any, Mapping[str, Any] | Struct]]) -> None:
        self._making = making

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await cancel_on_disconnect(scope, receive, self._answer(scope, receive, send))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = encode(await self._making())
        await Response(body, media_type="application/json")(scope, receive, send)


def sse(value: Mapping[str, Any] | Struct, event: str = "") -> bytes:
    """One server-sent event."""
    named = f"event: {event}\n".encode() if event else b""
    return named + b"data: " + encode(value) + b"\n\n"
