"""A diffusers pipeline behind the interface of our own: progress, previews, stopping, seeds.

Pictures of one request are made one after another, their noise drawn from one generator, as our own pipelines do it.
"""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Self

import diffusers
import numpy as np
import torch
from PIL import Image

from models.files import LocalModel
from pipelines import PIPELINES, Capabilities
from pipelines.base import (
    AdapterChoice,
    ControlNetChoice,
    DeviceMemory,
    Event,
    ImageRequest,
    Picture,
    PipelineError,
    Plan,
    Report,
    Step,
)
from pipelines.fallback.calls import Call
from pipelines.fallback.device import TorchMemory, choose_device, choose_dtype
from pipelines.fallback.loading import load, one_line, stored_dtype
from pipelines.fallback.log_warnings import LoggedWarnings
from pipelines.fallback.previews import Previews
from pipelines.fallback.stepwise import stepwise
from pipelines.inpaint import Canvas, inpaints
from pipelines.parameter_types import parameters_of
from pipelines.parameters import ImageParameters
from pipelines.planning import preview_steps
from pipelines.settings import Progress, no_progress

LONGEST_CONTEXT = 1_000_000  # tokenizers without a limit state a huge one


class TorchPipeline:
    """One loaded model. `call` is its own; `start` is image-to-image and `inpaint` takes masks, if other classes do that."""

    def __init__(self, pipeline: Any, model: LocalModel, device: torch.device) -> None:
        family = PIPELINES.get(type(pipeline).__name__)
        variant = family.variant(model) if family else None
        self.call = Call.of(pipeline, variant)
        self.start = (
            self.call
            if self.call.pictures
            else _variant(diffusers.AutoPipelineForImage2Image, pipeline, self.call)
        )
        self.inpaint = _variant(diffusers.AutoPipelineForInpainting, pipeline, self.call)
        self.memory: DeviceMemory = TorchMemory(device, _weights(pipeline))
        self.context = variant.tokens if variant else _context(self.call)

    @classmethod
    def load(
        cls, model: LocalModel, name: str, dtype: str = "auto", progress: Progress = no_progress
    ) -> Self:
        device = choose_device()
        stored = stored_dtype(model) if dtype == "checkpoint" else None
        pipeline = load(model, name, choose_dtype(dtype, device, stored), device, progress)
        return cls(pipeline, model, device)

    @property
    def capabilities(self) -> Capabilities:
        calls = [call for call in (self.call, self.start, self.inpaint) if call is not None]
        ignored = self.call.variant.ignored_params if self.call.variant else ()
        supported = (
            parameter.name
            for parameter in parameters_of(ImageParameters)
            if parameter.name not in ignored and any(call.supports(parameter) for call in calls)
        )
        return Capabilities(tuple(supported), 0 if self.start is None else self.start.defaults.max_references)

    def plan(self, request: ImageRequest) -> Plan:
        return self._call(request).plan(request)

    def working_bytes(self, request: ImageRequest, plan: Plan) -> int | None:
        """Not estimated: torch raises an error if memory is short."""
        return None

    def use_adapters(self, adapters: Sequence[AdapterChoice]) -> tuple[str, ...]:
        if adapters:
            raise PipelineError("loras: adapters are not supported by the torch engine")
        return ()

    def use_controlnets(self, choices: Sequence[ControlNetChoice]) -> None:
        if choices:
            raise PipelineError("controls: ControlNets are not supported by the torch engine")

    def generate(self, request: ImageRequest, plan: Plan | None = None) -> Iterator[Event]:
        """Draw. Each yield is a place to stop: closing the generator leaves nothing behind."""
        self.use_adapters(request.adapters)
        self.use_controlnets(request.controlnets)
        call = self._call(request)
        plan = plan or call.plan(request)
        yield Step(0, plan.denoise_steps * request.count)
        try:
            with LoggedWarnings() as logged:
                yield from self._draw(call, request, plan, logged)
        finally:
            self.memory.clear()

    def _draw(self, call: Call, request: ImageRequest, plan: Plan, logged: LoggedWarnings) -> Iterator[Event]:
        generator = torch.Generator("cpu").manual_seed(request.seed)
        seconds, warnings = _Seconds(), list(plan.warnings)
        canvas = Canvas.of(request, plan) if inpaints(request) else None
        for index in range(request.count):
            if request.is_series:
                seed, _ = request.drawing(index, request.seed)
                generator = torch.Generator("cpu").manual_seed(seed)
            run = _Run(call, request, plan, index)
            picture, hidden = yield from run.steps(generator)
            seconds.add(run)
            plan = replace(plan, width=picture.width, height=picture.height)
            if hidden:
                warnings.append(f"picture {index}: the model's safety checker blacked it out")
            pixels = np.asarray(picture.convert("RGB"))
            yield Picture(pixels if canvas is None else canvas.paste(pixels), index)
        yield Report(
            plan,
            seconds.encode,
            seconds.denoise,
            seconds.decode,
            (*warnings, *logged.messages),
            self.memory.peak(),
        )

    def _call(self, request: ImageRequest) -> Call:
        if inpaints(request):
            return self.inpaint or self.call
        return self.start if request.images and self.start is not None else self.call


