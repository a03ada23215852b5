"""Everything that can be checked and planned of a request before it waits for the GPU. No MLX.

`prepare` reads only the headers of input pictures, plans by their sizes and adds up the memory they will take. Then each is
decoded on its own, to the size that the model looks at.
"""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from msgspec import structs

from pipelines import Capabilities, inpaint
from pipelines.base import (
    AdapterChoice,
    ControlNetChoice,
    ImageRequest,
    Mask,
    PipelineError,
    Pixels,
    Plan,
    Size,
)
from pipelines.images import PictureError
from pipelines.limits import MOST_ADAPTERS, MOST_STEPS
from pipelines.loras import take_tags
from pipelines.parameters import values
from pipelines.picture_files import PictureFile, from_base64
from pipelines.variations import random_seed
from runner.errors import BadRequest
from runner.protocol.image import Format, ImageCompletionRequest, Quality
from runner.sources.adapters import AdapterSource
from runner.sources.controlnets import ControlNetSource

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
        masks = (self.request.mask,) if self.request.mask is not None else ()
        return sum(picture.nbytes for picture in (*self.request.images, *self.request.control_images, *masks))


@dataclass(frozen=True, eq=False)
class UndecodedRequest:
    """A planned request in which placeholders of the right sizes stand for the pictures in `files` and `controls`, and for the
    mask."""

    planned: PlannedRequest
    files: tuple[PictureFile, ...]
    mask: PictureFile | None = None
    controls: tuple[PictureFile, ...] = ()

    @property
    def bytes(self) -> int:
        """The most that it holds on its way to the GPU."""
        files = (*self.files, *self.controls, *((self.mask,) if self.mask else ()))
        return self.planned.bytes + sum(len(file.data) for file in files)

    def decode(self, index: int) -> Pixels:
        """One of its pictures; a BadRequest when it is damaged. Takes up to seconds."""
        return _decoded(self.files[index], self.planned.request.image_sizes[index], f"images[{index}]")

    def decode_control(self, index: int) -> Pixels:
        """The same of the pictures that ControlNets follow."""
        size = self.planned.request.control_sizes[index]
        return _decoded(self.controls[index], size, f"controls[{index}].image")

    def decode_mask(self) -> Mask:
        """Its mask; a BadRequest when it is damaged, or nothing in it would change."""
        if self.mask is None:
            raise ValueError("the request has no mask")
        try:
            mask = self.mask.mask()
        except PictureError as error:
            raise BadRequest(f"mask: {error}") from None
        try:
            inpaint.check_mask(mask, self.planned.request)
        except PipelineError as error:
            raise BadRequest(str(error)) from None
        return mask

    def decoded(
        self, images: tuple[Pixels, ...], mask: Mask | None = None, controls: tuple[Pixels, ...] = ()
    ) -> PlannedRequest:
        request = structs.replace(self.planned.request, images=images, mask=mask, control_images=controls)
        return replace(self.planned, request=request)


def choose_adapters(
    body: ImageCompletionRequest, source: AdapterSource
) -> tuple[ImageCompletionRequest, tuple[AdapterChoice, ...], list[str]]:
    """The request with every adapter under `loras`, their files, and warnings. May download; an error says which adapter
    does not exist."""
    loras = body.loras or ()
    if body.lora_tags:
        try:
            prompt, tags = take_tags(body.prompt)
        except ValueError as error:
            raise BadRequest(f"prompt: <lora:…>: {error}") from None
        loras = (*loras, *tags)
        body = structs.replace(body, prompt=prompt, lora_tags=False)
    if len(loras) > MOST_ADAPTERS:
        raise BadRequest(f"loras: {len(loras)} were given; at most {MOST_ADAPTERS} are allowed")
    choices, warnings = [], []
    for lora in loras:
        found = source.find(lora.name)
        hash = source.hash(found.path)
        if _differs(hash, lora.hash):
            warnings.append(
                f"{lora.name} is another file than the one that the picture was made with (SHA-256 {hash}, not {lora.hash})"
            )
        choices.append(AdapterChoice(found.name, found.path, lora.scale, hash))
    return structs.replace(body, loras=loras or None), tuple(choices), warnings


