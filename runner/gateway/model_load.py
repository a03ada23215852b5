"""How busy each loaded model is, for schedulers that spread requests over several servers by GET /metrics."""

import asyncio
import logging
from collections.abc import Iterable
from typing import Annotated

import msgspec
from prometheus_client import CollectorRegistry, Gauge

from runner.errors import DiptychError
from runner.gateway.lease import LoadedModel, Phase
from runner.process.client import ConnectionLost
from runner.process.responses import decode_object

log = logging.getLogger("diptych.gateway")

TIMEOUT_S = 5.0

Count = Annotated[int, msgspec.Meta(ge=0)]


class RunnerLoad(msgspec.Struct, frozen=True):
    """Of a runner's /v1/status."""

    queue: Count = 0
    active: Count = 0
    kv_tokens: Count = 0
    kv_limit: Count = 0

    @property
    def usage(self) -> float:
        """The share of the memory for keys and values that is in use; 0 where there is no limit."""
        return min(self.kv_tokens / self.kv_limit, 1.0) if self.kv_limit else 0.0


class LoadGauges:
    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, about: str) -> Gauge:
            return Gauge(f"diptych_model_{name}", about, ("model",), registry=registry)

        self._running = gauge("requests_running", "Requests that a model is working on")
        self._waiting = gauge("requests_waiting", "Requests that wait for a model, or in its queue")
        self._usage = gauge(
            "kv_cache_usage_ratio", "The share of a model's memory for keys and values that is in use, 0 to 1"
        )

    def set(self, loads: Iterable[tuple[str, int, RunnerLoad]]) -> None:
        """From models with the requests that wait in the gateway, and what their runners say."""
        for gauge in (self._running, self._waiting, self._usage):
            gauge.clear()
        for model, waiting, load in loads:
            self._running.labels(model).set(load.active)
            self._waiting.labels(model).set(waiting + load.queue)
            self._usage.labels(model).set(load.usage)


async def runner_load(loaded: LoadedModel) -> RunnerLoad:
    """What its runner says; of one that does not answer, which the health checks deal with, what the gateway knows."""
    known = RunnerLoad(active=loaded.active)
    if loaded.phase is not Phase.READY:
        return known
    endpoint = loaded.backend.pick()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            answer = await endpoint.send("GET", "/v1/status")
            return msgspec.convert(decode_object(await answer.read()), RunnerLoad)
    except (DiptychError, ConnectionLost, TimeoutError, msgspec.ValidationError) as error:
        log.debug("%s does not say how busy it is: %s", loaded.model.name, error)
        return known
    finally:
        loaded.backend.give_back(endpoint)
