"""A pipeline that draws noise of its own: it holds memory, can be stopped at any step, and fails on demand."""

import base64
import contextlib
import io
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import httpx2
import mlx.core as mx
import numpy as np
from PIL import Image

from pipelines import Capabilities
from pipelines.base import (
    AdapterChoice,
    ControlNetChoice,
    Event,
    ImageRequest,
    Picture,
    PipelineError,
    Pixels,
    Plan,
    Report,
    Step,
)
from pipelines.mlx_memory import MlxMemory
from runner.engine.engine import Engine, State
from runner.engine.image.worker import ImageWorker
from runner.inspect.identity import ModelIdentity
from runner.server.app import RunnerApp
from runner.sources.adapters import AdapterSource
from runner.sources.controlnets import ControlNetSource
from tests.waiting import PATIENCE, until

HELD = 8 * 1024**2  # bytes that a drawing holds while it is made


class FakePipeline:
    """Each picture depends on the prompt, the seed, the size, and nothing else."""

    context = 77
    needed: int | None = None  # bytes for a picture
    memory = MlxMemory()
    capabilities = Capabilities(("prompt", "seed"), 0)

    def __init__(self) -> None:
        self.requests: list[ImageRequest] = []
        self.steps = 0
        self.closed = 0
        self.gate = threading.Event()
        self.gate.set()
        self.fail: Exception | None = None
        self.pictures_missing = 0

    def plan(self, request: ImageRequest) -> Plan:
        width, height = request.width or 64, request.height or 48
        if width < 16 or height < 16:
            raise PipelineError(f"width x height: {width} x {height} is too small; 16 x 16 is the least")
        steps = request.steps or 4
        return Plan(width // 16 * 16, height // 16 * 16, steps, steps, request.guidance)

    def working_bytes(self, request: ImageRequest, plan: Plan) -> int | None:
        return self.needed

    def use_controlnets(self, choices: Sequence[ControlNetChoice]) -> None:
        if choices:
            raise NotImplementedError

    def use_adapters(self, adapters: Sequence[AdapterChoice]) -> tuple[str, ...]:
        return ()

    def generate(self, request: ImageRequest, plan: Plan | None = None) -> Iterator[Event]:
        self.requests.append(request)
        plan = plan or self.plan(request)
        try:
            yield Step(0, plan.denoise_steps)
            latents = mx.zeros((HELD // 4,))
            for index in range(1, plan.denoise_steps + 1):
                assert self.gate.wait(PATIENCE)
                if self.fail is not None:
                    raise self.fail
                latents = latents + 1
                mx.eval(latents)
                self.steps += 1
                yield Step(
                    index, plan.denoise_steps, noise(request, 16, 8, 0) if index <= request.previews else None
                )
            for index in range(request.n - self.pictures_missing):
                yield Picture(noise(request, plan.width, plan.height, index), index)
            yield Report(plan, 0.25, 1.5, 0.125, ("the prompt was cut",) if len(request.prompt) > 77 else ())
        finally:
            self.closed += 1


def noise(request: ImageRequest, width: int, height: int, index: int) -> Pixels:
    random = np.random.default_rng([request.seed, index, *request.prompt.encode()])
    return random.integers(0, 256, (height, width, 3), np.uint8)


def engine_of(pipeline: Any, **options: Any) -> Engine:
    return Engine(lambda progress: ImageWorker(pipeline, ModelIdentity("toy"), load_seconds=2.0), **options)


@contextlib.asynccontextmanager
async def running(pipeline: Any, **options: Any) -> AsyncIterator[Engine]:
    engine = engine_of(pipeline, **options)
    engine.start()
    try:
        await until(lambda: engine.state is not State.LOADING)
        yield engine
    finally:
        if isinstance(pipeline, FakePipeline):
            pipeline.gate.set()
        await engine.close()


@contextlib.asynccontextmanager
async def client_of(
    pipeline: Any,
    adapters: AdapterSource | None = None,
    controlnets: ControlNetSource | None = None,
    **options: Any,
) -> AsyncIterator[httpx2.AsyncClient]:
    """The runner's app over such a pipeline, without the socket."""
    async with running(pipeline, **options) as engine:
        app = RunnerApp(engine, "toy", stop=lambda: None, adapters=adapters, controlnets=controlnets)
        transport = httpx2.ASGITransport(app.asgi)
        async with httpx2.AsyncClient(
            transport=transport, base_url="http://localhost", timeout=PATIENCE
        ) as client:
            yield client
        app.close()


def picture_base64(width: int = 32, height: int = 24, kind: str = "PNG") -> str:
    out = io.BytesIO()
    Image.new("RGB", (width, height), (200, 30, 30)).save(out, kind)
    return base64.b64encode(out.getvalue()).decode()


def opened(text: str) -> Image.Image:
    picture = Image.open(io.BytesIO(base64.b64decode(text, validate=True)))
    picture.load()
    return picture
