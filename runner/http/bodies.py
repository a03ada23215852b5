"""Request bodies, up to a limit."""

from starlette.requests import Request

from runner.errors import BadRequest, TooLarge, TooSlow
from runner.http.limits import BODY_TOO_SLOW

LIMIT = 64 * 1024**2
PICTURES_LIMIT = 128 * 1024**2  # ten pictures of nine megabytes in base64
# A client that is still sending when it is refused may never read why: this much of the rest is read and thrown away.
DRAIN = 1024**3


async def read_body(request: Request, limit: int = LIMIT) -> bytes:
    """The whole body; TooLarge beyond the limit."""
    declared = request.headers.get("content-length", "")
    chunks: list[bytes] = []
    size = 0
    more = True
    while more and size <= DRAIN:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise BadRequest("the client left before its request was complete")
        if request.scope.get(BODY_TOO_SLOW):
            raise TooSlow(f"the body came too slowly: {size} bytes have arrived, and hardly any of late")
        chunk, more = message.get("body", b""), message.get("more_body", False)
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
    if size > limit:
        shown = declared if declared.isdigit() else str(size)
        raise TooLarge(f"the body has {shown} bytes; at most {limit} are read")
    return b"".join(chunks)
