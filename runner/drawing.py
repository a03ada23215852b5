"""Requests to drawings: everything that can be refused before the GPU is asked. Runs on a thread of its own, as
decoding pictures takes time; knows no MLX."""

import secrets
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from pipelines.base import ImageRequest, PipelineError, Pixels, Plan
from pipelines.images import PictureError, decode, from_base64
from pipelines.limits import MOST_STEPS
from runner.errors import BadRequest
from runner.image_protocol import DrawRequest, Format, Quality

# How many of the model's own steps are done, where a quality is asked for and no number of steps.
SHARES: dict[Quality, float] = {"low": 0.5, "medium": 1, "high": 1.5, "xhigh": 2, "max": 3}


class Planner(Protocol):
    """What is needed of a pipeline before the GPU is asked."""

    def plan(self, request: ImageRequest) -> Plan: ...


@dataclass(frozen=True, eq=False)
class Drawing:
    """A picture, or several, to draw and to pack."""

    request: ImageRequest
    plan: Plan
    format: Format = "png"
    warnings: tuple[str, ...] = field(default=())
    compression: int | None = None  # of JPEG and WebP: 100 keeps the most

    @property
    def bytes(self) -> int:
        """What its input pictures hold."""
        return sum(picture.nbytes for picture in self.request.images)


def prepare(wanted: DrawRequest, ignored: list[str], planner: Planner) -> Drawing:
    """A drawing, or the BadRequest that says why this model cannot make it."""
    request = ImageRequest(
        prompt=wanted.prompt,
        seed=wanted.seed if wanted.seed > 0 else draw_seed(),
        negative_prompt=wanted.negative_prompt,
        width=wanted.width or None,
        height=wanted.height or None,
        steps=wanted.steps or None,
        guidance=wanted.guidance,
        count=wanted.n,
        images=tuple(_picture(text, index) for index, text in enumerate(wanted.images)),
        strength=wanted.strength,
        previews=wanted.previews,
        cfg_normalization=wanted.cfg_normalization,
        cfg_truncation=wanted.cfg_truncation,
        true_cfg_scale=wanted.true_cfg_scale,
    )
    try:
        plan = planner.plan(request)
        if wanted.quality is not None and not wanted.steps:
            steps = max(1, round((plan.asked or plan.steps) * SHARES[wanted.quality]))
            request = replace(request, steps=min(steps, MOST_STEPS))
            plan = planner.plan(request)
    except (PipelineError, PictureError) as error:
        raise BadRequest(str(error)) from None
    return Drawing(request, plan, wanted.format, tuple(ignored), wanted.compression)


def draw_seed() -> int:
    """Noise depends on the low 32 bits alone, so that is how large a seed is worth drawing."""
    return 1 + secrets.randbelow(2**32 - 1)


def _picture(text: str, index: int) -> Pixels:
    try:
        return np.asarray(decode(from_base64(text)))
    except PictureError as error:
        raise BadRequest(f"images[{index}]: {error}") from None
