"""The one denoising walk of all families: a prompt is read, noise is walked down to a picture, progress on the way.

    pipeline = Flux2Klein.load(model, Settings(), progress)
    for event in pipeline.generate(ImageRequest("a red circle", seed=1)):
        …                              # Step(0, 4), Step(1, 4), …, Step(4, 4), Picture, Report

`generate` is a plain generator: whoever drives it owns progress, and stops it by closing it. A family says how prompts
are read, what the transformer is given, and how its answer is taken. Pictures of one request are walked one after
another: they are what a batch would give, in the memory of one.

A GPU never waits for Python: while it reads the prompt, what all steps share is prepared, and a step is handed to it
while it is at the one before.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import mlx.core as mx
import numpy as np
from PIL import Image

from models.files import LocalModel
from models.layers.attention import on_processor
from models.layers.patchify import patchify, unpatchify
from models.vae.autoencoder_kl import Autoencoder
from pipelines import planning
from pipelines.base import DeviceMemory, Event, ImageRequest, Picture, Plan, Report, Step
from pipelines.components import Component, Reading, Readings, load_all
from pipelines.denoise_state import Course, Given, Moved, Task, Times
from pipelines.images import to_bytes, to_start
from pipelines.latents import Noise
from pipelines.mlx_memory import MEGAPIXEL, MlxMemory, short_lead
from pipelines.planning import Defaults
from pipelines.sampling import FlowMatch, Schedule, add_noise, euler_step, predict_clean
from pipelines.settings import RESIDENT, ROOM, Progress, Settings, unheard
from pipelines.working_memory import Dimensions, working_bytes

HALVES = (mx.float16, mx.bfloat16)
PREVIEW_SIDE = 256
EVENTS = 4  # of a picture in one step


class Walk(ABC):
    """A loaded model of one family."""

    memory: DeviceMemory = MlxMemory()
    context: int
    defaults: Defaults
    dimensions: Dimensions
    flow: FlowMatch
    encoders: tuple[Component[Any], ...]
    transformer: Component[Any]
    vae: Component[Any]
    # How latents are cut into tokens; FLUX.2's are patches already.
    patch: int = 2
    channels_first: ClassVar[bool] = True

    def __init__(self, model: LocalModel, settings: Settings) -> None:
        self.settings = settings
        # A processor convolves in strips whatever the memory: it is no slower, and holds a fraction.
        self.parts = settings.parts or (ROOM if on_processor() else None)
        self.readings = Readings(settings.embedding_bytes)

    @classmethod
    def load(cls, model: LocalModel, settings: Settings = RESIDENT, progress: Progress = unheard) -> Self:
        pipeline = cls(model, settings)
        pipeline.load_parts(progress)
        return pipeline

    # What a family says.

    @abstractmethod
    def read(self, prompt: str) -> Reading:
        """A prompt through the text encoders, lazily."""

    @abstractmethod
    def mu(self, tokens: int, steps: int) -> float:
        """How far the schedule of a picture is shifted, where shifting is dynamic."""

    @abstractmethod
    def conditions(self, task: Task, readings: Sequence[Reading], references: Sequence[mx.array]) -> Any:
        """What the transformer is given at every step, for a batch of as many as there are readings."""

    @abstractmethod
    def modulation(self, task: Task, readings: Sequence[Reading]) -> Any:
        """What it is given at each step in turn: `modulation.at(step)`."""

    def guided_steps(self, request: ImageRequest, plan: Plan, schedule: Schedule) -> int:
        """How many steps, the first ones, compare the prompt with a second, negative one."""
        return 0

    def velocity(self, answer: mx.array) -> mx.array:
        """Where the latents move, from what the transformer answered."""
        return answer

    def compare(self, task: Task, wanted: mx.array, unwanted: mx.array) -> mx.array:
        """One velocity of those of the two prompts."""
        return unwanted + (task.plan.guidance or 0.0) * (wanted - unwanted)

    def references(self, task: Task) -> list[mx.array]:
        """The pictures to look at, as latents."""
        return []

    def lengths(self) -> Sequence[int]:
        """Of prompts, in tokens, where each would have something compiled for it."""
        return ()

    def rehearse(self, length: int) -> Any:
        """What depends on a prompt's length alone, of a picture of the model's own size; lazily."""
        return None

    def latent_dtype(self, task: Task, reading: Reading) -> mx.Dtype:
        """What the noise is drawn in."""
        return reading.states[0].dtype

    # What all do alike.

    def load_parts(self, progress: Progress) -> None:
        """Read the weights; a staged model reads its largest parts later, and only sees now whether they fit."""
        if not self.settings.staged:
            shares = dict.fromkeys(self.encoders, 0.45 / len(self.encoders))
            load_all({**shares, self.transformer: 0.5, self.vae: 0.05}, progress)
            return
        for component in (*self.encoders, self.transformer):
            component.check()
        self.vae.load(progress)

    def warm(self, progress: Progress = unheard) -> None:
        """Have everything compiled that a picture of the model's own size needs, by drawing one in a single step.
        Weights that come and go are left alone."""
        if self.settings.staged:
            return
        for index, _ in enumerate(self._rehearsal(), 1):
            progress(index / (EVENTS + len(self.lengths())))
        mx.clear_cache()

    def _rehearsal(self) -> Iterator[None]:
        for _ in self.generate(ImageRequest("", seed=1, steps=1)):
            yield
        for length in self.lengths():
            mx.eval(self.rehearse(length))
            yield

    def plan(self, request: ImageRequest) -> Plan:
        """The request with every choice made; PipelineError says what is wrong with it."""
        return planning.plan(request, self.defaults)

    def working_bytes(self, request: ImageRequest) -> int | None:
        """Of a processor. Staged, with the larger of the parts that come and go, unless it is held now."""
        if not on_processor():
            return None
        task = self.task(request)
        room = self.parts if isinstance(self.parts, int) else ROOM
        batch = 2 if task.guided_steps else 1
        work = working_bytes(self.dimensions, request, task.plan, batch, room)
        if not self.settings.staged:
            return work
        coming = [*self.encoders, self.transformer]
        held = sum(part.bytes for part in coming if part.held)
        largest = max(sum(part.bytes for part in self.encoders), self.transformer.bytes)
        return work + max(0, largest - held)

    def task(self, request: ImageRequest) -> Task:
        plan = self.plan(request)
        rows, columns = plan.height // self.defaults.size_multiple, plan.width // self.defaults.size_multiple
        steps = plan.num_inference_steps
        schedule = self.flow.schedule(steps, self.mu(rows * columns, steps))
        if plan.strength is not None:
            schedule = schedule.after(plan.strength)
        return Task(request, plan, schedule, rows, columns, self.guided_steps(request, plan, schedule))

    def generate(self, request: ImageRequest) -> Iterator[Event]:
        """Draw. Each yield is a place to stop: closing the generator leaves nothing behind."""
        task = self.task(request)
        mx.reset_peak_memory()
        yield Step(0, task.plan.denoise_steps * request.count)
        try:
            yield from self._walk(task)
        finally:
            mx.synchronize()  # a step that was begun is not left under way
            mx.clear_cache()

    def _walk(self, task: Task) -> Iterator[Event]:
        times = Times()
        readings = self._read(task)
        course = self._course(task, readings)
        mx.eval([reading.states for reading in readings])
        times.encoding = times.lap()
        mx.eval(course.given)  # so that nothing is under way when the lead looks at what is held
        with short_lead(task.plan.width * task.plan.height, self.settings.staged):
            for index in range(task.request.count):
                yield from self._draw(task, course, index, times)
        told = (
            *task.plan.warnings,
            *dict.fromkeys(word for reading in readings for word in reading.warnings),
        )
        yield Report(task.plan, times.encoding, times.drawing, times.decoding, told, mx.get_peak_memory())

    def _draw(self, task: Task, course: Course, index: int, times: Times) -> Iterator[Event]:
        """One picture. Each step is told when the next one has been handed over, which the memory limit delays until
        most of it is done: closed here, a walk has one step under way. The decoder is built during the last step, but
        handed over after it, as the times of both would be one otherwise; in strips it computes while it is built."""
        steps = task.plan.denoise_steps
        before, total = index * steps, steps * task.request.count
        moved = self._step(task, course, self._begin(task, course, index), 0)
        mx.async_eval(moved)
        for step in range(1, steps):
            following = self._step(task, course, moved.latents, step)
            mx.async_eval(following)
            yield moved.step(before + step, total)
            moved = following
        decoded = None if self.parts else self._decoded(task, moved.latents)
        last = moved.step(before + steps, total)
        times.drawing += times.lap()
        decoded = self._decoded(task, moved.latents) if decoded is None else decoded
        del moved
        mx.async_eval(decoded)
        yield last
        picture = Picture(np.array(decoded), index)
        times.decoding += times.lap()
        yield picture

    def _read(self, task: Task) -> list[Reading]:
        """The prompt, and the negative one where it is compared; from memory where they were read lately. What is read
        anew may still be under way, unless its encoder has to go."""
        prompts = [task.request.prompt]
        if task.guided_steps:
            prompts.append(task.request.negative_prompt or "")
        found = {prompt: self.readings.find(prompt) for prompt in prompts}
        if self.settings.staged and None in found.values():
            self.transformer.drop()
        readings = [found[prompt] or self._read_anew(prompt) for prompt in prompts]
        if self.settings.staged:
            mx.eval([reading.states for reading in readings])
            for encoder in self.encoders:
                encoder.drop()
        return readings

    def _read_anew(self, prompt: str) -> Reading:
        reading = self.read(prompt)
        with short_lead(MEGAPIXEL, self.settings.staged):
            mx.async_eval(reading.states)
        self.readings.keep(prompt, reading)
        return reading

    def _course(self, task: Task, readings: Sequence[Reading]) -> Course:
        """All that does not depend on the step, computed once. Random numbers come in the reference's order: those
        that pick the start's latents, then the noise of all pictures."""
        noise = Noise(task.request.seed)
        start = self._start(task, noise)
        references = self.references(task)
        mx.async_eval(start, references)
        dtype = self.latent_dtype(task, readings[0])
        drawn = self._noise(task, noise, dtype)
        compared = self._given(task, readings, references) if task.guided_steps else None
        alone = (
            self._given(task, readings[:1], references)
            if task.guided_steps < task.plan.denoise_steps
            else None
        )
        return Course(compared, alone, drawn, start, dtype)

    def _given(self, task: Task, readings: Sequence[Reading], references: Sequence[mx.array]) -> Given:
        given = Given(self.conditions(task, readings, references), self.modulation(task, readings))
        mx.async_eval(given.conditions, given.modulation)
        return given

    def _noise(self, task: Task, noise: Noise, dtype: mx.Dtype) -> np.ndarray:
        channels = self._features // self.patch**2
        rows, columns = task.rows * self.patch, task.columns * self.patch
        return noise.pictures(task.request.count, channels, rows, columns, dtype in HALVES)

    @property
    def _features(self) -> int:
        """Of a token."""
        config = self.vae().config
        return int(config.latent_channels * (self.defaults.size_multiple // config.scale) ** 2)

    def _start(self, task: Task, noise: Noise) -> mx.array | None:
        """The latents of the picture to start from, one of those that the autoencoder deems likely."""
        if task.plan.strength is None:
            return None
        shown = to_start(Image.fromarray(task.request.images[0]), task.plan.width, task.plan.height)
        return self.encode_start(self.vae(), mx.array(shown), noise)

    def encode_start(self, vae: Autoencoder, picture: mx.array, noise: Noise) -> mx.array:
        scale, channels = vae.config.scale, vae.config.latent_channels
        _, height, width, _ = picture.shape
        half = vae.decoder.conv_in.weight.dtype in HALVES
        picked = noise.pictures(1, channels, height // scale, width // scale, half)
        return vae.encode(picture, mx.array(picked), self.parts)

    def _begin(self, task: Task, course: Course, index: int) -> mx.array:
        """One picture's tokens at the first noise level, [1, token, feature]."""
        latents = mx.array(course.noise[index : index + 1]).astype(course.dtype)
        if course.start is not None:
            start = course.start.astype(course.dtype)
            latents = add_noise(start, latents, float(task.schedule.sigmas[0])).astype(course.dtype)
        return patchify(latents, self.patch, self.channels_first).flatten(1, 2)

    def _unpack(self, task: Task, tokens: mx.array) -> mx.array:
        patches = tokens.reshape(len(tokens), task.rows, task.columns, -1)
        return unpatchify(patches, self.patch, self.channels_first)

    def _decoded(self, task: Task, latents: mx.array) -> mx.array:
        """The picture, [row, column, 3] in bytes; not computed yet, unless it is in strips."""
        return to_bytes(self.vae().decode(self._unpack(task, latents), self.parts))[0]

    def _step(self, task: Task, course: Course, latents: mx.array, step: int) -> Moved:
        """A step, and the picture that it promises where one is to be shown."""
        sigma, following = (float(value) for value in task.schedule.sigmas[step : step + 2])
        velocity = self._velocity(task, course, latents, step)
        moved = euler_step(latents, velocity, sigma, following)
        if step + 1 not in planning.preview_steps(task.plan.denoise_steps, task.request.previews):
            return Moved(moved, None)
        promised = self._unpack(task, predict_clean(latents, velocity, sigma))
        return Moved(moved, to_bytes(self.vae().preview(promised, PREVIEW_SIDE))[0])

    def _velocity(self, task: Task, course: Course, latents: mx.array, step: int) -> mx.array:
        given = course.compared if step < task.guided_steps else course.alone
        if given is None:
            raise AssertionError(f"step {step} of {task.plan.denoise_steps} was given nothing")
        batch = latents if given is course.alone else mx.concatenate([latents, latents])
        answer = self.transformer.step(batch, given.conditions, given.modulation.at(step))
        velocity = self.velocity(answer)
        return velocity if given is course.alone else self.compare(task, velocity[:1], velocity[1:])
