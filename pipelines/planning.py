"""Plans a request for a model before any work, or refuses it. No MLX."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from models.config import ConfigError
from pipelines import inpaint
from pipelines.base import ImageRequest, PipelineError, Plan, Size
from pipelines.images import PictureError, check_reference, check_size, drawn_size, reference_size
from pipelines.limits import LONGEST_SIDE, MOST_PIXELS
from pipelines.parameters import FAMILY_SPECIFIC, check

STRENGTH = 0.6  # diffusers' default, for models that can only start from a picture
INPAINT_STRENGTH = 1.0  # what a mask shows is replaced
SIDE = 1024


@dataclass(frozen=True)
class Defaults:
    """A model's defaults and limits. `supported_params`: the family-specific parameters that have an effect on it."""

    steps: int
    guidance: float | None
    side: int
    size_multiple: int
    max_references: int = 0  # pictures that it can look at while it draws
    supported_params: tuple[str, ...] = ()

    @property
    def supports_editing(self) -> bool:
        return self.max_references > 0


def plan(request: ImageRequest, defaults: Defaults) -> Plan:
    """The part of a plan that does not depend on the family; a PipelineError says what is wrong with the request."""
    _check_sides(request, defaults.size_multiple)
    try:
        check(request)
    except ValueError as error:
        raise PipelineError(str(error)) from None
    _check_pictures(request, defaults)
    _check_controls(request, defaults)
    pasted = _pasted(request)
    width, height = _size(request, defaults, pasted)
    steps = request.steps or defaults.steps
    strength = _strength(request, defaults)
    return Plan(
        width=width,
        height=height,
        num_inference_steps=steps,
        denoise_steps=steps if strength is None else steps - skipped(steps, strength),
        guidance=defaults.guidance if request.guidance is None else request.guidance,
        strength=strength,
        warnings=_warnings(request, defaults),
        reduced=_reduced(request, strength, (width, height)),
        controls=tuple(min(size, (width, height), key=math.prod) for size in request.control_sizes),
        pasted=pasted,
    )


def _warnings(request: ImageRequest, defaults: Defaults) -> tuple[str, ...]:
    without_effect = tuple(
        f"{parameter.name} has no effect on this model"
        for parameter in FAMILY_SPECIFIC
        if getattr(request, parameter.name) != parameter.default
        and parameter.name not in defaults.supported_params
    )
    if request.feather and not inpaint.inpaints(request):
        return (*without_effect, "feather has no effect without a mask")
    return without_effect


def guided_until(request: ImageRequest, plan: Plan, guided: int, defaults: Defaults) -> tuple[Plan, int]:
    """How many of the guided steps `guidance_until` leaves, and the plan, which says where there are none."""
    until = request.guidance_until
    if until is None or "guidance_until" not in defaults.supported_params:
        return plan, guided
    if not guided:
        plan = replace(plan, warnings=(*plan.warnings, "guidance_until has no effect without guidance"))
    return plan, min(guided, int(until * plan.denoise_steps))


def skipped(steps: int, strength: float) -> int:
    """How many steps of the schedule an image-to-image run skips."""
    left_out = int(max(steps - min(steps * strength, steps), 0))
    if left_out >= steps:
        raise PipelineError(
            f"strength: {strength} leaves none of {steps} steps to do; a number above 0, up to 1, is allowed"
        )
    return left_out


def preview_steps(steps: int, previews: int) -> frozenset[int]:
    """The steps after which a preview is shown: evenly spread, never the last, which is the picture itself."""
    shown = min(previews, steps - 1)
    return frozenset(round(steps * (index + 1) / (shown + 1)) for index in range(shown))


def sample_side(transformer: Mapping[str, Any], vae: Mapping[str, Any], scale: int) -> int:
    """The side of the pictures that a checkpoint was trained for: in its transformer's config in latents of `scale` pixels,
    or in its autoencoder's in pixels."""
    for config, pixels in ((transformer, scale), (vae, 1)):
        side = config.get("sample_size")
        if side is None:
            continue
        if not isinstance(side, int) or isinstance(side, bool) or side < 1:
            raise ConfigError(f"sample_size is {side!r}, a positive whole number is needed")
        return min(side * pixels, LONGEST_SIDE, math.isqrt(MOST_PIXELS))
    return SIDE


