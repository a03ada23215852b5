"""Everything that can be checked and planned of a request before it waits for the GPU. No MLX.

`prepare` reads only the headers of input pictures, plans by their sizes and adds up the memory they will take. Then each is
decoded on its own, to the size that the model looks at.
"""

import secrets
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from msgspec import structs

from pipelines import Capabilities
from pipelines.base import ImageRequest, PipelineError, Pixels, Plan, Size
from pipelines.images import PictureError
from pipelines.limits import MOST_STEPS
from pipelines.parameters import values
from pipelines.picture_files import PictureFile, from_base64
from runner.errors import BadRequest
from runner.protocol.image import Format, ImageCompletionRequest, Quality

# What share of the model's own steps is run for a quality, where the request has no number of steps.
STEP_SHARES: dict[Quality, float] = {"low": 0.5, "medium": 1, "high": 1.5, "xhigh": 2, "max": 3}
MIB = 1024**2
# The most memory for the decoded pictures of a request: enough for ten that a model looks at. Diffusers gets them whole.
MOST_DECODED = 512 * MIB


class Planner(Protocol):
    """The part of a pipeline that needs no GPU."""

    @property
    def capabilities(self) -> Capabilities: ...

    def plan(self, request: ImageRequest) -> Plan: ...


@dataclass(frozen=True, eq=False)
class PlannedRequest:
    """A request that can be drawn, its plan, and how its pictures are packed."""

    request: ImageRequest
    plan: Plan
    format: Format = "png"
    warnings: tuple[str, ...] = ()
    compression: int | None = None  # of JPEG and WebP: 100 keeps the most

    @property
    def bytes(self) -> int:
        """What its input pictures hold, or will hold when they are decoded."""
        return sum(picture.nbytes for picture in self.request.images)


@dataclass(frozen=True, eq=False)
class UndecodedRequest:
    """A planned request in which placeholders of the right sizes stand for the pictures in `files`."""

    planned: PlannedRequest
    files: tuple[PictureFile, ...]

    @property
    def bytes(self) -> int:
        """The most that it holds on its way to the GPU."""
        return self.planned.bytes + sum(len(file.data) for file in self.files)

    def decode(self, index: int) -> Pixels:
        """One of its pictures; a BadRequest when it is damaged. Takes up to seconds."""
        height, width = self.planned.request.images[index].shape[:2]
        try:
            return self.files[index].pixels((width, height))
        except PictureError as error:
            raise BadRequest(f"images[{index}]: {error}") from None

    def decoded(self, images: tuple[Pixels, ...]) -> PlannedRequest:
        return replace(self.planned, request=structs.replace(self.planned.request, images=images))


def prepare(body: ImageCompletionRequest, warnings: list[str], planner: Planner) -> UndecodedRequest:
    """The request as this model draws it, or a BadRequest that says why it cannot."""
    files = tuple(_read(text, index) for index, text in enumerate(body.images))
    sizes = tuple(file.size for file in files)
    seed = body.seed if body.seed and body.seed > 0 else draw_seed()
    request = ImageRequest(
        **{**values(body), "seed": seed}, images=_placeholders(sizes), previews=body.previews
    )
    try:
        plan = planner.plan(request)
        if body.quality is not None and not body.steps:
            steps = max(1, round(plan.num_inference_steps * STEP_SHARES[body.quality]))
            request = structs.replace(request, steps=min(steps, MOST_STEPS))
            plan = planner.plan(request)
    except (PipelineError, PictureError) as error:
        raise BadRequest(str(error)) from None
    request = structs.replace(request, images=_placeholders(plan.reduced or sizes))
    planned = PlannedRequest(request, plan, body.format, tuple(warnings), body.compression)
    if planned.bytes > MOST_DECODED:
        raise BadRequest(
            f"images: these {len(files)} take {planned.bytes // MIB} MiB when decoded; {MOST_DECODED // MIB} MiB are "
            "allowed per request; send fewer or smaller ones"
        )
    return UndecodedRequest(planned, files)


def draw_seed() -> int:
    """A random seed. Noise depends on the low 32 bits alone."""
    return 1 + secrets.randbelow(2**32 - 1)


def _placeholders(sizes: tuple[Size, ...]) -> tuple[Pixels, ...]:
    """Pictures of these sizes that take no memory."""
    return tuple(np.broadcast_to(np.uint8(0), (height, width, 3)) for width, height in sizes)


def _read(text: str, index: int) -> PictureFile:
    try:
        return PictureFile(from_base64(text))
    except PictureError as error:
        raise BadRequest(f"images[{index}]: {error}") from None
