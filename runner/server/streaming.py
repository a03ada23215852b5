"""Responses made of a job's events: one line per event as it arrives, or all at once. Notices when the client
disconnects."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from msgspec import Struct
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from runner.engine.engine import Engine
from runner.engine.jobs import Job
from runner.errors import RequestCancelled
from runner.http.middleware import CLIENT_LEFT, request_context, send_error
from runner.protocol.text import Failed, lines
from runner.server.traces import record_steps

T = TypeVar("T")

NDJSON = [(b"content-type", b"application/x-ndjson"), (b"cache-control", b"no-cache")]

Collect = Callable[[list[Struct]], bytes | bytearray]


class JobResponse:
    """An ASGI response made of a job's events. The status is sent with the first event, so that an earlier error gets a
    status of its own. With `collect`, the response is a single body. A disconnect cancels the job, streaming or not."""

    def __init__(
        self,
        engine: Engine,
        job: Job,
        collect: Collect | None = None,
        on_first: Callable[[float], None] = lambda _: None,
        on_event: Callable[[Struct], None] = lambda _: None,
    ) -> None:
        self._engine = engine
        self._job = job
        self._collect = collect
        self._on_first = on_first
        self._on_event = on_event
        self._left = False
        self._last: Struct | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        watcher = asyncio.create_task(self._watch(receive))
        try:
            if self._collect is not None:
                await self._whole(send, self._collect, b"application/json")
            elif scope.get("http_version") == "1.0":  # HTTP/1.0 has no chunks: the same lines, all at once
                await self._whole(send, lines, b"application/x-ndjson")
            else:
                await self._stream(scope, send)
        finally:
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher
            if not self._job.over:
                self._engine.cancel(self._job)
            span = request_context(scope).span
            if span is not None:
                record_steps(span, self._job.submitted, self._last)
            if self._left:
                request_context(scope).note = CLIENT_LEFT

    async def _watch(self, receive: Receive) -> None:
        await _left(receive)
        self._left = True
        self._engine.cancel(self._job)

    async def _stream(self, scope: Scope, send: Send) -> None:
        # Messages that are sent many times a second bypass the middleware.
        direct: Send = scope.get("direct_send", send)
        begun = False
        async for events in self._job.batches():
            if self._left:
                return
            self._take(events)
            if not begun:
                if await self._failed_first(events[0], send):
                    return
                begun = True
                self._on_first(time.perf_counter() - self._job.submitted)
                await send({"type": "http.response.start", "status": 200, "headers": NDJSON})
            more = not self._job.over or self._job.unread > 0
            await direct(_body(lines(events), more))

    async def _whole(self, send: Send, collect: Collect, kind: bytes) -> None:
        gathered: list[Struct] = []
        async for events in self._job.batches():
            if not gathered:
                self._on_first(time.perf_counter() - self._job.submitted)
            gathered += events
            self._take(events)
        if self._left or await self._failed_first(gathered[-1], send):
            return
        body = collect(gathered)
        headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send(_body(body, more=False))

    def _take(self, events: list[Struct]) -> None:
        for event in events:
            self._on_event(event)
        self._last = events[-1]

    async def _failed_first(self, event: Struct, send: Send) -> bool:
        if not isinstance(event, Failed):
            return False
        await send_error(send, self._job.status, event.error)
        return True


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the client disconnects. The request body must have been read
    before."""
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_left(request.receive))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        request_context(request.scope).note = CLIENT_LEFT
        raise RequestCancelled("the client left before its request had begun")
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.wait((working, watching))


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


def _body(data: bytes | bytearray, more: bool) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}
