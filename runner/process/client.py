"""An HTTP client for runners on this machine: connections are reused, and responses are read as they arrive. The only
peer is our own runner, so the layers of a general client are not needed: httptools parses in compiled code, and bytes
are passed on unchanged. `tests/benchmarks/gateway.py` compares it with httpx2."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import cast

import httptools

from runner.errors import BadRequest
from runner.http import tracing

Headers = Sequence[tuple[str, str]]

# Characters that would end a header line.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")

# Bytes that may wait here for a slow reader: the longest text, or a picture of a megapixel. The runner can then be done
# before the client has read everything.
READ_AHEAD = 4 * 1024**2
# Seconds; less than the runner keeps connections, so that a kept one is seldom dead.
KEEP = 30.0
# For a connection; a machine that is off refuses none.
CONNECT_S = 10.0
# A body this small travels in the same packet as its head.
SMALL = 16 * 1024


class ConnectionLost(Exception):
    """The connection could not be made, or ended before the response was complete."""


class Response:
    """A status, headers, and a body that is still arriving."""

    def __init__(self, connection: "_Connection") -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self._connection = connection
        self._chunks: list[bytes] = []
        self._held = 0
        self._over = False
        self._broken: str | None = None
        self._wake = asyncio.Event()
        self._on_end: list[Callable[[], None]] = []

    @property
    def over(self) -> bool:
        """Whether the response is complete or the connection lost."""
        return self._over

    def on_end(self, call: Callable[[], None]) -> None:
        """Call `done` once, when the whole body has arrived or the connection is lost, whether or not it has been read."""
        if self._over:
            call()
        else:
            self._on_end.append(call)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives, in pieces of any size. ConnectionLost when it ends too early."""
        while pieces := await self._take():
            yield pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def lines(self) -> AsyncIterator[bytes]:
        """The body line by line, without line ends, however long a line is."""
        parts: list[bytes] = []  # a line of megabytes arrives in many pieces, and is joined once
        while pieces := await self._take():
            for piece in pieces:
                begin = 0
                while (
                    end := piece.find(b"\n", begin)
                ) >= 0:  # much faster than `split`, which works byte by byte
                    parts.append(piece[begin:end])
                    yield b"".join(parts)
                    parts, begin = [], end + 1
                if begin < len(piece):
                    parts.append(piece[begin:] if begin else piece)
        if parts:
            yield b"".join(parts)

    async def read(self) -> bytes:
        body: list[bytes] = []
        while pieces := await self._take():
            body += pieces
        return b"".join(body)

    async def _take(self) -> list[bytes]:
        """What has arrived since the last call; empty at the end."""
        while not self._chunks:
            if self._over:
                if self._broken:
                    raise ConnectionLost(self._broken)
                return []
            self._wake.clear()
            await self._wake.wait()
        pieces, self._chunks, self._held = self._chunks, [], 0
        self._connection.flow(reading=True)
        return pieces

    def close(self) -> None:
        """Stop reading. If the response is incomplete, the runner sees the client disconnect."""
        if not self._over:
            self._connection.abort()

    # -- called by the connection

    def arrived(self, data: bytes) -> None:
        self._chunks.append(data)
        self._held += len(data)
        if self._held > READ_AHEAD:
            self._connection.flow(reading=False)
        self._wake.set()

    def end(self, broken: str | None = None) -> None:
        if self._over:
            return
        self._over, self._broken = True, broken
        self._wake.set()
        for call in self._on_end:
            call()


class _Connection(asyncio.Protocol):
    """One connection, one exchange at a time."""

    def __init__(self, done: Callable[["_Connection"], None]) -> None:
        self._done = done
        self._transport: asyncio.Transport
        self._response: Response | None = None
        self._head: asyncio.Future[Response] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._reading = True
        self.open = False
        self.idle_since = 0.0

    async def exchange(self, head: bytes, body: bytes) -> Response:
        """Send a request; its response, once the head has arrived."""
        self._response = Response(self)
        self._head = asyncio.get_running_loop().create_future()
        self._parser = httptools.HttpResponseParser(self)
        if len(body) <= SMALL:
            self._transport.write(head + body)
        else:
            self._transport.writelines([head, body])
        try:
            return await self._head
        except asyncio.CancelledError:
            self.abort()
            raise

    def flow(self, reading: bool) -> None:
        """Resume or pause reading from the socket."""
        if reading != self._reading and self.open:
            self._reading = reading
            (self._transport.resume_reading if reading else self._transport.pause_reading)()

    def abort(self) -> None:
        if self.open:
            self.open = False
            self._transport.abort()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.open = True

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._break(f"the response is not HTTP: {error}")
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self.open = False
        reason = getattr(error, "strerror", None) or error
        self._break(f"the connection was lost ({reason})" if error else "the connection was closed")
        self._done(self)

    def _break(self, why: str) -> None:
        response, self._response = self._response, None
        if self._head is not None and not self._head.done():
            self._head.set_exception(ConnectionLost(why))
        if response is not None:
            response.end(broken=why)

    # -- the parser's calls

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._response is not None:
            self._response.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._response is not None and self._head is not None and not self._head.done():
            self._response.status = self._parser.get_status_code()
            self._head.set_result(self._response)

    def on_body(self, data: bytes) -> None:
        if self._response is not None:
            self._response.arrived(data)

    def on_message_complete(self) -> None:
        response, self._response = self._response, None
        if response is None:
            return
        if self._parser.should_keep_alive():
            self.flow(reading=True)
            self.idle_since = time.monotonic()
            self._done(self)
        else:
            self.abort()
        response.end()


class Client:
    """Requests to one runner, any number at once; connections are kept for later ones."""

    def __init__(self, port: int, key: str | None = None, host: str = "127.0.0.1") -> None:
        self._host = host
        self.port = port
        self._idle: list[_Connection] = []
        self._all: set[_Connection] = set()
        self.address = address(host, port)
        self._common = f"host: {self.address}\r\n" + (f"authorization: Bearer {key}\r\n" if key else "")

    async def request(self, method: str, path: str, body: bytes = b"", headers: Headers = ()) -> Response:
        """The response, once its head has arrived; ConnectionLost when there is none."""
        for part in (method, path, *(text for header in headers for text in header)):
            if _CONTROLS.search(part):
                raise BadRequest(f"{part[:80]!r} cannot be sent: it has control characters")
        lines = "".join(f"{name}: {value}\r\n" for name, value in (*headers, *tracing.outgoing()))
        head = f"{method} {path} HTTP/1.1\r\n{self._common}{lines}content-length: {len(body)}\r\n\r\n".encode(
            "latin-1"
        )
        while (kept := self._kept()) is not None:
            try:
                return await kept.exchange(head, body)
            except ConnectionLost:
                continue  # closed by the peer while idle; a new connection shows whether the peer is alive
        return await (await self._connect()).exchange(head, body)

    def close(self) -> None:
        """Close every connection, including those in use."""
        for connection in list(self._all):
            connection.abort()

    def _kept(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.open and time.monotonic() - connection.idle_since < KEEP:
                return connection
            connection.abort()
        return None

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_S):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self._free), self._host, self.port
                )
        except OSError as error:  # TimeoutError among them
            raise ConnectionLost(f"no connection to {self.address}: {error.strerror or error}") from None
        self._all.add(connection)
        return connection

    def _free(self, connection: _Connection) -> None:
        if connection.open:
            self._idle.append(connection)
        else:
            self._all.discard(connection)
            if connection in self._idle:
                self._idle.remove(connection)


def address(host: str, port: int) -> str:
    """As in URLs and Host headers, where an IPv6 address stands in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
