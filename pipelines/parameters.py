"""The parameters of a picture, each written once: its type with its limits, its help, and what else applies to it.

The wire request, the recipe, the pipelines' request, the options of `diptych draw`, the page's form and the bodies of other
APIs are made of `ImageParameters`. No NumPy here, so that the gateway stays small.
"""

import math
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from pipelines.boxes import Box, check_boxes
from pipelines.controls import Control
from pipelines.limits import (
    LARGEST_SCALE,
    LONGEST_SIDE,
    LONGEST_STEP_CACHE,
    LONGEST_TEXT,
    MAX_SEED,
    MOST_ADAPTERS,
    MOST_BOXES,
    MOST_CONTROLS,
    MOST_PICTURES,
    MOST_STEPS,
    WIDEST_FEATHER,
)
from pipelines.loras import Lora
from pipelines.parameter_types import about, parameters_of
from pipelines.step_cache.settings import parse_step_cache
from pipelines.variations import Variation

Loras = Annotated[tuple[Lora, ...], Meta(max_length=MOST_ADAPTERS)]
Seeds = Annotated[tuple[Annotated[int, Meta(ge=1)], ...], Meta(min_length=1, max_length=MOST_PICTURES)]
Variations = Annotated[tuple[Variation, ...], Meta(min_length=1, max_length=MOST_PICTURES)]
Boxes = Annotated[tuple[Box, ...], Meta(max_length=MOST_BOXES)]
Controls = Annotated[tuple[Control, ...], Meta(max_length=MOST_CONTROLS)]
Text = Annotated[str, Meta(max_length=LONGEST_TEXT)]
# Some clients send 0 for a number that they leave open.
Side = Annotated[int, Meta(ge=0, le=LONGEST_SIDE)]
Steps = Annotated[int, Meta(ge=0, le=MOST_STEPS)]
Scale = Annotated[float, Meta(ge=0, le=100)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1, le=MOST_PICTURES)]
Feather = Annotated[int, Meta(ge=0, le=WIDEST_FEATHER)]
Margins = Annotated[
    str, Meta(max_length=64, extra_json_schema={"pattern": r"^\s*[0-9]{1,4}([\s,]+[0-9]{1,4}){0,3}\s*$"})
]
StepCacheText = Annotated[str, Meta(max_length=LONGEST_STEP_CACHE)]
# Of the request alone: they change nothing about the picture.
Previews = Annotated[int, Meta(ge=0, le=MOST_STEPS)]


class ImageParameters(Struct, frozen=True):
    """What makes a picture what it is; a recipe holds all of it. None: as the model's files, or the input pictures,
    suggest."""

    prompt: Annotated[Text, about("what the picture should show")]
    seed: Annotated[int | None, about("the same seed gives the same picture", unset="random")] = None
    negative_prompt: Annotated[Text | None, about("what the picture should not show", flag="--negative")] = (
        None
    )
    width: Annotated[Side | None, about("width in pixels", unset="the model's own size")] = None
    height: Annotated[Side | None, about("height in pixels", unset="the model's own size")] = None
    steps: Annotated[Steps | None, about("denoising steps", unset="the model's", group="main")] = None
    guidance: Annotated[Scale | None, about("how closely the prompt is followed", unset="the model's")] = None
    strength: Annotated[
        Fraction | None, about("start from the first input picture and go this far from it, 0 to 1")
    ] = None
    n: Annotated[
        Count, about("how many pictures, all from one seed", unset="1", label="Pictures", group="main")
    ] = 1
    seeds: Annotated[
        Seeds | None, about("a picture for each of these seeds, in place of a seed and a number of pictures")
    ] = None
    variations: Annotated[
        Variations | None,
        about(
            "a picture for each of these variations of the seed: SEED:STRENGTH turns its noise towards that of "
            "another, by 0 to 1",
            flag="--variation",
        ),
    ] = None
    feather: Annotated[
        Feather | None,
        about(
            "pixels around the mask over which the new picture fades into the old", unset="0", group="mask"
        ),
    ] = None
    outpaint: Annotated[
        Margins | None,
        about(
            "pixels to add around the first input picture: for all sides, or above, right, below, left",
            group="mask",
        ),
    ] = None
    loras: Annotated[
        Loras | None,
        about(
            "adapters (LoRA) to draw with, as NAME or NAME:SCALE",
            label="LoRAs",
            flag="--lora",
            family_specific=True,
        ),
    ] = None
    lora_tags: Annotated[
        bool,
        about(
            "read <lora:NAME:SCALE> in the prompt as adapters",
            label="LoRA tags in the prompt",
            family_specific=True,
        ),
    ] = False
    controls: Annotated[
        Controls | None,
        about(
            "ControlNets to draw with, each with a picture that it follows",
            label="ControlNets",
            flag="--control",
            family_specific=True,
        ),
    ] = None
    decode: Annotated[
        Literal["tiny"] | None,
        about(
            "tiny: decode with the tiny autoencoder beside the model, faster and in less memory",
            unset="the model's own autoencoder",
            family_specific=True,
        ),
    ] = None
    boxes: Annotated[
        Boxes | None,
        about("FLUX.3: where in the picture something is to be", flag="--box", family_specific=True),
    ] = None
    true_cfg_scale: Annotated[
        Scale | None,
        about(
            "FLUX.1: how strongly the negative prompt is avoided, in addition to the model's own guidance",
            label="True CFG scale",
            family_specific=True,
        ),
    ] = None
    cfg_normalization: Annotated[
        Scale | None,
        about(
            "Z-Image: guidance makes a step at most this many times as long",
            label="CFG normalization",
            family_specific=True,
        ),
    ] = None
    cfg_truncation: Annotated[
        Fraction | None,
        about(
            "Z-Image: when guidance ends, 0 (at once) to 1 (never)",
            label="CFG truncation",
            family_specific=True,
        ),
    ] = None

    guidance_until: Annotated[
        Fraction | None,
        about(
            "the part of the steps, 0 to 1, after which the negative prompt is left out and steps cost half",
            family_specific=True,
        ),
    ] = None
    step_cache: Annotated[
        StepCacheText | None,
        about(
            "skip steps of long schedules: first_block, mag or taylorseer, with settings as in first_block:threshold=0.1",
            family_specific=True,
        ),
    ] = None

    def __post_init__(self) -> None:
        if (self.seed or 0) > MAX_SEED:  # more than Meta can bound
            raise ValueError(f"seed: {_short(self.seed or 0)} is out of range; 1 to {MAX_SEED} are allowed")
        for index, seed in enumerate(self.seeds or ()):
            if seed > MAX_SEED:
                raise ValueError(
                    f"seeds[{index}]: {_short(seed)} is out of range; 1 to {MAX_SEED} are allowed"
                )
        _check_series(self)

    @property
    def is_series(self) -> bool:
        """Whether each picture has noise of its own, so that it is what its seed alone would draw."""
        return bool(self.seeds or self.variations)

    @property
    def count(self) -> int:
        """How many pictures there will be."""
        return len(self.seeds or (0,)) * len(self.variations or (0,)) if self.is_series else self.n

    def drawing(self, index: int, seed: int) -> tuple[int, Variation | None]:
        """The seed and the variation of one picture of a series, which has all variations of a seed after another; `seed`
        is the request's, where it has no list."""
        row, column = divmod(index, len(self.variations or (0,)))
        return (
            self.seeds[row] if self.seeds else seed,
            self.variations[column] if self.variations else None,
        )


