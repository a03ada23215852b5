"""The worker of picture models: runs a pipeline a step at a time on the GPU thread; other threads pack the pictures.

It does not depend on the engine: it uses the pipeline and its `memory` only.
"""

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.structs import replace

from pipelines.base import (
    ControlNetChoice,
    Event,
    ImageRequest,
    Picture,
    Pipeline,
    PipelineError,
    Pixels,
    Report,
    Step,
)
from pipelines.controls import Control
from pipelines.images import PictureError
from pipelines.loras import Lora
from pipelines.packing import pack
from pipelines.parameters import values
from pipelines.recipe import Recipe
from runner.engine.image.jobs import PlannedRequest
from runner.engine.jobs import Job, JobEvent
from runner.errors import BadRequest, NotEnoughMemory
from runner.hardware import available_memory
from runner.inspect.identity import ModelIdentity
from runner.protocol.image import ImageChunk, ImageDone, ImageStarted, ImageStep, to_base64
from runner.protocol.text import Failed
from runner.sources import ModelMode
from runner.units import show_size

log = logging.getLogger("diptych.image")

# zlib releases the interpreter lock, so two threads pack while the GPU thread goes on.
PACKERS = 2


# The messages of the various allocators.
OUT_OF_MEMORY = re.compile(r"(?i)alloc|out of memory|insufficient memory")


@dataclass(eq=False)
class _Run:
    """The current job."""

    job: Job
    planned: PlannedRequest
    events: Iterator[Event]
    total: int = 0
    drawn: int = 0
    single: Picture | None = None


class ImageWorker:
    """Implements engine.Worker for one picture model: one request at a time, an event of its pipeline a step."""

    mode = ModelMode.IMAGE

    def __init__(
        self,
        pipeline: Pipeline,
        identity: ModelIdentity,
        load_seconds: float = 0.0,
        notes: Sequence[str] = (),
    ) -> None:
        self.pipeline = pipeline
        self.context = pipeline.context
        self._identity = identity
        self._load_seconds = load_seconds
        self.notes = list(notes)
        self._run: _Run | None = None
        self._packers = ThreadPoolExecutor(PACKERS, thread_name_prefix="pack")

    # -- engine.Worker

    @property
    def busy(self) -> bool:
        return self._run is not None

    @property
    def room(self) -> int:
        return 0 if self._run else 1

    def admit(self, job: Job) -> None:
        planned = job.request
        if not isinstance(planned, PlannedRequest):
            raise TypeError(f"an image worker does not know {type(planned).__name__}")
        self._check_room(planned)
        self._use_adapters(planned)
        self.pipeline.memory.begin()
        self._run = _Run(job, planned, iter(self.pipeline.generate(planned.request, planned.plan)))

    def step(self) -> Iterable[JobEvent]:
        run = self._run
        if run is None:
            return
        try:
            event = next(run.events, None)
        except (PipelineError, PictureError) as error:  # the request's fault
            self._stop()
            yield JobEvent(run.job, Failed(str(error)), last=True)
            return
        except (RuntimeError, MemoryError) as error:
            if not OUT_OF_MEMORY.search(str(error)) and not isinstance(error, MemoryError):
                raise
            log.warning("out of memory: %s", error)
            self._stop()
            self.pipeline.memory.clear()
            yield JobEvent(run.job, Failed(self._does_not_fit(run.planned)), last=True)
            return
        if isinstance(event, Step):
            yield JobEvent(run.job, self._progress(run, event))
        elif isinstance(event, Picture):
            yield from self._picture(run, event)
        else:
            self._stop()
            yield from self._finish(run, event)

    def background(self) -> Iterator[None]:
        return iter(())

    def drop(self, job: Job) -> None:
        if self._run is not None and self._run.job is job:
            self._stop()

    def recover(self) -> list[Job]:
        run = self._run
        self._stop()
        self.pipeline.memory.clear()
        return [run.job] if run else []

    def close(self) -> None:
        self._stop()
        self._packers.shutdown(wait=False, cancel_futures=True)
        self.pipeline.memory.close()

    def stats(self) -> dict[str, Any]:
        return {"memory": self.pipeline.memory.held()}

    def _stop(self) -> None:
        """Drop the current job; closing its generator makes the pipeline clean up."""
        run, self._run = self._run, None
        close = getattr(run.events, "close", None) if run else None
        if close is not None:
            close()

    def _use_adapters(self, planned: PlannedRequest) -> None:
        """Before the first event, so that what is wrong with one has a status of its own."""
        try:
            if planned.request.adapters:
                self.pipeline.use_adapters(planned.request.adapters)
            if planned.request.controlnets:
                self.pipeline.use_controlnets(planned.request.controlnets)
        except PipelineError as error:
            raise BadRequest(str(error)) from None

    def _check_room(self, planned: PlannedRequest) -> None:
        """NotEnoughMemory, before any work, for what would end the process."""
        needed = self.pipeline.working_bytes(planned.request, planned.plan)
        if needed is None:
            return
        self.pipeline.memory.clear()
        left = available_memory()
        if left is not None and needed > left:
            why = f": about {show_size(needed)} are needed beside the weights, and {show_size(left)} are left"
            raise NotEnoughMemory(self._does_not_fit(planned, why))

    def _does_not_fit(self, planned: PlannedRequest, why: str = "") -> str:
        size = f"{planned.plan.width} x {planned.plan.height}"
        return f"{size} does not fit into the device's memory{why}; {self.pipeline.memory.relief}"

    # -- a pipeline's events to ours

    def _progress(self, run: _Run, step: Step) -> Struct | Future[Struct]:
        run.total = step.total
        if step.index == 0:
            return ImageStarted(step.total)
        if step.preview is None:
            return ImageStep(step.index, step.total)
        return self._packers.submit(_packed_step, step, step.preview, run.planned)

    def _picture(self, run: _Run, picture: Picture) -> Iterable[JobEvent]:
        """One of several is packed and sent at once; a single one is sent with the last event."""
        run.drawn += 1
        if run.planned.request.count == 1:
            run.single = picture
            return
        recipe = _recipe(run.planned, self._identity, picture.index)
        yield JobEvent(run.job, self._packers.submit(_packed_part, picture, recipe, run.planned))

    def _finish(self, run: _Run, report: Report | None) -> Iterable[JobEvent]:
        count = run.planned.request.count
        if report is None or run.drawn != count:
            message = f"the pipeline ended with {run.drawn} of {count} pictures"
            yield JobEvent(run.job, Failed(message), last=True)
            return
        done = self._done(run, report)
        if run.single is None:
            yield JobEvent(run.job, done, last=True)
            return
        recipe = _recipe(run.planned, self._identity, 0)
        packed = self._packers.submit(_packed_done, done, run.single.pixels, recipe, run.planned)
        yield JobEvent(run.job, packed, last=True)

    def _done(self, run: _Run, report: Report) -> ImageDone:
        planned = run.planned
        warnings = list(dict.fromkeys([*planned.warnings, *report.plan.warnings, *report.warnings]))
        return ImageDone(
            seed=planned.request.seed,
            seeds=_seeds(planned),
            skipped_steps=UNSET if report.skipped_steps is None else report.skipped_steps,
            width=report.plan.size[0],
            height=report.plan.size[1],
            total=run.total,
            load_duration=_nanoseconds(self._load_seconds),
            prompt_eval_duration=_nanoseconds(report.encode_seconds),
            eval_duration=_nanoseconds(report.denoise_seconds),
            decode_duration=_nanoseconds(report.decode_seconds),
            peak_memory=report.peak_bytes or self.pipeline.memory.peak(),
            format=planned.format,
            warnings=warnings or UNSET,
        )


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


