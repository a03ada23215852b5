"""Where other gateways serve a model, and what they say of it."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec import Struct

from runner.clock import awake_timeout
from runner.errors import BadRequest, DiptychError, ModelNotSupported, NotAllowed, RunnerFailed
from runner.gateway.hops import HEADER
from runner.process.client import Client, ConnectionLost
from runner.process.responses import encode_request, error_from, read_object
from runner.process.supervisor import HEALTH_TIMEOUT
from runner.sources import ModelMode

DEFAULT_PORT = 11435
SENT_WITH = (("content-type", "application/json"), (HEADER, "1"))


class Place(Struct, frozen=True):
    """Where another gateway serves a model: `http://mac-1:11435/name-there`."""

    host: str
    port: int
    model: str

    @classmethod
    def parse(cls, address: str, model: str) -> "Place":
        """`model`: its name there, unless the address says another."""
        try:
            parts = urlsplit(address)
            port = DEFAULT_PORT if parts.port is None else parts.port
        except ValueError:
            raise BadRequest(f"{address} is not an address: its port must be from 1 to 65535") from None
        if not parts.hostname or not port:
            raise BadRequest(f"{address} is not an address such as http://mac-1:11435")
        return cls(parts.hostname, port, unquote(parts.path.strip("/")) or model)

    def client(self, key: str | None) -> Client:
        return Client(self.port, key, self.host)


class _Listed(Struct, frozen=True):
    """What GET /library says of a model."""

    name: str
    names: tuple[str, ...] = ()
    mode: ModelMode | None = None
    fault: str | None = None
    capabilities: tuple[str, ...] = ()


class _Library(Struct, frozen=True):
    models: tuple[_Listed, ...]


class About(Struct, frozen=True):
    """What has to be known of a model before it is loaded."""

    mode: ModelMode
    sees: bool  # pictures in chats


async def about(places: list[Place], key: str | None) -> About:
    """What the first gateway says that knows its model; the error of the last one otherwise."""
    failure: DiptychError = RunnerFailed("no address is given")
    for place in places:
        client = place.client(key)
        try:
            async with awake_timeout(HEALTH_TIMEOUT):
                library = converted(await asked(client, "GET", "/library"), _Library, client.address)
            return _described(library, place, client.address)
        except DiptychError as error:
            failure = error
        except TimeoutError:
            failure = RunnerFailed(f"{client.address} does not answer")
        finally:
            client.close()
    raise failure


def _described(library: _Library, place: Place, address: str) -> About:
    found = next((one for one in library.models if place.model in (one.name, *one.names)), None)
    if found is None:
        raise RunnerFailed(f"{address} has no model {place.model}")
    if found.fault or found.mode is None:
        raise ModelNotSupported(
            f"{place.model} cannot run at {address}: {found.fault or 'its kind is unknown'}"
        )
    return About(found.mode, "vision" in found.capabilities)


async def asked(
    client: Client, method: str, path: str, body: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    try:
        response = await client.request(
            method, path, encode_request(body) if body is not None else b"", SENT_WITH
        )
        content = await read_object(response)
    except ConnectionLost as error:
        raise RunnerFailed(f"{client.address}: {error}") from None
    if response.status == 401:
        raise NotAllowed(f"{client.address} needs its API key (serve.replica_key, or DIPTYCH_REPLICA_KEY)")
    if response.status != 200:
        raise error_from(response, content)
    return content


def converted(content: Mapping[str, Any], kind: type[Any], address: str) -> Any:
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError:
        raise RunnerFailed(f"another server than Diptych answers at {address}") from None
