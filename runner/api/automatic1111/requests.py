"""Requests for pictures in AUTOMATIC1111's words, and the equivalent of the engine's."""

import re
from typing import Annotated, Any

from msgspec import Meta, Struct, field

from pipelines.limits import MOST_PICTURES
from pipelines.variations import random_seed
from runner.api.automatic1111 import controlnet
from runner.api.openai.image_edits import data_of
from runner.errors import BadRequest
from runner.protocol.image import ImageCompletionRequest
from runner.protocol.text import parse

Number = Annotated[int, Meta(ge=0, le=2**31 - 1)]
# Fields that would change the picture if they did anything here, by the values that change nothing.
IGNORED: dict[str, tuple[Any, ...]] = {
    "enable_hr": (False,),
    "restore_faces": (False,),
    "tiling": (False,),
    "styles": ([],),
    "script_name": ("",),
    "script_args": ([],),
    "seed_resize_from_w": (-1, 0),
    "seed_resize_from_h": (-1, 0),
    "clip_skip": (0, 1),
    "refiner_checkpoint": ("",),
    "hr_upscaler": ("", "None"),
    "resize_mode": (0,),
    "inpaint_full_res": (False, 0),
    "inpainting_fill": (1,),
}
SAMPLERS = ("", "Euler", "euler", "Automatic")
LORA = re.compile(r"<lora:([^:<>]+)(?::([+-]?[0-9]+(?:\.[0-9]+)?))?(?::[^<>]*)?>")


class Overrides(Struct, frozen=True):
    sd_model_checkpoint: str | None = None


class Txt2Img(Struct, frozen=True, kw_only=True):
    prompt: str = ""
    negative_prompt: str | None = None
    seed: Annotated[int, Meta(ge=-1)] | None = None
    subseed: Annotated[int, Meta(ge=-1)] | None = None
    subseed_strength: Annotated[float, Meta(ge=0, le=1)] | None = None
    steps: Number | None = None
    cfg_scale: float | None = None
    width: Number | None = None
    height: Number | None = None
    batch_size: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    n_iter: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    sampler_name: str | None = None
    sampler_index: str | None = None
    scheduler: str | None = None
    override_settings: Overrides | None = field(default_factory=Overrides)
    send_images: bool | None = None
    alwayson_scripts: dict[str, Any] | None = None  # of these controlnet


class Img2Img(Txt2Img, frozen=True, kw_only=True):
    init_images: Annotated[list[str], Meta(min_length=1)]
    mask: str | None = None
    mask_blur: Number | None = None
    inpainting_mask_invert: Annotated[int, Meta(ge=0, le=1)] | None = None
    denoising_strength: Annotated[float, Meta(ge=0, le=1)] | None = None


def engine_request(request: Txt2Img, previews: int) -> ImageCompletionRequest:
    if not request.prompt:
        raise BadRequest("prompt is missing; a description of the picture is needed")
    prompt, loras = _without_loras(request.prompt)
    fields: dict[str, Any] = {
        "prompt": prompt,
        "loras": loras or None,
        "controls": controlnet.controls(request.alwayson_scripts or {}) or None,
        "negative_prompt": request.negative_prompt or None,
        "steps": request.steps,
        "guidance": request.cfg_scale,
        "width": request.width,
        "height": request.height,
        "previews": previews,
    }
    fields |= _seeds(request, (request.batch_size or 1) * (request.n_iter or 1))
    if isinstance(request, Img2Img):
        fields |= _picture_fields(request)
    return _parsed({name: value for name, value in fields.items() if value is not None})


def _seeds(request: Txt2Img, count: int) -> dict[str, Any]:
    """Several pictures have seeds that follow each other, or the one seed and subseeds that do."""
    if count > MOST_PICTURES:
        raise BadRequest(f"batch_size: {count} pictures are too many; {MOST_PICTURES} are allowed")
    strength = request.subseed_strength
    if count == 1 and not strength:
        return {"seed": request.seed if request.seed and request.seed > 0 else None}
    seed = request.seed if request.seed and request.seed > 0 else random_seed()
    if not strength:
        return {"seeds": [seed + index for index in range(count)]}
    subseed = request.subseed if request.subseed and request.subseed > 0 else random_seed()
    return {
        "seed": seed,
        "variations": [{"seed": subseed + index, "strength": strength} for index in range(count)],
    }


def _without_loras(prompt: str) -> tuple[str, list[dict[str, Any]]]:
    """The prompt without `<lora:name:1>`, and the adapters that these name."""
    loras = [{"name": name, "scale": float(scale or 1)} for name, scale in LORA.findall(prompt)]
    return (LORA.sub("", prompt).strip() or prompt if loras else prompt), loras


def _picture_fields(request: Img2Img) -> dict[str, Any]:
    if request.inpainting_mask_invert:
        raise BadRequest(
            "inpainting_mask_invert: 1 is not supported; what is white in the mask is drawn anew"
        )
    mask = request.mask or None
    return {
        "images": [data_of(picture, "init_images") for picture in request.init_images],
        "mask": None if mask is None else data_of(mask, "mask"),
        "feather": request.mask_blur if mask else None,
        "strength": 0.75 if request.denoising_strength is None else request.denoising_strength,
    }


NAMES = {
    "guidance": "cfg_scale",
    "seeds": "seed",
    "variations": "subseed",
    "images": "init_images",
    "strength": "denoising_strength",
}


def _parsed(fields: dict[str, Any]) -> ImageCompletionRequest:
    try:
        return parse(ImageCompletionRequest, fields)
    except BadRequest as error:
        name, colon, rest = error.message.partition(":")
        raise BadRequest(f"{NAMES.get(name, name)}{colon}{rest}") from None


def ignored(body: dict[str, Any]) -> list[str]:
    """What in a request has no effect."""
    warnings = [
        f"{name} was ignored"
        for name, harmless in IGNORED.items()
        if body.get(name) is not None and body[name] not in harmless
    ]
    scripts = body.get("alwayson_scripts") or {}
    warnings += [f"alwayson_scripts.{name[:64]} was ignored" for name in controlnet.others(scripts)]
    sampler = body.get("sampler_name") or body.get("sampler_index") or ""
    if sampler not in SAMPLERS:
        warnings.append(
            f"sampler_name: {str(sampler)[:64]} was ignored; models are sampled as they were made"
        )
    return warnings
