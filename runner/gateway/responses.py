"""Responses that are produced while they are sent, and cancelled when their client disconnects."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing, suppress
from typing import Any

from starlette.types import Receive, Scope, Send

from runner.errors import DiptychError
from runner.http.middleware import CLIENT_LEFT, request_context

Headers = Sequence[tuple[bytes, bytes]]


async def cancel_on_disconnect(scope: Scope, receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Await `work`; cancel it when the client disconnects. The request body must have been read before."""
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        else:
            request_context(scope).note = CLIENT_LEFT
    finally:
        for task in (working, watching):
            task.cancel()
        with suppress(asyncio.CancelledError, DiptychError):
            await working


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


class Stream:
    """An ASGI response that streams what a generator yields.

    The status is sent with the first piece: an error before it is raised, and gets a status of its own. A later error
    becomes the last piece, formatted by `last`. The generator is closed when the client disconnects.
    """

    def __init__(
        self, pieces: AsyncGenerator[bytes, None], media_type: str, last: Callable[[DiptychError], bytes]
    ) -> None:
        self._pieces = pieces
        self._media_type = media_type
        self._last = last

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await cancel_on_disconnect(scope, receive, self._send(send))

    async def _send(self, send: Send) -> None:
        async with aclosing(self._pieces) as pieces:
            first = await anext(pieces, b"")
            await begin(
                send, 200, [(b"content-type", self._media_type.encode()), (b"cache-control", b"no-cache")]
            )
            await more(send, first)
            try:
                async for piece in pieces:
                    await more(send, piece)
            except DiptychError as error:
                await more(send, self._last(error))
            await end(send)


async def begin(send: Send, status: int, headers: Headers) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})


async def more(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})


async def end(send: Send) -> None:
    await send({"type": "http.response.body", "body": b"", "more_body": False})
