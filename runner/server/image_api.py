"""POST /completion of a picture model: request bodies become jobs, and events become responses."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from msgspec import UNSET, Struct
from msgspec.structs import asdict
from starlette.requests import Request

from pipelines.base import AdapterChoice, ControlNetChoice
from runner.engine.engine import Engine
from runner.engine.image.jobs import PlannedRequest, Planner, choose_adapters, choose_controlnets, prepare
from runner.engine.jobs import Job
from runner.errors import Busy
from runner.http.bodies import PICTURES_LIMIT, read_body
from runner.http.metrics import Metrics
from runner.http.middleware import request_context
from runner.protocol.image import ImageChunk, ImageCompletionRequest, ImageDone, ImageWhole, parse_image
from runner.protocol.text import encode, read_json
from runner.server.streaming import JobResponse, while_connected
from runner.sources.adapters import AdapterSource
from runner.sources.controlnets import ControlNetSource

MIB = 1024**2
NO_ADAPTERS: tuple[AdapterChoice, ...] = ()
NO_CONTROLNETS: tuple[ControlNetChoice, ...] = ()
# The memory limit for the input pictures of all requests, from their arrival until they are drawn.
MOST_HELD = 1024 * MIB


class ImageService(Protocol):
    """The part of a loaded picture model that the endpoint uses."""

    @property
    def pipeline(self) -> Planner: ...


class ImageApi:
    def __init__(
        self, engine: Engine, metrics: Metrics, adapters: AdapterSource, controlnets: ControlNetSource
    ) -> None:
        self._engine = engine
        self._metrics = metrics
        self._adapters = adapters
        self._controlnets = controlnets
        # They may have to be downloaded, which holds up nothing else.
        self._finders = ThreadPoolExecutor(2, thread_name_prefix="find")
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="read")
        # Decodes one picture at a time, alternating between requests.
        self._decoder = ThreadPoolExecutor(1, thread_name_prefix="decode")
        self._preparing = 0

    async def completion(self, request: Request, service: ImageService) -> JobResponse:
        raw = [await read_body(request, PICTURES_LIMIT)]
        job, planned, stream = await while_connected(request, self._submit(request, raw, service.pipeline))
        return JobResponse(
            self._engine,
            job,
            collect=None if stream else _whole,
            on_first=self._metrics.first.observe,
            on_event=lambda event: self._count(event, planned.request.count),
        )

    async def _submit(
        self, request: Request, raw: list[bytes], planner: Planner
    ) -> tuple[Job, PlannedRequest, bool]:
        """When cancelled, at most one picture is still decoded. The body, which may be large, is taken out of `raw`, so
        that it can be freed."""
        loop = asyncio.get_running_loop()
        body, warnings = await loop.run_in_executor(self._readers, _read, raw.pop())
        stream, adapters, controlnets = body.stream, NO_ADAPTERS, NO_CONTROLNETS
        if body.loras or body.lora_tags:
            body, adapters, more = await loop.run_in_executor(
                self._finders, choose_adapters, body, self._adapters
            )
            warnings += more
        if body.controls:
            controlnets, more = await loop.run_in_executor(
                self._finders, choose_controlnets, body, self._controlnets
            )
            warnings += more
        undecoded = await loop.run_in_executor(
            self._readers, prepare, body, warnings, planner, adapters, controlnets
        )
        del body
        self._check_held(undecoded.bytes)
        self._preparing += undecoded.bytes
        try:
            images = [
                await loop.run_in_executor(self._decoder, undecoded.decode, index)
                for index in range(len(undecoded.files))
            ]
            mask = (
                await loop.run_in_executor(self._decoder, undecoded.decode_mask) if undecoded.mask else None
            )
            controls = [
                await loop.run_in_executor(self._decoder, undecoded.decode_control, index)
                for index in range(len(undecoded.controls))
            ]
            planned = undecoded.decoded(tuple(images), mask, tuple(controls))
            return self._engine.submit(request_context(request.scope).id, planned), planned, stream
        finally:
            self._preparing -= undecoded.bytes

    def _check_held(self, more: int) -> None:
        held = self._preparing + sum(job.request.bytes for job in self._engine.in_flight())
        if held and held + more > MOST_HELD:
            raise Busy(
                f"images: these take {more // MIB} MiB when decoded, and those of requests in flight {held // MIB} MiB; "
                f"{MOST_HELD // MIB} MiB are allowed together",
                retry_after=10,
            )

    def _count(self, event: Struct, pictures: int) -> None:
        if isinstance(event, ImageDone):
            self._metrics.count_drawn(event, pictures)

    def close(self) -> None:
        self._finders.shutdown(wait=False, cancel_futures=True)
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._decoder.shutdown(wait=False, cancel_futures=True)


def _read(raw: bytes) -> tuple[ImageCompletionRequest, list[str]]:
    return parse_image(read_json(raw))


def _whole(events: list[Struct]) -> bytes:
    """All events of a request as one object: the last one, with the pictures if there are several."""
    parts = [event.image for event in events if isinstance(event, ImageChunk)]
    return encode(ImageWhole(**asdict(events[-1]), images=parts or UNSET))