@dataclass
class _Run:
    """One picture, drawn by the pipeline's call. `marks` are the times of its start, its steps and its end."""

    call: Call
    request: ImageRequest
    plan: Plan
    index: int
    marks: list[float] = field(default_factory=list)

    def steps(self, generator: torch.Generator) -> Generator[Event, None, tuple[Image.Image, bool]]:
        """Returns the picture, and whether it was blacked out."""
        try:
            output = yield from stepwise(partial(self._run, generator))
        except ValueError as error:  # a request that the call does not allow
            raise PipelineError(f"diffusers' {self.call.name}: {one_line(error)}") from error
        pictures = getattr(output, "images", None)
        if not pictures or not isinstance(pictures[0], Image.Image):
            raise PipelineError(f"diffusers' {self.call.name} made no picture")
        hidden = getattr(output, "nsfw_content_detected", None)
        return pictures[0], bool(hidden and hidden[0])

    def _run(self, generator: torch.Generator, report: Callable[[Event], None]) -> Any:
        previews = Previews(self.call.pipeline, self.plan.width, self.plan.height)
        arguments = self.call.arguments(self.request, self.plan)

        def step(index: int, latents: torch.Tensor | None) -> None:
            total = int(getattr(self.call.pipeline, "num_timesteps", None) or self.plan.denoise_steps)
            preview = None
            if self.request.previews and latents is not None:
                clean = previews.clean(latents)
                if index + 1 in preview_steps(total, self.request.previews):
                    preview = previews.show(clean)
            self.marks.append(time.perf_counter())
            report(Step(self.index * total + index + 1, total * self.request.count, preview))

        def on_step_end(pipeline: Any, index: int, moment: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            step(index, tensors.get("latents"))
            return {}

        if "callback_on_step_end" in self.call.takes:
            arguments["callback_on_step_end"] = on_step_end
        elif "callback_steps" in self.call.takes:  # of older pipelines
            arguments |= {
                "callback": lambda index, moment, latents: step(index, latents),
                "callback_steps": 1,
            }
        self.marks = [time.perf_counter()]
        output = self.call.pipeline(generator=generator, **arguments)
        self.marks.append(time.perf_counter())
        return output


@dataclass
class _Seconds:
    """A call reports when a step has ended, but not when the first begins: it is assumed to take as long as the others."""

    encode: float = 0.0
    denoise: float = 0.0
    decode: float = 0.0

    def add(self, run: _Run) -> None:
        begin, *steps, end = run.marks
        if not steps:
            self.denoise += end - begin
            return
        later = steps[-1] - steps[0]
        first = min(steps[0] - begin, later / (len(steps) - 1)) if len(steps) > 1 else steps[0] - begin
        self.encode += steps[0] - begin - first
        self.denoise += first + later
        self.decode += end - steps[-1]


def _variant(auto: Any, pipeline: Any, call: Call) -> Call | None:
    """Diffusers' class for another task, with the same components."""
    try:
        variant = auto.from_pipe(pipeline)
    except ValueError:  # there is none
        return None
    variant.set_progress_bar_config(disable=True)
    return Call.of(variant, call.variant)


def _weights(pipeline: Any) -> int:
    networks = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    tensors = [tensor for network in networks for tensor in (*network.parameters(), *network.buffers())]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _context(call: Call) -> int:
    """The longest prompt in tokens, from the call or its tokenizers; 0 if neither states it."""
    default = call.default("max_sequence_length")
    if isinstance(default, int):
        return default
    parts = call.pipeline.components.items()
    lengths = [getattr(part, "model_max_length", 0) for name, part in parts if name.startswith("tokenizer")]
    return min((length for length in lengths if 0 < length < LONGEST_CONTEXT), default=0)
