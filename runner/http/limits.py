"""How much a connection may send before it has said anything, and how slowly."""

import math
from dataclasses import dataclass

# In the scope of a request whose body came too slowly: its next `receive` returns at once.
BODY_TOO_SLOW = "diptych.body_too_slow"


@dataclass(frozen=True)
class Limits:
    line: int = 16 * 1024  # bytes of the request line
    head: int = 64 * 1024  # bytes of the request line and all headers
    idle: float = 75.0  # seconds between requests
    head_seconds: float = 30.0  # from a connection, or the first byte of a request, to the end of its head
    # Of a body, at least so many bytes a second in each period of so many seconds: 15 KB in half a minute, which the
    # worst of links gives. While we are the ones who do not read, no time passes.
    body_seconds: float = 30.0
    body_rate: int = 500
    stall: float = math.inf  # seconds in which a client takes nothing while there is something to take
    linger: float = 2.0  # seconds for which a refused client may go on sending, so that it reads the refusal
