"""Requests to drawings: everything that can be refused before the GPU is asked. Knows no MLX.

Of the pictures in a request, `prepare` reads the headers: it plans by their sizes and adds up what they will hold. Only
then are they decoded, each on its own, to what the model looks at.
"""

import secrets
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from pipelines.base import ImageRequest, PipelineError, Pixels, Plan, Size
from pipelines.images import PictureError
from pipelines.limits import MOST_STEPS
from pipelines.picture_files import PictureFile, from_base64
from runner.errors import BadRequest
from runner.protocol.image import Format, ImageCompletionRequest, Quality

# How many of the model's own steps are done, where a quality is asked for and no number of steps.
SHARES: dict[Quality, float] = {"low": 0.5, "medium": 1, "high": 1.5, "xhigh": 2, "max": 3}
MIB = 1024**2
# What the decoded pictures of one request may hold: ten that a model looks at, or what diffusers is given whole.
MOST_DECODED = 512 * MIB


class Planner(Protocol):
    """What is needed of a pipeline before the GPU is asked."""

    def plan(self, request: ImageRequest) -> Plan: ...


@dataclass(frozen=True, eq=False)
class PlannedRequest:
    """A picture, or several, to draw and to pack."""

    request: ImageRequest
    plan: Plan
    format: Format = "png"
    warnings: tuple[str, ...] = field(default=())
    compression: int | None = None  # of JPEG and WebP: 100 keeps the most

    @property
    def bytes(self) -> int:
        """What its input pictures hold, or will hold when they are decoded."""
        return sum(picture.nbytes for picture in self.request.images)


@dataclass(frozen=True, eq=False)
class UndecodedRequest:
    """A drawing that can be made, in which pictures of the right sizes stand for those in `files`."""

    drawing: PlannedRequest
    files: tuple[PictureFile, ...]

    @property
    def bytes(self) -> int:
        """What it holds at the most on its way to the GPU."""
        return self.drawing.bytes + sum(len(file.data) for file in self.files)

    def decode(self, index: int) -> Pixels:
        """One of its pictures; a BadRequest when it is damaged. Takes up to seconds."""
        height, width = self.drawing.request.images[index].shape[:2]
        try:
            return self.files[index].pixels((width, height))
        except PictureError as error:
            raise BadRequest(f"images[{index}]: {error}") from None

    def decoded(self, images: tuple[Pixels, ...]) -> PlannedRequest:
        return replace(self.drawing, request=replace(self.drawing.request, images=images))


def prepare(wanted: ImageCompletionRequest, ignored: list[str], planner: Planner) -> UndecodedRequest:
    """A drawing, or the BadRequest that says why this model cannot make it."""
    files = tuple(_read(text, index) for index, text in enumerate(wanted.images))
    sizes = tuple(file.size for file in files)
    request = ImageRequest(
        prompt=wanted.prompt,
        seed=wanted.seed if wanted.seed > 0 else draw_seed(),
        negative_prompt=wanted.negative_prompt,
        width=wanted.width or None,
        height=wanted.height or None,
        steps=wanted.steps or None,
        guidance=wanted.guidance,
        count=wanted.n,
        images=_blank(sizes),
        sizes=sizes,
        strength=wanted.strength,
        previews=wanted.previews,
        cfg_normalization=wanted.cfg_normalization,
        cfg_truncation=wanted.cfg_truncation,
        true_cfg_scale=wanted.true_cfg_scale,
    )
    try:
        plan = planner.plan(request)
        if wanted.quality is not None and not wanted.steps:
            steps = max(1, round(plan.num_inference_steps * SHARES[wanted.quality]))
            request = replace(request, steps=min(steps, MOST_STEPS))
            plan = planner.plan(request)
    except (PipelineError, PictureError) as error:
        raise BadRequest(str(error)) from None
    request = replace(request, images=_blank(plan.reduced or sizes))
    drawing = PlannedRequest(request, plan, wanted.format, tuple(ignored), wanted.compression)
    if drawing.bytes > MOST_DECODED:
        raise BadRequest(
            f"images: decoded, these {len(files)} take {drawing.bytes // MIB} MiB; {MOST_DECODED // MIB} MiB are "
            "allowed for a request: send smaller ones, or fewer"
        )
    return UndecodedRequest(drawing, files)


def draw_seed() -> int:
    """Noise depends on the low 32 bits alone, so that is how large a seed is worth drawing."""
    return 1 + secrets.randbelow(2**32 - 1)


def _blank(sizes: tuple[Size, ...]) -> tuple[Pixels, ...]:
    """Pictures of these sizes that take no memory."""
    return tuple(np.broadcast_to(np.uint8(0), (height, width, 3)) for width, height in sizes)


def _read(text: str, index: int) -> PictureFile:
    try:
        return PictureFile(from_base64(text))
    except PictureError as error:
        raise BadRequest(f"images[{index}]: {error}") from None
