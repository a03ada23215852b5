"""State of one denoising run: the plan, the inputs shared by all steps, the result of a step, and timings."""

import time
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np
from msgspec import structs

from pipelines.base import ImageRequest, Plan, Step
from pipelines.inpaint import Canvas
from pipelines.sampling import Schedule, add_noise
from pipelines.step_cache.caches import StepCache
from pipelines.variations import Variation


@dataclass(frozen=True)
class DenoisePlan:
    """A request, its plan and its schedule. `rows` and `columns` count the transformer's tokens. Of a series, each picture
    has its own, `first` of all."""

    request: ImageRequest
    plan: Plan
    schedule: Schedule
    rows: int
    columns: int
    cfg_steps: int  # the first steps, which run classifier-free guidance: prompt and negative prompt as a batch of two
    variation: Variation | None = None
    first: int = 0

    def apart(self) -> list["DenoisePlan"]:
        """For each seed and variation the plan of its picture alone; the plan itself where all pictures share one noise."""
        request = self.request
        if not request.is_series:
            return [self]
        plans = []
        for index in range(request.count):
            seed, variation = request.drawing(index, request.seed)
            alone = structs.replace(request, seed=seed, seeds=None, variations=None)
            plans.append(replace(self, request=alone, variation=variation, first=index))
        return plans

    @property
    def timesteps(self) -> list[float]:
        """One for each step, from 1 (noise) to 0 (picture)."""
        return [float(timestep) for timestep in self.schedule.timesteps / np.float32(1000)]


@dataclass
class TransformerInputs:
    """What the transformer takes beside the latents: `prepared` is the same at every step, `modulation.at(step)` is not."""

    prepared: Any
    modulation: Any


@dataclass
class Conditioning:
    """Inputs shared by all steps and pictures. `cfg` holds a batch of two for the guided steps, `cond` the prompt alone."""

    cfg: TransformerInputs | None
    cond: TransformerInputs | None
    noise: np.ndarray  # of all pictures, [picture, row, column, channel]
    init_latents: mx.array | None
    dtype: mx.Dtype
    cache: StepCache
    canvas: Canvas | None = None  # of a request with a mask
    mask: mx.array | None = None  # [1, token, feature]; 1 is drawn anew
    control: mx.array | None = None  # [1 or picture, token, feature], beside each token's latents
    controls: tuple[Any, ...] = ()  # ControlNets

    @property
    def arrays(self) -> list[Any]:
        """Everything that is computed before the first step."""
        inputs = [(each.prepared, each.modulation) for each in (self.cfg, self.cond) if each]
        controls = [(each.picture, each.inputs.prepared, each.inputs.modulation) for each in self.controls]
        return [self.init_latents, self.mask, self.control, *inputs, *controls]


class KeptLatents(NamedTuple):
    """What a mask keeps of one picture, as tokens: between the steps it is put back, noised as far as the rest."""

    mask: mx.array
    clean: mx.array
    noise: mx.array

    def put_back(self, tokens: mx.array, sigma: float) -> mx.array:
        kept = add_noise(self.clean, self.noise, sigma)
        return ((1 - self.mask) * kept + self.mask * tokens).astype(tokens.dtype)


class PictureInputs(NamedTuple):
    """What the steps of one picture take beside its tokens."""

    kept: KeptLatents | None
    control: mx.array | None
    number: int  # of the run's pictures

    def put_back(self, tokens: mx.array, sigma: float) -> mx.array:
        return tokens if self.kept is None else self.kept.put_back(tokens, sigma)

    def beside(self, tokens: mx.array) -> mx.array:
        """The transformer's input."""
        if self.control is None:
            return tokens
        return mx.concatenate([tokens, self.control.astype(tokens.dtype)], axis=-1)


class StepResult(NamedTuple):
    """Result of one step, unevaluated: the next latents and, if a preview is due, the predicted clean picture."""

    latents: mx.array
    preview: mx.array | None

    def event(self, index: int, total: int) -> Step:
        """Waits for the result."""
        mx.eval(self)
        return Step(index, total, None if self.preview is None else np.array(self.preview))


class Stopwatch:
    """Seconds spent in each phase of a request; a lap ends where the next one begins."""

    def __init__(self) -> None:
        self.encode = self.denoise = self.decode = 0.0
        self._last = time.perf_counter()

    def lap(self) -> float:
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        return seconds
