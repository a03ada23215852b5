"""Which requests are accepted, by Host, Origin and API key. Browsers let any web page send requests to a local server."""

import base64
import hashlib
import hmac
import ipaddress
import re
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from runner.errors import BadRequest, KeyNeeded, NotAllowed, TooManyHeaders

MAX_HEADERS = 100
# Headers that may carry the key, and what precedes it there. Schemes are not case-sensitive.
KEY_HEADERS = {b"authorization": b"bearer ", b"x-api-key": b""}
# Of pages in desktop apps. No web page has them, and Ollama allows them, too.
APP_SCHEMES = ("app", "file", "tauri", "vscode-webview", "vscode-file")
# A name or an address, and a port. A user or a password, allowed in URLs, is not allowed in a Host header.
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]*)?", re.IGNORECASE)


class Access:
    """ASGI middleware that refuses an unknown Host (DNS rebinding), a foreign Origin, and a missing key.

    Paths in `open_paths` or with one of the `open_prefixes` need no key.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Sequence[str] = (),
        hosts: Sequence[str] = (),
        origins: Sequence[str] = (),
        open_paths: tuple[str, ...] = (),
        open_prefixes: tuple[str, ...] = (),
    ) -> None:
        self._app = app
        self._keys = [key.encode() for key in keys]
        self._hosts = Hosts(hosts)
        self._origins = Origins(origins)
        self._open_paths = open_paths
        self._open_prefixes = open_prefixes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._check(scope)
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        if len(scope["headers"]) > MAX_HEADERS:
            raise TooManyHeaders(
                f"the request has {len(scope['headers'])} headers; at most {MAX_HEADERS} are allowed"
            )
        host, origin = host_of(scope), header(scope, b"origin")
        if host and not self._hosts.allow(host):
            raise NotAllowed(
                f"the Host {host[:100]!r} is not a name of this server; if it is, start the server with --allow-host {host[:100]}"
            )
        if origin and not self._origins.allow(origin, host):
            raise NotAllowed(
                f"web pages from {origin[:100]} may not use this server; --allow-origin {origin[:100]} allows them"
            )
        if self._keys and not self._is_open(scope["path"]) and not any(map(self._is_valid, keys_of(scope))):
            raise KeyNeeded("this server needs its API key: Authorization: Bearer KEY, or x-api-key: KEY")

    def _is_valid(self, token: bytes) -> bool:
        """Compares with every key, each in constant time."""
        return sum(hmac.compare_digest(token, key) for key in self._keys) > 0

    def _is_open(self, path: str) -> bool:
        return path in self._open_paths or path.startswith(self._open_prefixes)


class Hosts:
    """The allowed names of this machine. Addresses are fine: DNS rebinding always comes with a name."""

    def __init__(self, allowed: Sequence[str]) -> None:
        own = socket.gethostname().lower()
        self._allowed = {"localhost", own, f"{own}.local", *(name.lower() for name in allowed)}

    def allow(self, host: str) -> bool:
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = match[1].strip("[]").lower()
        if "*" in self._allowed or name in self._allowed or name.endswith(".localhost"):
            return True
        return _is_address(name)


class Origins:
    """The allowed origins: this server's own, those of this machine and its desktop apps, and the configured ones, in
    which * stands for any text within the host or the port, and at the end for the rest."""

    def __init__(self, allowed: Sequence[str]) -> None:
        origins = [origin.rstrip("/").lower() for origin in allowed]
        self._any = "*" in origins
        self._allowed = re.compile("|".join(map(_pattern, origins)) or r"(?!)")

    def allow(self, origin: str, host: str) -> bool:
        origin = origin.lower()
        if self._any or self._allowed.fullmatch(origin):
            return True
        try:
            parts = urlsplit(origin)
            name = parts.hostname or ""
        except ValueError:
            return False
        if parts.scheme in APP_SCHEMES:
            return True
        if parts.scheme not in ("http", "https") or not name:
            return False
        return (
            parts.netloc == host.lower()
            or name == "localhost"
            or (_is_address(name) and ipaddress.ip_address(name).is_loopback)
        )


def host_of(scope: Scope) -> str:
    """The Host header, of which there must be exactly one, or none in HTTP/1.0: then it is empty."""
    hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    if len(hosts) > 1:
        raise BadRequest(f"the request has {len(hosts)} Host headers; it must have one")
    if not hosts and scope.get("http_version") == "1.0":
        return ""
    if not hosts or not _HOST.fullmatch(hosts[0]):
        problem = (
            f"the Host header {hosts[0][:100]!r} is not allowed"
            if hosts
            else "the request has no Host header"
        )
        raise BadRequest(f"{problem}; it must be a name or an address, with or without a port")
    return str(hosts[0])


def header(scope: Scope, name: bytes) -> str:
    """The value of a request header, or an empty string."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value.decode("latin-1"))
    return ""


def keys_of(scope: Scope) -> list[bytes]:
    """The keys that a request carries. Some clients send one in each of the headers."""
    keys = []
    for name, value in scope["headers"]:
        scheme = KEY_HEADERS.get(name)
        if scheme is not None and value.lower().startswith(scheme):
            keys.append(value[len(scheme) :].strip())
        elif name == b"authorization" and value.lower().startswith(b"basic "):
            keys.append(_password(value[len(b"basic ") :].strip()))
    return keys


def _password(encoded: bytes) -> bytes:
    """Of a user and a password as browsers send them. The user may be any."""
    try:
        return base64.b64decode(encoded, validate=True).partition(b":")[2]
    except ValueError:
        return b""


def _pattern(origin: str) -> str:
    within, end = re.escape(origin).replace(r"\*", "[^/@:]*"), "[^/@:]*"
    return within.removesuffix(end) + "[^/@]*" if within.endswith(end) else within


def owner_of(scope: Scope, keys: Sequence[str]) -> str:
    """What stands in files for the valid key of a request; empty without keys. The key cannot be read from it."""
    valid = next((key for key in keys_of(scope) if key in map(str.encode, keys)), None)
    return "" if valid is None else hashlib.sha256(valid).hexdigest()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
