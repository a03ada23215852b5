"""Who may call: the right key, the right Host, the right page. Browsers let any page call a server on this machine."""

import hmac
import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runner.errors import KeyNeeded, NotAllowed
from runner.gateway.settings import Settings
from runner.middleware import bearer

# Whoever watches over us needs no key to ask whether we live, and the page is what asks people for theirs.
OPEN = ("/healthz", "/")
# Names that cannot be guessed are keys of their own: browsers send none for a picture.
OPEN_UNDER = ("/v1/images/files/", "/page/")
EXPOSED = b"x-request-id, retry-after"
METHODS = b"GET, POST, PUT, DELETE, HEAD"
DAY = b"86400"


class Access:
    """ASGI middleware that refuses: an unknown Host (DNS rebinding), a foreign page (Origin), a missing key."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._keys = [key.encode() for key in settings.keys]
        self._hosts = Hosts(settings.hosts)
        self._origins = Origins(settings.origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._check(scope)
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        host, origin = header(scope, b"host"), header(scope, b"origin")
        if host and not self._hosts.allow(host):
            raise NotAllowed(
                f"this server is not called {host[:100]!r}; if that is its name, start it with --allow-host {host[:100]}"
            )
        if origin and not self._origins.allow(origin, host):
            raise NotAllowed(
                f"pages from {origin[:100]} may not call this server; --allow-origin {origin[:100]} lets them"
            )
        if self._keys and not _is_open(scope["path"]) and not self._knows(bearer(scope)):
            raise KeyNeeded("this server needs its API key: Authorization: Bearer KEY")

    def _knows(self, given: bytes) -> bool:
        """Compares with all keys, and each in constant time."""
        return sum(hmac.compare_digest(given, key) for key in self._keys) > 0


def _is_open(path: str) -> bool:
    return path in OPEN or path.startswith(OPEN_UNDER)


class Hosts:
    """The names this machine may be called by. A page that rebinds DNS comes with its own name; an address is none."""

    def __init__(self, allowed: tuple[str, ...]) -> None:
        own = socket.gethostname().lower()
        self._allowed = {"localhost", own, f"{own}.local", *(name.lower() for name in allowed)}

    def allow(self, host: str) -> bool:
        name = _hostname(host)
        if name is None:
            return False
        if "*" in self._allowed or name in self._allowed or name.endswith(".localhost"):
            return True
        return _is_address(name)


class Origins:
    """The pages that may call: our own, those of this machine, and those that were named."""

    def __init__(self, allowed: tuple[str, ...]) -> None:
        self._allowed = {origin.rstrip("/").lower() for origin in allowed}

    def allow(self, origin: str, host: str) -> bool:
        origin = origin.lower()
        if "*" in self._allowed or origin in self._allowed:
            return True
        try:
            parts = urlsplit(origin)
            name = parts.hostname or ""
        except ValueError:
            return False
        if parts.scheme not in ("http", "https") or not name:
            return False
        return parts.netloc == host.lower() or name == "localhost" or _is_loopback(name)


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


def header(scope: Scope, name: bytes) -> str:
    """A request header's value; empty when there is none."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value.decode("latin-1"))
    return ""


def _hostname(host: str) -> str | None:
    """The name in a Host header, without its port and its brackets."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(name: str) -> bool:
    return _is_address(name) and ipaddress.ip_address(name).is_loopback