def values(parameters: ImageParameters) -> dict[str, Any]:
    """The parameters that are set, by name, without what a struct made of them has in addition."""
    names = ImageParameters.__struct_fields__
    return {name: value for name in names if (value := getattr(parameters, name)) is not None}


def check(parameters: ImageParameters) -> None:
    """ValueError names the first field that breaks a limit. Structs made in code have not been through msgspec, and it
    lets through text that cannot be encoded."""
    for parameter in parameters_of(type(parameters)):
        value, least, most = getattr(parameters, parameter.name), parameter.least, parameter.most
        if isinstance(value, str) and not _is_text(value):
            raise ValueError(
                f"{parameter.name}: it holds half a character (a lone surrogate); text is needed"
            )
        if parameter.name == "step_cache" and value:
            _check_step_cache(value)
        if parameter.name == "loras":
            _check_loras(value or ())
        if parameter.name == "controls":
            _check_controls(value or ())
        if parameter.name == "boxes":
            check_boxes(value or ())
        if value is None or least is None or most is None:
            continue
        if not (math.isfinite(value) and least <= value <= most):
            raise ValueError(f"{parameter.name}: {value} is out of range; {least:g} to {most:g} is allowed")


def _check_series(parameters: ImageParameters) -> None:
    """`seeds` and `variations` say how many pictures there are, and what they start from."""
    seeds, variations = parameters.seeds, parameters.variations
    for name in ("seeds", "variations"):
        # None, or 1, are what clients send who say nothing about it.
        if getattr(parameters, name) and (parameters.n or 1) > 1:
            raise ValueError(
                f"n: {parameters.n} cannot be combined with {name}, which say how many pictures there are"
            )
    if seeds and parameters.seed not in (None, 0, seeds[0]):
        raise ValueError(
            f"seed: {_short(parameters.seed or 0)} is not the first of seeds; give one or the other"
        )
    if seeds and variations and parameters.count > MOST_PICTURES:
        raise ValueError(
            f"variations: {len(variations)} of each of {len(seeds)} seeds are too many; "
            f"{MOST_PICTURES} pictures are allowed"
        )


def _check_step_cache(text: str) -> None:
    try:
        parse_step_cache(text)
    except ValueError as error:
        raise ValueError(f"step_cache: {error}") from None


def _check_loras(loras: tuple[Lora, ...]) -> None:
    for index, lora in enumerate(loras):
        if not _is_text(lora.name):
            raise ValueError(
                f"loras[{index}].name: it holds half a character (a lone surrogate); text is needed"
            )
        if not abs(lora.scale) <= LARGEST_SCALE:
            raise ValueError(
                f"loras[{index}].scale: {lora.scale} is out of range; -{LARGEST_SCALE} to {LARGEST_SCALE} is allowed"
            )


def _check_controls(controls: tuple[Control, ...]) -> None:
    for index, control in enumerate(controls):
        place = f"controls[{index}]"
        if not _is_text(control.name):
            raise ValueError(f"{place}.name: it holds half a character (a lone surrogate); text is needed")
        if not 0 <= control.scale <= LARGEST_SCALE:
            raise ValueError(
                f"{place}.scale: {control.scale} is out of range; 0 to {LARGEST_SCALE} is allowed"
            )
        if not 0 <= control.start < control.end <= 1:
            raise ValueError(
                f"{place}: start is {control.start} and end is {control.end}; both are from 0 to 1, and start is below end"
            )


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _short(number: int) -> str:
    return str(number) if number.bit_length() < 200 else f"a number of {number.bit_length()} bits"


FAMILY_SPECIFIC = tuple(
    parameter for parameter in parameters_of(ImageParameters) if parameter.family_specific
)
