"""Pages elsewhere that may read the gateway's answers, and what needs no key."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runner.gateway.settings import Settings
from runner.http.access import Access, Origins, header

# Health checks need no key; neither does the page, because it is where users enter theirs.
OPEN = ("/healthz", "/")
# Names that cannot be guessed are keys of their own: browsers send none for a picture.
OPEN_UNDER = ("/v1/images/files/", "/page/")
EXPOSED = b"x-request-id, retry-after"
METHODS = b"GET, POST, PUT, DELETE, HEAD"
DAY = b"86400"


def access(app: ASGIApp, settings: Settings) -> Access:
    """The checks of `runner/http/access.py`, as the settings have them."""
    return Access(
        app,
        keys=settings.keys,
        hosts=settings.hosts,
        origins=settings.origins,
        open_paths=OPEN,
        open_prefixes=OPEN_UNDER,
    )


class Cors:
    """ASGI middleware that lets allowed pages read the answers, and answers their browsers' questions before."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._origins = Origins(settings.origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin = header(scope, b"origin") if scope["type"] == "http" else ""
        if not origin or not self._origins.allow(origin, header(scope, b"host")):
            await self._app(scope, receive, send)
            return
        allowed = [(b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"origin")]
        if scope["method"] == "OPTIONS" and header(scope, b"access-control-request-method"):
            await send({"type": "http.response.start", "status": 204, "headers": allowed + _preflight(scope)})
            await send({"type": "http.response.body", "body": b""})
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                exposed = (b"access-control-expose-headers", EXPOSED)
                message["headers"] = [*message.get("headers", []), *allowed, exposed]
            await send(message)

        await self._app(scope, receive, sending)


def _preflight(scope: Scope) -> list[tuple[bytes, bytes]]:
    found = [(b"access-control-allow-methods", METHODS), (b"access-control-max-age", DAY)]
    wanted = header(scope, b"access-control-request-headers")
    if wanted and all(c.isalnum() or c in "-_, " for c in wanted):
        found.append((b"access-control-allow-headers", wanted.encode("latin-1")))
    if header(scope, b"access-control-request-private-network"):
        found.append((b"access-control-allow-private-network", b"true"))
    return found
