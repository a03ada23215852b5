"""A client for the gateway that runs on this machine, for the commands."""

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from runner.config import Config
from runner.errors import DiptychError, KeyNeeded, NoGateway, RunnerFailed
from runner.gateway.discovery import gateways
from runner.process.client import Client, ConnectionLost, Response
from runner.process.responses import Truncated, decode_object, error_from, read_events
from runner.protocol.events import CompletionRequest, Event
from runner.protocol.text import encode

State = dict[str, Any]

# A gateway never blocks: without a response to GET /models within this time, it is not one.
GATEWAY_TIMEOUT_S = 5.0
# A server that listens on all addresses is reached at loopback.
WILDCARD_HOSTS = {"0.0.0.0": "127.0.0.1", "::": "::1"}
# With one of these set, only that address is tried.
ADDRESS_VARS = ("DIPTYCH_HOST", "DIPTYCH_PORT")


class Remote:
    """The gateway at an address. NoGateway when nothing listens there, or something else does."""

    def __init__(self, host: str, port: int, key: str | None = None) -> None:
        self._client = Client(port, key, WILDCARD_HOSTS.get(host, host))
        self.address = f"http://{self._client.address}"

    async def state(self) -> State:
        """GET /models."""
        try:
            async with asyncio.timeout(GATEWAY_TIMEOUT_S):
                state = await self._request("GET", "/models")
        except TimeoutError:
            raise self._no_gateway("it does not answer") from None
        except RunnerFailed as error:
            raise self._no_gateway(error.message) from None
        if not isinstance(state.get("models"), list) or "budget" not in state:
            raise self._no_gateway("another server answers there")
        return state

    async def name_of(self, path: Path) -> str | None:
        """What it calls a model of a folder or file; None where it was not given that."""
        return next((str(one["name"]) for one in await self.library() if one["model"] == str(path)), None)

    async def library(self) -> list[State]:
        """GET /library: the models of this machine."""
        models: list[State] = (await self._request("GET", "/library"))["models"]
        return models

    async def load(self, model: str) -> None:
        """Return once it is loaded."""
        await self._request("POST", "/models/load", {"model": model})

    async def stop(self, model: str) -> str:
        """Unload a model: `stopped`, `stopping` while it still has requests, or `not loaded`."""
        return str((await self._request("POST", "/models/stop", {"model": model}))["status"])

    def completion(self, model: str, request: CompletionRequest) -> AsyncGenerator[Event, None]:
        """The events of a text or a picture up to the last. Closing the generator cancels the request."""
        body = encode({"model": model, **msgspec.to_builtins(request)})
        return read_events(lambda: self._send("POST", "/completion", body), self._explain)

    async def _explain(self, error: ConnectionLost) -> DiptychError:
        if isinstance(error, Truncated):
            return RunnerFailed("the gateway closed the stream before its final event")
        return self._no_gateway(str(error))

    def close(self) -> None:
        self._client.close()

    async def _request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        answer = await self._send(method, path, encode(body) if body is not None else b"")
        try:
            content = decode_object(await answer.read())
        except ConnectionLost as error:
            raise self._no_gateway(str(error)) from None
        if answer.status == 401:
            raise KeyNeeded(
                f"the gateway at {self.address} needs its API key (DIPTYCH_API_KEY, or serve.api_key)"
            )
        if answer.status != 200:
            raise error_from(answer, content)
        return content

    async def _send(self, method: str, path: str, body: bytes) -> Response:
        try:
            return await self._client.request(method, path, body, [("content-type", "application/json")])
        except ConnectionLost as error:
            raise self._no_gateway(str(error)) from None

    def _no_gateway(self, why: str) -> NoGateway:
        reason = "" if why.startswith("no connection") else f" ({why})"
        return NoGateway(f"no gateway at {self.address}{reason}; `diptych serve` starts one")


def remotes(config: Config) -> list[Remote]:
    """Where a gateway may be: the advertised ones, latest first, and the configured address, which comes first if it is
    advertised and last if it is not."""
    configured = (str(config.serve["host"].value), int(config.serve["port"].value))
    advertised = [(one.host, one.port) for one in gateways()]
    if any(os.environ.get(name) for name in ADDRESS_VARS):
        addresses = [configured]
    elif configured in advertised:
        addresses = [configured, *advertised]
    else:
        addresses = [*advertised, configured]
    key = next(iter(config.api_keys), None)
    return [Remote(host, port, key) for host, port in dict.fromkeys(addresses)]


async def reach(config: Config) -> tuple[Remote, State]:
    """The gateway of this machine and its state. NoGateway when none answers."""
    errors = []
    for remote in remotes(config):
        try:
            return remote, await remote.state()
        except NoGateway as error:
            remote.close()
            errors.append(error)
    raise errors[-1]
