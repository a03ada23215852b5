"""One client connection, with limits on size and speed that uvicorn and httptools do not have.

The server checks all connections once a second (`check`), so no request needs a timer.
"""

import logging
from contextlib import suppress
from enum import Enum, auto
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from runner.clock import AwakeClock
from runner.http.limits import BODY_TOO_SLOW, Limits
from runner.protocol.text import encode

log = logging.getLogger("diptych.http")


class _HeadTooLarge(Exception):
    """Aborts the parser, after the request has been refused."""


class Reading(Enum):
    """What the client sends next."""

    NOTHING = auto()  # a new request, at any time
    HEAD = auto()  # the rest of the head
    BODY = auto()  # the rest of the body
    REFUSED = auto()  # anything, which is discarded


class Connection(HttpToolsProtocol):
    def __init__(self, limits: Limits, clock: AwakeClock, **options: Any) -> None:
        super().__init__(**options)
        self._limits = limits
        self._clock = clock
        self._stalled: float | None = None
        self._served = False
        self._head_bytes = 0  # as reported by the parser
        self._fed_bytes = 0  # as given to the parser, which does not report an unfinished header
        self._expect(Reading.NOTHING)

    def _expect(self, reading: Reading) -> None:
        self._reading = reading
        self._since = self._clock.time()
        self._body_bytes = 0

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    # -- receiving

    def data_received(self, data: bytes) -> None:
        if self._reading is Reading.REFUSED:
            return
        if self._reading is Reading.NOTHING:
            self._expect(Reading.HEAD)
        began_in_head = self._reading is Reading.HEAD
        super().data_received(data)
        if began_in_head and self._reading is Reading.HEAD:
            self._fed_bytes += len(data)
            if self._fed_bytes > self._limits.head:
                self._refuse_head()

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn for whatever the parser rejects."""
        self.refuse(400, msg)

    def on_message_begin(self) -> None:
        self._head_bytes = self._fed_bytes = 0
        if self._reading is Reading.NOTHING:
            self._expect(Reading.HEAD)
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        if len(self.url) + len(url) > self._limits.line:
            self.refuse(414, f"the request line is longer than {self._limits.line} bytes")
            raise _HeadTooLarge
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + len(": \r\n"))
        if self._reading is Reading.HEAD:  # trailers are ignored: the request has been accepted by now
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._served = True
        self._expect(Reading.BODY)

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._expect(Reading.NOTHING)

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._limits.head:
            self._refuse_head()
            raise _HeadTooLarge

    def _refuse_head(self) -> None:
        self.refuse(431, f"the headers are longer than {self._limits.head} bytes together")

    # -- once a second

    def check(self) -> None:
        """Drop or refuse a client that is too slow."""
        limits, now = self._limits, self._clock.time()
        elapsed = now - self._since
        if self._stalled is not None and now - self._stalled > limits.stall:
            log.info("dropped a client that does not read")
            self._abort()
        elif self._reading is Reading.BODY:
            self._check_body(elapsed)
        elif self._answering and not self.cycle.disconnected:
            self._since = now  # nothing is expected before the response has ended
        elif self._reading is Reading.REFUSED and elapsed > limits.linger:
            self._abort()
        elif self._reading is Reading.HEAD and elapsed > limits.head_seconds:
            self.refuse(408, f"the head of the request did not end within {limits.head_seconds:g} s")
        elif not self._served and elapsed > limits.head_seconds:
            self.transport.close()

    def _check_body(self, elapsed: float) -> None:
        limits = self._limits
        if self.flow.read_paused or self.cycle.waiting_for_100_continue:
            self._expect(Reading.BODY)  # the client waits for us
        elif elapsed <= limits.body_seconds:
            return
        elif self._body_bytes >= limits.body_seconds * limits.body_rate:
            self._expect(Reading.BODY)
        else:
            self._give_up_body()

    def _give_up_body(self) -> None:
        """Let the request respond with 408, in the format of its API; if it cannot, drop the connection."""
        scope: dict[str, Any] = self.cycle.scope  # type: ignore[assignment]
        if scope.get(BODY_TOO_SLOW) or self.cycle.response_started:
            log.info("dropped a client that sends too slowly")
            self._abort()
            return
        self._expect(Reading.BODY)
        self._since += self._limits.linger - self._limits.body_seconds
        scope[BODY_TOO_SLOW] = True
        self.cycle.keep_alive = False
        self.cycle.message_event.set()

    # -- refusing

    def refuse(self, status: int, message: str) -> None:
        """Respond to a request that cannot be parsed and close the connection: what follows cannot be parsed either."""
        if self._reading is Reading.REFUSED or self.transport.is_closing():
            return
        in_body = self._reading is Reading.BODY
        self._expect(Reading.REFUSED)
        log.info("refused a request: %d %s", status, message)
        if in_body and self.pipeline and self.pipeline[0][0] is self.cycle:
            self.pipeline.popleft()
        elif in_body:
            self._abandon_request(status, message)
        elif not self._answering:
            self._respond(status, message)
        # Otherwise an earlier response is being sent, and the refusal must not be mixed into it.

    def _abandon_request(self, status: int, message: str) -> None:
        """For the handler, the client has disconnected; the client gets the reason."""
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        if self.cycle.response_started:
            self._abort()
        else:
            self._respond(status, message)

    def _respond(self, status: int, message: str) -> None:
        body = encode({"error": message})
        self.transport.write(
            b"HTTP/1.1 %d %s\r\n" % (status, HTTPStatus(status).phrase.encode())
            + b"content-type: application/json\r\nconnection: close\r\n"
            + b"content-length: %d\r\n\r\n" % len(body)
            + body
        )
        # Closing now would answer data still in transit with a reset, which can overtake the refusal.
        with suppress(OSError):
            self.transport.write_eof()

    def on_response_complete(self) -> None:
        last = not self.pipeline
        super().on_response_complete()
        if last and self._reading is Reading.REFUSED:
            self.transport.close()

    def _abort(self) -> None:
        with suppress(OSError):
            self.transport.abort()

    # -- clients that do not read

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self._clock.time()

    def resume_writing(self) -> None:
        self._stalled = None
        super().resume_writing()
