"""The gateway that is running on this machine, as commands see it: an HTTP client and nothing else."""

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from runner.config import Config
from runner.config.keys import keys
from runner.errors import KeyNeeded, NoGateway, RunnerFailed
from runner.gateway.discovery import gateways
from runner.process.client import Answer, Broken, Client
from runner.process.responses import decode_object, error_from
from runner.protocol.text import encode

Event = dict[str, Any]
State = dict[str, Any]

# A gateway never blocks: one that takes longer than this to say what is loaded is not there.
GATEWAY_TIMEOUT_S = 5.0
# Who listens everywhere is asked here.
WILDCARD_HOSTS = {"0.0.0.0": "127.0.0.1", "::": "::1"}
# Who states an address for this one call means that one and no other.
ADDRESS_VARS = ("DIPTYCH_HOST", "DIPTYCH_PORT")


class Remote:
    """The gateway at an address. NoGateway when nobody is there, or somebody else."""

    def __init__(self, host: str, port: int, key: str | None = None) -> None:
        self._client = Client(port, key, WILDCARD_HOSTS.get(host, host))
        self.address = f"http://{self._client.address}"

    async def state(self) -> State:
        """What is loaded, as GET /models says it."""
        try:
            async with asyncio.timeout(GATEWAY_TIMEOUT_S):
                found = await self._ask("GET", "/models")
        except TimeoutError:
            raise self._nobody("it does not answer") from None
        except RunnerFailed as error:
            raise self._nobody(error.message) from None
        if not isinstance(found.get("models"), list) or "budget" not in found:
            raise self._nobody("what answers there is something else")
        return found

    async def load(self, model: str) -> None:
        """Return once it is loaded."""
        await self._ask("POST", "/models/load", {"model": model})

    async def stop(self, model: str) -> str:
        """End a model: `stopped`, `stopping` while it still has work, or `not loaded`."""
        return str((await self._ask("POST", "/models/stop", {"model": model}))["status"])

    async def completion(self, request: Mapping[str, Any]) -> AsyncGenerator[Event, None]:
        """The events of a text or a picture up to the one with `done`; closing the generator stops the work."""
        answer = await self._send("POST", "/completion", encode(request))
        done = False
        try:
            if answer.status != 200:
                raise error_from(answer, decode_object(await answer.read()))
            async for line in answer.lines():
                event = decode_object(line)
                done = bool(event.get("done"))
                if event.get("error"):
                    raise RunnerFailed(str(event["error"]))
                yield event
        except Broken as error:
            if not done:
                raise self._nobody(str(error)) from None
        finally:
            answer.close()
        if not done:
            raise RunnerFailed("the answer ended in the middle")

    def close(self) -> None:
        self._client.close()

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        answer = await self._send(method, path, encode(body) if body is not None else b"")
        try:
            found = decode_object(await answer.read())
        except Broken as error:
            raise self._nobody(str(error)) from None
        if answer.status == 401:
            raise KeyNeeded(
                f"the gateway at {self.address} needs its API key (DIPTYCH_API_KEY, or serve.api_key)"
            )
        if answer.status != 200:
            raise error_from(answer, found)
        return found

    async def _send(self, method: str, path: str, body: bytes) -> Answer:
        try:
            return await self._client.request(method, path, body, [("content-type", "application/json")])
        except Broken as error:
            raise self._nobody(str(error)) from None

    def _nobody(self, why: str) -> NoGateway:
        shown = "" if why.startswith("no connection") else f" ({why})"
        return NoGateway(f"no gateway at {self.address}{shown}; `diptych serve` starts one")


def remotes(config: Config) -> list[Remote]:
    """Where a gateway may be: the address that the configuration states, and those that say that they run, the latest
    first. What runs comes before what is only stated."""
    stated = (str(config.serve["host"].value), int(config.serve["port"].value))
    running = [(one.host, one.port) for one in gateways()]
    if any(os.environ.get(name) for name in ADDRESS_VARS):
        places = [stated]
    elif stated in running:
        places = [stated, *running]
    else:
        places = [*running, stated]
    key = next(iter(keys(config)), None)
    return [Remote(host, port, key) for host, port in dict.fromkeys(places)]


async def reach(config: Config) -> tuple[Remote, State]:
    """The gateway of this machine, and what it has loaded. NoGateway when none answers."""
    missed = []
    for remote in remotes(config):
        try:
            return remote, await remote.state()
        except NoGateway as error:
            remote.close()
            missed.append(error)
    raise missed[-1]
