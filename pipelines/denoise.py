"""The denoising loop shared by all model families: encode the prompt, denoise the latents, decode, yield progress events.

    pipeline = Flux2Klein.load(model, Settings(), progress)
    for event in pipeline.generate(ImageRequest("a red circle", seed=1)):
        …                              # Step(0, 4), Step(1, 4), …, Step(4, 4), Picture, Report

`generate` is a plain generator: the caller shows progress, and cancels by closing it. A family implements how a prompt
is encoded, what its transformer takes, and how its output is read. The pictures of one request are denoised one after
another: the result is that of a batch, in the memory of one picture.

The GPU never waits for Python: while it encodes the prompt, the inputs shared by all steps are prepared, and each step is
queued while the one before it runs.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import mlx.core as mx
import numpy as np

from models.files import LocalModel
from models.layers.attention import on_cpu
from models.vision.interface import SeenPicture
from pipelines import Capabilities, Family, planning
from pipelines.base import Event, ImageRequest, Picture, Plan, Report, Step
from pipelines.controlnets import ControlInputs, Controlled
from pipelines.decoding import Decoding
from pipelines.denoise_state import (
    Conditioning,
    DenoisePlan,
    PictureInputs,
    StepResult,
    Stopwatch,
    TransformerInputs,
)
from pipelines.images import middle
from pipelines.inpaint import Canvas, inpaints
from pipelines.latents import Noise
from pipelines.mlx_memory import inflight_limit
from pipelines.planning import Defaults
from pipelines.prompt_embeds import PromptEmbeds
from pipelines.sampling import FlowMatch, Schedule, euler_step, predict_clean
from pipelines.settings import RESIDENT, VAE_BYTES, Progress, Settings, no_progress
from pipelines.step_cache.plan import cache_of, with_step_cache
from pipelines.variants import scheduler_config
from pipelines.warm_up import WarmUp
from pipelines.working_memory import Dimensions, working_bytes


class DenoisingPipeline(WarmUp, Controlled, Decoding):
    """A loaded model of one family, which also implements `encode_prompt`."""

    family: ClassVar[Family]
    dimensions: Dimensions

    def __init__(self, model: LocalModel, settings: Settings) -> None:
        super().__init__(settings)
        self.variant = self.family.variant(model)
        self.context = self.variant.tokens
        self.flow = self.flow_match(model)

    def flow_match(self, model: LocalModel) -> FlowMatch:
        return FlowMatch.from_config(scheduler_config(model))

    @classmethod
    def load(cls, model: LocalModel, settings: Settings = RESIDENT, progress: Progress = no_progress) -> Self:
        pipeline = cls(model, settings)
        pipeline.load_parts(progress)
        pipeline.load_tiny(model)
        return pipeline

    @property
    def capabilities(self) -> Capabilities:
        return self.family.capabilities(self.variant)

    def defaults_for(self, side: int, size_multiple: int) -> Defaults:
        """The variant's, for square pictures of `side` pixels."""
        family, variant = self.family, self.variant
        references, params = family.max_references, family.supported_params
        return Defaults(variant.steps, variant.guidance, side, size_multiple, references, params)

    # What a family implements.

    @abstractmethod
    def mu(self, tokens: int, steps: int) -> float:
        """The shift of a picture's schedule, where shifting is dynamic."""

    @abstractmethod
    def prepare(
        self, run: DenoisePlan, prompts: Sequence[PromptEmbeds], references: Sequence[mx.array]
    ) -> Any:
        """The transformer inputs that all steps share, for a batch of as many as there are prompts."""

    @abstractmethod
    def modulation(self, run: DenoisePlan, prompts: Sequence[PromptEmbeds]) -> Any:
        """The transformer inputs of each step: `modulation.at(step)`."""

    def cfg_steps(self, request: ImageRequest, plan: Plan, schedule: Schedule) -> int:
        """How many steps, the first ones, run classifier-free guidance."""
        return 0

    def velocity(self, output: mx.array) -> mx.array:
        """The latents' velocity, from the transformer's output."""
        return output

    def apply_cfg(self, run: DenoisePlan, cond: mx.array, uncond: mx.array) -> mx.array:
        """The guided velocity, from those for the prompt and for the negative prompt."""
        return uncond + (run.plan.guidance or 0.0) * (cond - uncond)

    def negative_prompt(self, request: ImageRequest) -> str:
        """What the prompt is compared with."""
        return request.negative_prompt or ""

    def seen_pictures(self, run: DenoisePlan) -> Sequence[SeenPicture]:
        """The pictures that the text encoder sees beside its prompts."""
        return ()

    def references(self, run: DenoisePlan) -> list[mx.array]:
        """Latents of the reference pictures."""
        return []

    # What all families share.

    def plan(self, request: ImageRequest) -> Plan:
        """The request with every choice made; a PipelineError says what is wrong with it."""
        self.check_decode(request)
        return with_step_cache(planning.plan(request, self.defaults), request, self.variant, self.defaults)

    def working_bytes(self, request: ImageRequest, plan: Plan) -> int | None:
        """On the CPU alone."""
        if not on_cpu():
            return None
        run = self.denoise_plan(request, plan)
        strip_bytes = self.strips if isinstance(self.strips, int) else VAE_BYTES
        batch = 2 if run.cfg_steps else 1
        shown = self.shown_sizes(request, plan)
        work = working_bytes(self.dimensions, request, run.plan, batch, strip_bytes, shown)
        # ControlNets are read when they are first used, and computed with in float32.
        shards = (shard for one in request.controlnets for shard in one.model.shards(""))
        work += 2 * sum(shard.path.stat().st_size for shard in shards)
        # Adapters are held as their files have them, and once more as the network computes with them, in float32.
        work += 3 * sum(adapter.path.stat().st_size for adapter in request.adapters if adapter.path.exists())
        return work + (self.unloaded_bytes if self.settings.staged else 0)

    def denoise_plan(self, request: ImageRequest, plan: Plan) -> DenoisePlan:
        rows, columns = plan.height // self.defaults.size_multiple, plan.width // self.defaults.size_multiple
        steps = plan.num_inference_steps
        schedule = self.flow.schedule(steps, self.mu(rows * columns, steps))
        if plan.strength is not None:
            schedule = schedule.after(plan.strength)
        guided = self.cfg_steps(request, plan, schedule)
        plan, guided = planning.guided_until(request, plan, guided, self.defaults)
        return DenoisePlan(request, plan, schedule, rows, columns, guided)

    def generate(self, request: ImageRequest, plan: Plan | None = None) -> Iterator[Event]:
        """Draw. Each yield is a place to stop: closing the generator leaves nothing behind."""
        run = self.denoise_plan(request, plan or self.plan(request))
        mx.reset_peak_memory()
        warnings = self.use_adapters(request.adapters)
        self.use_controlnets(request.controlnets)
        yield Step(0, run.plan.denoise_steps * request.count)
        try:
            yield from self._generate(run, warnings)
        finally:
            mx.synchronize()  # a queued step does not outlive the request
            mx.clear_cache()

    def _generate(self, run: DenoisePlan, warnings: tuple[str, ...]) -> Iterator[Event]:
        stopwatch = Stopwatch()
        negative = [self.negative_prompt(run.request)] if run.cfg_steps else []
        texts = [self.full_prompt(run.request), *negative]
        prompts = self.encode_prompts(texts, self.seen_pictures(run))
        first, *others = run.apart()
        conditioning = self._conditioning(first, prompts)
        mx.eval([embeds.arrays for embeds in prompts])
        stopwatch.encode = stopwatch.lap()
        mx.eval(conditioning.arrays)  # nothing may be in flight when the limit is set by what is held
        with inflight_limit(run.plan.width * run.plan.height, self.settings.staged):
            for index in range(run.request.n):
                yield from self._denoise(first, conditioning, index, run.request.count, stopwatch)
            for other in others:
                conditioning = self._conditioning(other, prompts, conditioning)
                yield from self._denoise(other, conditioning, 0, run.request.count, stopwatch)
        prompt_warnings = dict.fromkeys(warning for embeds in prompts for warning in embeds.warnings)
        yield Report(
            run.plan,
            stopwatch.encode,
            stopwatch.denoise,
            stopwatch.decode,
            (*run.plan.warnings, *warnings, *prompt_warnings, *conditioning.cache.notes),
            mx.get_peak_memory(),
            conditioning.cache.skipped if run.request.step_cache else None,
        )

    def _denoise(
        self, run: DenoisePlan, conditioning: Conditioning, index: int, count: int, stopwatch: Stopwatch
    ) -> Iterator[Event]:
        """One picture of `count`. Yields step N after queueing step N+1, so the GPU never idles. The memory limit keeps at most one
        step in flight; closing the generator therefore abandons at most one.

        The decoder's graph is built during the last step but queued after it, or their times would be one; in strips it
        is evaluated while it is built, so it is built after the last step too."""
        steps = run.plan.denoise_steps
        before, total = (run.first + index) * steps, steps * count
        tokens, picture_inputs = self.first_tokens(run, conditioning, index)
        conditioning.cache.begin()
        result = self._step(run, conditioning, tokens, picture_inputs, 0)
        mx.async_eval(result)
        for step in range(1, steps):
            next_result = self._step(run, conditioning, result.latents, picture_inputs, step)
            mx.async_eval(next_result)
            yield result.event(before + step, total)
            result = next_result
        pixels = None if self.strips else self.decoded(run, result.latents)
        last = result.event(before + steps, total)
        stopwatch.denoise += stopwatch.lap()
        pixels = self.decoded(run, result.latents) if pixels is None else pixels
        del result
        mx.async_eval(pixels)
        yield last
        drawn, canvas = np.array(pixels), conditioning.canvas
        finished = middle(drawn, run.plan.size) if canvas is None else canvas.paste(drawn)
        stopwatch.decode += stopwatch.lap()
        yield Picture(finished, run.first + index)

    def _conditioning(
        self, run: DenoisePlan, prompts: Sequence[PromptEmbeds], earlier: Conditioning | None = None
    ) -> Conditioning:
        """Everything that does not depend on the step, computed once. Random numbers are drawn in the reference's order:
        those that sample the initial latents, then the noise of all pictures. `earlier`: that of another seed, which has the
        same inputs unless some are sampled from pictures."""
        noise = Noise(run.request.seed)
        if earlier is not None and not run.request.images and not run.request.controlnets:
            return replace(earlier, noise=self.draw_control(run, noise, earlier.dtype)[0])
        canvas = Canvas.of(run.request, run.plan) if inpaints(run.request) else None
        init_latents = self.init_latents(run, canvas, noise)
        references = self.references(run)
        if canvas is not None and init_latents is not None and self.defaults.supports_editing:
            references.insert(0, init_latents)  # a picture with a mask is looked at as well
        mx.async_eval(init_latents, references)
        dtype = self.latent_dtype(run, prompts[0])
        samples = self.draw_controls(run, noise)
        drawn, sample = self.draw_control(run, noise, dtype)
        control = self.control(run, canvas, sample)
        mx.async_eval(control)
        cfg = self._inputs(run, prompts, references) if run.cfg_steps else None
        cond = self._inputs(run, prompts[:1], references) if run.cfg_steps < run.plan.denoise_steps else None
        controls = self.controls(run, prompts, samples)
        mask = self.mask_tokens(run, canvas)
        cache = earlier.cache if earlier else cache_of(run, self.defaults)
        return Conditioning(cfg, cond, drawn, init_latents, dtype, cache, canvas, mask, control, controls)

    def _inputs(
        self, run: DenoisePlan, prompts: Sequence[PromptEmbeds], references: Sequence[mx.array]
    ) -> TransformerInputs:
        inputs = TransformerInputs(self.prepare(run, prompts, references), self.modulation(run, prompts))
        mx.async_eval(inputs.prepared, inputs.modulation)
        return inputs

    def _step(
        self,
        run: DenoisePlan,
        conditioning: Conditioning,
        tokens: mx.array,
        picture: PictureInputs,
        step: int,
    ) -> StepResult:
        sigma, next_sigma = (float(value) for value in run.schedule.sigmas[step : step + 2])
        velocity = self._velocity(run, conditioning, picture, tokens, step)
        moved = picture.put_back(euler_step(tokens, velocity, sigma, next_sigma), next_sigma)
        if step + 1 not in planning.preview_steps(run.plan.denoise_steps, run.request.previews):
            return StepResult(moved, None)
        clean = picture.put_back(predict_clean(tokens, velocity, sigma), 0.0)
        return StepResult(moved, self.preview(run, clean))

    def _velocity(
        self,
        run: DenoisePlan,
        conditioning: Conditioning,
        picture: PictureInputs,
        tokens: mx.array,
        step: int,
    ) -> mx.array:
        guided = step < run.cfg_steps
        inputs = conditioning.cfg if guided else conditioning.cond
        if inputs is None:
            raise AssertionError(f"step {step} of {run.plan.denoise_steps} has no transformer inputs")
        beside = picture.beside(tokens)
        batch = mx.concatenate([beside, beside]) if guided else beside
        control_inputs = ControlInputs(tokens, batch, inputs, step, batch)
        residuals = self.all_residuals(run, conditioning.controls, picture.number, control_inputs)
        shared = (inputs.prepared, inputs.modulation.at(step), *residuals)
        output = conditioning.cache.step(self.transformer, step, batch, *shared)
        velocity = self.velocity(output)
        return self.apply_cfg(run, velocity[:1], velocity[1:]) if guided else velocity
