"""Bodies: requests are read up to a limit, responses encoded as JSON."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from runner.errors import BadRequest, TooLarge, TooSlow
from runner.http.limits import BODY_TOO_SLOW
from runner.protocol.text import encode

LIMIT = 64 * 1024**2
PICTURES_LIMIT = 128 * 1024**2  # ten pictures of nine megabytes, in base64
# A client that is still sending may never read the error, so up to this much of the rest is read and discarded.
DRAIN = 1024**3


class JsonResponse(Response):
    """A value of one of our types as JSON."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return encode(content)


async def read_body(request: Request, limit: int = LIMIT) -> bytes:
    """The whole body; TooLarge when it exceeds the limit."""
    declared = request.headers.get("content-length", "")
    chunks: list[bytes] = []
    size = 0
    more = True
    while more and size <= DRAIN:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise BadRequest("the client disconnected before its request was complete")
        if request.scope.get(BODY_TOO_SLOW):
            raise TooSlow(f"the body arrives too slowly: {size} bytes so far, and almost none recently")
        chunk, more = message.get("body", b""), message.get("more_body", False)
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
    if size > limit:
        length = declared if declared.isdigit() else str(size)
        raise TooLarge(f"the body has {length} bytes; at most {limit} are allowed")
    return b"".join(chunks)
