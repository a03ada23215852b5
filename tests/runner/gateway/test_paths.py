"""What is not there is cheap to ask for."""

import asyncio
import time
from typing import Any

from starlette.types import ASGIApp, Message

from runner.api.registry import APIS
from runner.gateway.app import Gateway
from runner.gateway.settings import Settings


async def status(app: ASGIApp, path: str) -> int:
    sent: list[Message] = []
    scope: dict[str, Any] = {
        "type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "headers": [(b"host", b"localhost")], "http_version": "1.1", "scheme": "http", "server": ("localhost", 80),
    }  # fmt: skip

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return int(sent[0]["status"])


def test_a_404_costs_little_more_than_the_cheapest_answer() -> None:
    async def cost(app: ASGIApp, path: str, expected: int) -> float:
        best = 1e9
        for _ in range(5):
            began = time.process_time()
            for _ in range(50):
                assert await status(app, path) == expected
            best = min(best, time.process_time() - began)
        return best

    async def main() -> None:
        app = Gateway(Settings()).asgi(APIS)
        cheapest = await cost(app, "/healthz", 200)
        for path in ("/wp-login.php", "/v1/chat/completion", "/" + "v1/" * 60):
            assert await cost(app, path, 404) < 10 * cheapest

    asyncio.run(main())