def _check_pictures(request: ImageRequest, defaults: Defaults) -> None:
    if masked := inpaint.inpaints(request):
        inpaint.check(request)
    starts = masked or request.strength is not None or not defaults.supports_editing
    most = max(1, defaults.max_references)
    if len(request.images) > most:
        raise PipelineError(f"images: {len(request.images)} were given; this model takes at most {most}")
    if request.strength is not None and not request.images:
        raise PipelineError("strength: it needs a picture in images to start from")
    for index, (width, height) in enumerate(request.image_sizes):
        try:
            if starts and index == 0:
                check_size(width, height)
            else:
                check_reference(width, height, defaults.size_multiple)
        except PictureError as error:
            raise PipelineError(f"images[{index}]: {error}") from error


def _check_controls(request: ImageRequest, defaults: Defaults) -> None:
    if not request.controls and not request.controlnets:
        return
    if "controls" not in defaults.supported_params:
        raise PipelineError("controls: ControlNets are not supported for this model; leave them out")
    if request.images or inpaint.inpaints(request):
        raise PipelineError("controls: they cannot be combined with images, a mask or outpaint")
    for index, (width, height) in enumerate(request.control_sizes):
        try:
            check_size(width, height)
        except PictureError as error:
            raise PipelineError(f"controls[{index}].image: {error}") from error


def _check_sides(request: ImageRequest, multiple: int) -> None:
    for name, side in (("width", request.width), ("height", request.height)):
        if side and not multiple <= side <= LONGEST_SIDE:
            raise PipelineError(f"{name}: {side} is out of range; {multiple} to {LONGEST_SIDE} is allowed")


def _reduced(request: ImageRequest, strength: float | None, drawn: Size) -> tuple[Size, ...]:
    """A picture to start from is stretched to the size that is drawn, one with a mask stays as it is; the others are
    references. None is enlarged."""
    if inpaint.inpaints(request):
        drawn = request.image_sizes[0]
    sizes = [
        drawn if strength is not None and index == 0 else reference_size(*size)
        for index, size in enumerate(request.image_sizes)
    ]
    return tuple(min(size, own, key=math.prod) for size, own in zip(sizes, request.image_sizes, strict=True))


def _strength(request: ImageRequest, defaults: Defaults) -> float | None:
    if not request.images:
        return None
    if inpaint.inpaints(request):
        return INPAINT_STRENGTH if request.strength is None else request.strength
    return STRENGTH if request.strength is None and not defaults.supports_editing else request.strength


def _pasted(request: ImageRequest) -> Size | None:
    """With a mask: the input picture's size, which the finished one has unless another is requested."""
    if not inpaint.inpaints(request):
        return None
    own = inpaint.canvas_size(request)
    sides = zip((request.width, request.height), own, strict=True)
    return own if all(not side or side == own_side for side, own_side in sides) else None


def _size(request: ImageRequest, defaults: Defaults, pasted: Size | None) -> Size:
    """The requested size, cut to the multiple; else that of the first input picture, or of the first that a ControlNet
    follows; else the model's own."""
    multiple = defaults.size_multiple
    width = height = defaults.side
    if request.control_sizes:
        width, height = drawn_size(*request.control_sizes[0], multiple)
    if request.images:
        width, height = drawn_size(*inpaint.canvas_size(request), multiple)
    if pasted is None:
        width, height = request.width or width, request.height or height
    width, height = (max(side // multiple, 1) * multiple for side in (width, height))
    if width * height > MOST_PIXELS:
        raise PipelineError(
            f"width, height: {width} x {height} is too large; at most {MOST_PIXELS >> 20} megapixels are allowed"
        )
    return width, height
