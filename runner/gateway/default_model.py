"""Requests that name no model are for the only one that is loaded."""

import msgspec
from starlette.requests import Request

from runner.gateway.app import Gateway
from runner.http.bodies import LIMIT, read_body
from runner.protocol.text import encode


async def read_named_body(request: Request, gateway: Gateway, limit: int = LIMIT) -> bytes:
    """The body, with a model. What is not an object, or for no model in particular, is left to the error of its route."""
    body = await read_body(request, limit)
    name = None if b'"model"' in body else gateway.pool.only_name
    if name is None:
        return body
    try:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body
    return encode({"model": name, **fields})
