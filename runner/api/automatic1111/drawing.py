"""Pictures that are drawn: the engine's events as an answer, and how far they are."""

import time
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct

from runner.api.lease import leased
from runner.api.openai.images_stream import image_of
from runner.errors import DiptychError, RunnerFailed
from runner.gateway.app import Gateway
from runner.protocol.image import Base64, ImageCompletionRequest, ImageDone, ImageStarted, ImageStep
from runner.sources import ModelMode


class Drawn(Struct, frozen=True):
    """`info` is JSON: seeds, sizes, and `warnings`."""

    images: list[Base64]
    parameters: dict[str, Any]
    info: str


class State(Struct, frozen=True):
    skipped: bool = False
    interrupted: bool = False
    stopping_generation: bool = False
    job: str = ""
    job_count: int = 0
    job_timestamp: str = "0"
    job_no: int = 0
    sampling_step: int = 0
    sampling_steps: int = 0


class Progress(Struct, frozen=True):
    progress: float
    eta_relative: float
    state: State
    current_image: Base64 | None
    textinfo: str | None


@dataclass
class Job:
    id: str
    began: float = field(default_factory=time.monotonic)
    step: int = 0
    total: int = 0
    preview: Raw | None = None
    interrupted: bool = False

    @property
    def progress(self) -> Progress:
        done = self.step / self.total if self.total else 0.0
        took = time.monotonic() - self.began
        state = State(
            interrupted=self.interrupted,
            job=self.id,
            job_count=1,
            sampling_step=self.step,
            sampling_steps=self.total,
        )
        return Progress(
            round(done, 4), round(took / done - took, 2) if done else 0.0, state, self.preview, None
        )


IDLE = Progress(0.0, 0.0, State(), None, None)


class Jobs:
    """What is being drawn for clients of this API."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._jobs: list[Job] = []

    @property
    def progress(self) -> Progress:
        """Of the one that began first."""
        return self._jobs[0].progress if self._jobs else IDLE

    async def interrupt(self) -> None:
        for job in list(self._jobs):
            job.interrupted = True
            await self._gateway.pool.cancel(job.id)

    async def draw(
        self, id: str, model: str, request: ImageCompletionRequest, body: dict[str, Any], warnings: list[str]
    ) -> Drawn:
        job = Job(id)
        self._jobs.append(job)
        images: list[Raw] = []
        done: ImageDone | None = None
        try:
            async with (
                leased(self._gateway, model, ModelMode.IMAGE, None, id) as lease,
                aclosing(lease.server.completion(request, id=id)) as events,
            ):
                async for event in events:
                    if isinstance(event, ImageStarted | ImageStep):
                        _advance(job, event)
                    images += image_of(event)
                    done = event if isinstance(event, ImageDone) else done
        except DiptychError:
            if not job.interrupted:
                raise
        finally:
            self._jobs.remove(job)
        if done is None and not job.interrupted:
            raise RunnerFailed("the runner sent text instead of a picture")
        info = _info(model, request, done, len(images), warnings)
        return Drawn(images, body, msgspec.json.encode(info).decode())


def _advance(job: Job, event: ImageStarted | ImageStep) -> None:
    job.total = event.total
    if isinstance(event, ImageStep):
        job.step = event.step
        if event.preview is not UNSET:
            job.preview = event.preview


def _info(
    model: str, request: ImageCompletionRequest, done: ImageDone | None, count: int, warnings: list[str]
) -> dict[str, Any]:
    seed = -1 if done is None else done.seed
    seeds = (done.seeds if done else UNSET) or [seed] * count
    variations = request.variations or ()
    subseeds = [variation.seed for variation in variations] or [-1] * count
    return {
        "prompt": request.prompt,
        "all_prompts": [request.prompt] * count,
        "negative_prompt": request.negative_prompt or "",
        "seed": seed,
        "all_seeds": seeds,
        "subseed": subseeds[0] if subseeds else -1,
        "all_subseeds": subseeds,
        "subseed_strength": variations[0].strength if variations else 0,
        "width": done.width if done else request.width,
        "height": done.height if done else request.height,
        "sampler_name": "Euler",
        "cfg_scale": request.guidance,
        "steps": request.steps,
        "batch_size": request.count,
        "denoising_strength": request.strength,
        "sd_model_name": model,
        "infotexts": [],
        "warnings": [*warnings, *((done.warnings or []) if done else [])],
    }
