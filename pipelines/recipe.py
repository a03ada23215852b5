"""How a picture was made, as it travels inside the picture: as text for other tools, as JSON for Diptych.

The text is what A1111-style tools read from a `parameters` chunk: the prompt, the negative prompt, a line of settings.
It cannot say everything (a prompt may look like settings), so Diptych reads its own JSON first.
"""

import json
import re
from typing import Annotated, Any, Self

import msgspec

from pipelines.loras import take_tags, with_tags
from pipelines.parameters import ImageParameters

# Wider than those of requests: other tools write recipes too.
Count = Annotated[int, msgspec.Meta(ge=1, le=2**16)]
Number = Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)]

SETTING = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')
NEGATIVE = "Negative prompt:"
# What stands in the line of settings of A1111-style tools, in this order.
A1111 = {
    "Steps": "steps",
    "Sampler": "sampler",
    "CFG scale": "guidance",
    "Seed": "seed",
    "Size": "size",
    "Model": "model",
    "Model hash": "model_hash",
    "Denoising strength": "strength",
    "Variation seed": "variation_seed",
    "Variation seed strength": "variation_strength",
    "Lora hashes": "loras",
    "Version": "version",
}


class RecipeError(ValueError):
    """A picture has no recipe, or one that cannot be read."""


class Recipe(ImageParameters, frozen=True, kw_only=True, omit_defaults=True):
    """Everything that, given the model, makes the same picture again."""

    seed: Annotated[int, msgspec.Meta(ge=0)]
    width: Count
    height: Count
    steps: Count
    guidance: Number | None = None
    n: Count = 1
    model: Annotated[str, msgspec.Meta(max_length=4096)] = (
        ""  # of a folder only its last part: pictures are shared
    )
    model_hash: Annotated[str, msgspec.Meta(max_length=128)] = ""
    index: Annotated[int, msgspec.Meta(ge=0)] = 0
    images: Annotated[int, msgspec.Meta(ge=0)] = 0  # pictures it was made from, which it does not hold
    masked: bool = False  # with a mask, which it does not hold either

    def to_json(self) -> str:
        """In ASCII, so that it fits wherever text does."""
        return json.dumps(msgspec.to_builtins(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        try:
            return msgspec.json.decode(text.encode(), type=cls)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise RecipeError(f"the picture's recipe cannot be read: {error}") from error

    def to_parameters(self) -> str:
        variation = self.variations[0] if self.variations else None
        values = {
            **msgspec.structs.asdict(self),
            "variation_seed": variation and variation.seed,
            "variation_strength": variation and variation.strength,
            "model": self.model or None,
            "model_hash": self.model_hash or None,
            "size": f"{self.width}x{self.height}",
            "sampler": "Euler",
            "version": "Diptych",
            "loras": ", ".join(f"{lora.name}: {lora.hash}" for lora in self.loras or () if lora.hash) or None,
        }
        settings = ((key, values[name]) for key, name in A1111.items())
        line = ", ".join(f"{key}: {_quoted(value)}" for key, value in settings if value is not None)
        negative = f"{NEGATIVE} {self.negative_prompt}\n" if self.negative_prompt else ""
        return f"{with_tags(self.prompt, self.loras or ())}\n{negative}{line}"

    @classmethod
    def from_parameters(cls, text: str) -> Self:
        """A recipe from the text alone, such as another tool may have written."""
        *lines, last = text.strip().split("\n")
        settings = {key: _unquoted(value) for key, value in SETTING.findall(last)}
        start = next((i for i, line in enumerate(lines) if line.startswith(NEGATIVE)), len(lines))
        width, _, height = settings.get("Size", "").partition("x")
        try:
            prompt, loras = take_tags("\n".join(lines[:start]))
        except ValueError as error:
            raise RecipeError(f"the picture's prompt has an adapter that cannot be read: {error}") from None
        # Other tools compute the hashes of adapters in another way.
        settings.pop("Lora hashes", None)
        seed, strength = (settings.pop(name, None) for name in ("Variation seed", "Variation seed strength"))
        variation = {"seed": seed, "strength": strength} if seed and strength else None
        values: dict[str, Any] = {
            "prompt": prompt,
            "loras": loras or None,
            "variations": [variation] if variation else None,
            "negative_prompt": "\n".join(lines[start:]).removeprefix(NEGATIVE).strip() or None,
            "width": width,
            "height": height,
            **{name: settings[key] for key, name in A1111.items() if key in settings},
        }
        try:
            # Not strict: numbers come as text here.
            return msgspec.convert(values, cls, strict=False)
        except msgspec.ValidationError as error:
            raise RecipeError(f"the picture's parameters are not a recipe: {error}") from error


def _quoted(value: object) -> str:
    """The value, in quotes where it contains a separator."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if re.search(r'[,:\n"]', text) else text


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value.strip()
    try:
        return str(json.loads(value))
    except ValueError:
        return value
