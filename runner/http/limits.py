"""Limits on the size and the speed of requests."""

import math
from dataclasses import dataclass

# Set in the scope of a request whose body arrives too slowly; its next `receive` returns at once.
BODY_TOO_SLOW = "diptych.body_too_slow"


@dataclass(frozen=True)
class Limits:
    line: int = 16 * 1024  # bytes of the request line
    head: int = 64 * 1024  # bytes of the request line and all headers
    idle: float = 75.0  # seconds between requests
    head_seconds: float = 30.0  # from a connection, or the first byte of a request, to the end of its head
    # Minimum rate of a body in bytes a second, checked in periods of so many seconds: 15 KB in half a minute, which any
    # link achieves. Time in which we do not read does not count.
    body_seconds: float = 30.0
    body_rate: int = 500
    stall: float = math.inf  # seconds for which a client may read nothing while there is something to read
    linger: float = (
        2.0  # seconds for which a refused client may go on sending, so that it can read the refusal
    )
