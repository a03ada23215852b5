"""Access to the gateway: what needs no key, and cross-origin requests of web pages (CORS)."""

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from runner.gateway.settings import Settings
from runner.http.access import Access, Origins, header

# Health checks need no key; neither does the web page, because it is where users enter theirs.
OPEN_PATHS = ("/healthz", "/health", "/livez", "/readyz", "/")
# Browsers send no key with an <img>. The names of generated pictures cannot be guessed.
OPEN_PREFIXES = ("/v1/images/files/", "/page/")
METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD")
PREFLIGHT_MAX_AGE_S = 86400


def access(app: ASGIApp, settings: Settings) -> Access:
    """The middleware of `runner/http/access.py`, configured."""
    return Access(
        app,
        keys=settings.keys,
        hosts=settings.hosts,
        origins=settings.origins,
        open_paths=OPEN_PATHS,
        open_prefixes=OPEN_PREFIXES,
    )


class Cors(CORSMiddleware):
    """Starlette's, for the origins that `Origins` allows; requests of others reach `Access`, whose refusal says how to
    allow them."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        super().__init__(
            app,
            allow_methods=METHODS,
            allow_headers=("*",),
            allow_private_network=True,
            expose_headers=("x-request-id", "request-id", "retry-after"),
            max_age=PREFLIGHT_MAX_AGE_S,
        )
        self._origins = Origins(settings.origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin = header(scope, b"origin") if scope["type"] == "http" else ""
        if origin and self._origins.allow(origin, header(scope, b"host")):
            await super().__call__(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def preflight_response(self, request_headers: Headers) -> Response:
        headers = super().preflight_response(request_headers).headers
        del headers["content-length"], headers["content-type"]
        return Response(status_code=204, headers=headers)

    def is_allowed_origin(self, origin: str) -> bool:
        return True  # checked above, where the Host header is known too