def choose_controlnets(
    body: ImageCompletionRequest, source: ControlNetSource
) -> tuple[tuple[ControlNetChoice, ...], list[str]]:
    """The files of those under `controls`, and warnings. May download; an error says which does not exist."""
    choices, warnings = [], []
    for index, control in enumerate(body.controls or ()):
        if not control.image:
            raise BadRequest(f"controls[{index}].image: the picture that it follows is missing")
        model, hash = source.find(control.name)
        if _differs(hash, control.hash):
            warnings.append(
                f"{control.name} has other weights than the one that the picture was made with ({hash}, not {control.hash})"
            )
        how = (control.scale, control.start, control.end, control.mode)
        choices.append(ControlNetChoice(control.name, model, *how, hash))
    return tuple(choices), warnings


def _differs(hash: str, given: str) -> bool:
    return bool(given) and not (hash.startswith(given) or given.startswith(hash))


def prepare(
    body: ImageCompletionRequest,
    warnings: list[str],
    planner: Planner,
    adapters: tuple[AdapterChoice, ...] = (),
    controlnets: tuple[ControlNetChoice, ...] = (),
) -> UndecodedRequest:
    """The request as this model draws it, or a BadRequest that says why it cannot."""
    files = tuple(_read(text, f"images[{index}]") for index, text in enumerate(body.images))
    mask = _read(body.mask, "mask") if body.mask else None
    asked = body.controls or ()
    controls = tuple(_read(one.image, f"controls[{index}].image") for index, one in enumerate(asked))
    sizes = tuple(file.size for file in files)
    first = body.seeds[0] if body.seeds else body.seed
    seed = first if first and first > 0 else random_seed()
    request = ImageRequest(
        **{
            **values(body),
            "seed": seed,
            "controls": tuple(structs.replace(one, image="") for one in asked) or None,
        },
        images=_placeholders(sizes),
        mask=None if mask is None else np.broadcast_to(np.True_, mask.size[::-1]),
        previews=body.previews,
        adapters=adapters,
        controlnets=controlnets,
        control_images=_placeholders(tuple(file.size for file in controls)),
    )
    try:
        plan = planner.plan(request)
        if body.quality is not None and not body.steps:
            steps = max(1, round(plan.num_inference_steps * STEP_SHARES[body.quality]))
            request = structs.replace(request, steps=min(steps, MOST_STEPS))
            plan = planner.plan(request)
    except (PipelineError, PictureError) as error:
        raise BadRequest(str(error)) from None
    request = structs.replace(
        request, images=_placeholders(plan.reduced or sizes), control_images=_placeholders(plan.controls)
    )
    planned = PlannedRequest(request, plan, body.format, tuple(warnings), body.compression)
    if planned.bytes > MOST_DECODED:
        raise BadRequest(
            f"images: these {len(files) + len(controls)} take {planned.bytes // MIB} MiB when decoded; {MOST_DECODED // MIB} MiB are "
            "allowed per request; send fewer or smaller ones"
        )
    return UndecodedRequest(planned, files, mask, controls)


def _placeholders(sizes: tuple[Size, ...]) -> tuple[Pixels, ...]:
    """Pictures of these sizes that take no memory."""
    return tuple(np.broadcast_to(np.uint8(0), (height, width, 3)) for width, height in sizes)


def _decoded(file: PictureFile, size: Size, field: str) -> Pixels:
    try:
        return file.pixels(size)
    except PictureError as error:
        raise BadRequest(f"{field}: {error}") from None


def _read(text: str, field: str) -> PictureFile:
    try:
        return PictureFile(from_base64(text))
    except PictureError as error:
        raise BadRequest(f"{field}: {error}") from None
