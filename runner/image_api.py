"""The image endpoint: bodies to drawings, events to answers."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from msgspec import UNSET, Struct
from msgspec.structs import asdict
from starlette.requests import Request

from runner.bodies import PICTURES_LIMIT, read_body
from runner.drawing import Drawing, Planner, prepare
from runner.engine import Engine
from runner.errors import Busy
from runner.image_protocol import DrawDone, DrawnPart, DrawWhole, parse_draw
from runner.metrics import Metrics
from runner.middleware import exchange
from runner.protocol import encode, read_json
from runner.streaming import JobResponse

MIB = 1024**2
# What the decoded pictures of all requests in flight may hold; one request alone may always.
MOST_HELD = 4096 * MIB


class ImageService(Protocol):
    """What the endpoint needs of a loaded picture model."""

    @property
    def pipeline(self) -> Planner: ...


class ImageApi:
    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self._engine = engine
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="pictures")

    async def completion(self, request: Request, service: ImageService) -> JobResponse:
        raw = await read_body(request, PICTURES_LIMIT)
        loop = asyncio.get_running_loop()
        drawing, stream = await loop.run_in_executor(self._threads, _read, raw, service.pipeline)
        self._check_held(drawing)
        job = self._engine.submit(exchange(request.scope).id, drawing)
        return JobResponse(
            self._engine,
            job,
            collect=None if stream else _whole,
            on_first=self._metrics.first.observe,
            on_event=lambda event: self._count(event, drawing.request.count),
        )

    def _check_held(self, drawing: Drawing) -> None:
        held = sum(job.request.bytes for job in self._engine.in_flight())
        if held and held + drawing.bytes > MOST_HELD:
            raise Busy(
                f"images: the pictures of requests in flight hold {held // MIB} MiB, and these {drawing.bytes // MIB}; "
                f"together {MOST_HELD // MIB} are allowed",
                retry_after=10,
            )

    def _count(self, event: Struct, pictures: int) -> None:
        if isinstance(event, DrawDone):
            self._metrics.count_drawn(event, pictures)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _read(raw: bytes, planner: Planner) -> tuple[Drawing, bool]:
    wanted, ignored = parse_draw(read_json(raw))
    return prepare(wanted, ignored, planner), wanted.stream


def _whole(events: list[Struct]) -> bytes:
    """All of a request as one object: what the last event says, with the pictures when there are several."""
    parts = [event.image for event in events if isinstance(event, DrawnPart)]
    return encode(DrawWhole(**asdict(events[-1]), images=parts or UNSET))
