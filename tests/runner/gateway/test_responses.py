"""Answers that are made while they are sent, as dialects use them."""

import asyncio
from collections.abc import AsyncGenerator

import httpx2
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Message

from runner.errors import DiptychError, NotEnoughMemory, RunnerFailed
from runner.gateway.metrics import GatewayMetrics
from runner.gateway.responses import Stream
from runner.http.middleware import RequestContext, RequestContextMiddleware
from tests.waiting import PATIENCE


def last(error: DiptychError) -> bytes:
    return f"data: {error.message}\n".encode()


def ask(pieces: AsyncGenerator[bytes, None]) -> httpx2.Response:
    async def main() -> httpx2.Response:
        app = Starlette(
            routes=[Route("/", endpoint)],
            middleware=[Middleware(RequestContextMiddleware, metrics=GatewayMetrics())],
        )
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://x") as client:
            return await client.get("/")

    async def endpoint(request: Request) -> Stream:
        return Stream(pieces, "text/event-stream", last)

    return asyncio.run(main())


def test_pieces_are_sent_one_after_another() -> None:
    async def pieces() -> AsyncGenerator[bytes, None]:
        yield b"one\n"
        yield b"two\n"

    answer = ask(pieces())
    assert (answer.status_code, answer.text) == (200, "one\ntwo\n")
    assert answer.headers["content-type"] == "text/event-stream"


def test_an_error_before_the_first_piece_keeps_its_status() -> None:
    async def pieces() -> AsyncGenerator[bytes, None]:
        raise NotEnoughMemory("too large")
        yield b""

    answer = ask(pieces())
    assert (answer.status_code, answer.json()) == (507, {"error": "too large"})


def test_an_error_after_it_is_the_last_piece() -> None:
    async def pieces() -> AsyncGenerator[bytes, None]:
        yield b"one\n"
        raise RunnerFailed("it died")

    answer = ask(pieces())
    assert (answer.status_code, answer.text) == (200, "one\ndata: it died\n")


def test_a_client_that_leaves_closes_the_generator() -> None:
    closed = []

    async def pieces() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"more\n"
                await asyncio.sleep(0.01)
        finally:
            closed.append(True)

    async def main() -> RequestContext:
        sent: list[Message] = []
        enough = asyncio.Event()

        async def send(message: Message) -> None:
            sent.append(message)
            if len(sent) > 3:
                enough.set()

        async def receive() -> Message:
            await enough.wait()
            return {"type": "http.disconnect"}

        about = RequestContext("id")
        await asyncio.wait_for(
            Stream(pieces(), "text/plain", last)({"request_context": about}, receive, send), PATIENCE
        )
        return about

    assert asyncio.run(main()).note == "client left"
    assert closed == [True]
