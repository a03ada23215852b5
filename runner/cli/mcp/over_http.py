"""The server over streamable HTTP, on this machine alone and behind the gateway's checks."""

from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from runner.config import Config
from runner.errors import DiptychError
from runner.http.access import Access
from runner.http.bodies import PICTURES_LIMIT
from runner.http.middleware import send_error
from runner.http.server import bind

HOST = "127.0.0.1"


class Guarded:
    """Host, Origin and key are checked as for the gateway."""

    def __init__(self, app: ASGIApp, config: Config) -> None:
        self._app = Access(app, keys=config.api_keys, origins=config.serve["allow_origin"].value)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except DiptychError as error:
            await send_error(send, error.status, error.message, error.headers)


def serve(server: Any, config: Config, port: int) -> None:
    listener = bind(HOST, port)
    print(f"http://{HOST}:{listener.getsockname()[1]}/mcp", flush=True)
    app = Guarded(server.streamable_http_app(max_request_body_size=PICTURES_LIMIT), config)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