def _seeds(planned: PlannedRequest) -> list[int] | UnsetType:
    """Of each picture, where they have seeds of their own."""
    request = planned.request
    if not request.seeds:
        return UNSET
    return [request.drawing(index, request.seed)[0] for index in range(request.count)]


def _alone(request: ImageRequest, index: int) -> dict[str, Any]:
    """What one picture of a series is drawn again by."""
    if not request.is_series:
        return {"index": index}
    seed, variation = request.drawing(index, request.seed)
    return {"seed": seed, "seeds": None, "variations": (variation,) if variation else None}


def _recipe(planned: PlannedRequest, model: ModelIdentity, index: int) -> Recipe:
    request, plan = planned.request, planned.plan
    loras = tuple(Lora(one.name, one.scale, one.hash) for one in request.adapters)
    parameters = values(request) | {
        "loras": loras or None,
        "controls": tuple(map(_control, request.controlnets)) or None,
        "width": plan.size[0],
        "height": plan.size[1],
        "steps": plan.num_inference_steps,
        "guidance": plan.guidance,
        "strength": plan.strength,
    }
    return Recipe(
        **parameters | _alone(request, index),
        model=model.name,
        model_hash=model.hash,
        images=len(request.images),
        masked=request.mask is not None,
    )


def _control(choice: ControlNetChoice) -> Control:
    """Without its picture."""
    return Control(
        choice.name,
        scale=choice.scale,
        start=choice.start,
        end=choice.end,
        mode=choice.mode,
        hash=choice.hash,
    )


# -- on the packing threads


def _file(pixels: Pixels, planned: PlannedRequest, recipe: Recipe | None = None) -> Raw:
    return to_base64(pack(pixels, planned.format, recipe, planned.compression))


def _packed_step(step: Step, preview: Pixels, planned: PlannedRequest) -> Struct:
    return ImageStep(step.index, step.total, _file(preview, planned))


def _packed_part(picture: Picture, recipe: Recipe, planned: PlannedRequest) -> Struct:
    return ImageChunk(_file(picture.pixels, planned, recipe), picture.index)


def _packed_done(done: ImageDone, pixels: Pixels, recipe: Recipe, planned: PlannedRequest) -> Struct:
    return replace(done, image=_file(pixels, planned, recipe))
