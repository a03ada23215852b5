"""Shared by the APIs: leases on models of the right mode, several requests at once, and responses that are cancelled
when their client disconnects."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from starlette.types import Receive, Scope, Send

from runner.errors import BadRequest, RunnerFailed
from runner.gateway.app import Gateway
from runner.gateway.fitness import check_sight, check_writes
from runner.gateway.lease import Lease
from runner.gateway.resolver import ResolvedModel
from runner.gateway.responses import cancel_on_disconnect
from runner.http.bodies import JsonResponse
from runner.library import Installed
from runner.process.client import ConnectionLost
from runner.process.responses import decode_object, error_from
from runner.protocol.events import TextEvent
from runner.protocol.text import TextRequest, encode
from runner.sources import ModelMode

T = TypeVar("T")

DOES = {ModelMode.TEXT: "writes text", ModelMode.IMAGE: "draws pictures"}


@asynccontextmanager
async def leased(
    gateway: Gateway,
    name: str,
    mode: ModelMode,
    keep_alive: float | None,
    id: str,
    request: TextRequest | None = None,
    *,
    writes: bool = False,
) -> AsyncIterator[Lease]:
    """A lease on a model of this mode. Refused before the model is loaded: one of the other mode, one that does not see if the
    request has pictures, and one that writes no text if `request` or `writes` asks for some."""
    model = await gateway.pool.resolve(name)
    if model.mode is not mode:
        raise BadRequest(f"model: {name} {DOES[model.mode]}; this route needs one that {DOES[mode]}")
    if request is not None:
        check_request(model, request)
    elif writes:
        check_writes(model)
    async with await gateway.pool.acquire(name, keep_alive, id=id) as lease:
        yield lease


def check_request(model: ResolvedModel, request: TextRequest) -> None:
    """Refuse pictures that the model would not see, and texts that it would not write."""
    check_writes(model)
    for at, message in enumerate(request.messages or []):
        if message.images:
            check_sight(model, at)


async def side_by_side(
    lease: Lease, requests: Sequence[TextRequest], id: str
) -> AsyncGenerator[tuple[int, TextEvent], None]:
    """The events of several requests as they arrive, each with the index of its request. The first failure ends them
    all."""
    if len(requests) == 1:
        async with aclosing(lease.server.completion(requests[0], id=id)) as events:
            async for event in events:
                yield 0, event
        return
    # Short, so that a slow reader leaves the events in the runner.
    queue: asyncio.Queue[tuple[int, TextEvent] | BaseException | None] = asyncio.Queue(maxsize=16)

    async def read(index: int) -> None:
        try:
            # Ids in flight are unique; each begins with the client's id.
            async with aclosing(lease.server.completion(requests[index], id=f"{id}-{index}")) as events:
                async for event in events:
                    await queue.put((index, event))
            await queue.put(None)
        except Exception as error:
            await queue.put(error)

    tasks = [asyncio.ensure_future(read(index)) for index in range(len(requests))]
    try:
        running = len(tasks)
        while running:
            item = await queue.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                running -= 1
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def ask(lease: Lease, path: str, body: Struct, kind: type[T]) -> T:
    """Send a request to the runner and decode its JSON response."""
    response = await lease.server.send("POST", path, encode(body))
    try:
        raw = await response.read()
    except ConnectionLost as error:
        raise await lease.server.explain(error) from None
    finally:
        response.close()
    if response.status != 200:
        raise error_from(response, decode_object(raw))
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RunnerFailed(f"the runner's answer to {path} cannot be read: {error}") from None


def names(model: Installed) -> tuple[str, ...]:
    """The names that clients may use. A folder has only its aliases."""
    return model.aliases if model.source == "folder" else (model.name, *model.aliases)


class DeferredJson:
    """An ASGI response of one JSON object that takes time to produce; cancelled when its client disconnects."""

    def __init__(self, make: Callable[[], Coroutine[Any, Any, Mapping[str, Any] | Struct]]) -> None:
        self._make = make

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await cancel_on_disconnect(scope, receive, self._respond(scope, receive, send))

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        await JsonResponse(await self._make())(scope, receive, send)


def sse(value: Mapping[str, Any] | Struct, event: str = "") -> bytes:
    """One server-sent event."""
    name = f"event: {event}\n".encode() if event else b""
    return name + b"data: " + encode(value) + b"\n\n"
