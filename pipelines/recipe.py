"""How a picture was made, as it travels inside the picture: for other tools as text, for Diptych as JSON.

The text is what A1111-style tools read from a `parameters` chunk: the prompt, the negative prompt, a line of settings.
It cannot say everything (a prompt may look like settings), so what Diptych reads back first is the JSON.
"""

import json
import re
from typing import Annotated, Self

import msgspec

Count = Annotated[int, msgspec.Meta(ge=1, le=2**16)]
Number = Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)]
Text = Annotated[str, msgspec.Meta(max_length=2**18)]

SETTING = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')
NEGATIVE = "Negative prompt:"


class RecipeError(ValueError):
    """A picture that carries no recipe, or one that cannot be followed."""


class Recipe(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything that, given the model, makes the same picture again."""

    prompt: Text
    width: Count
    height: Count
    steps: Count
    seed: Annotated[int, msgspec.Meta(ge=0)]
    negative_prompt: Text = ""
    guidance: Number | None = None
    strength: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    model: Annotated[str, msgspec.Meta(max_length=4096)] = ""
    n: Count = 1
    index: Annotated[int, msgspec.Meta(ge=0)] = 0
    images: Annotated[int, msgspec.Meta(ge=0)] = 0  # pictures it was made from, which it does not hold
    cfg_normalization: Number | None = None
    cfg_truncation: Number | None = None
    true_cfg_scale: Number | None = None

    def __post_init__(self) -> None:
        if self.seed >= 2**64:  # beyond what an annotation can bound
            raise ValueError(f"seed is {self.seed}, it must fit in 64 bits")

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
        settings = {
            "Steps": self.steps,
            "Sampler": "Euler",
            "CFG scale": self.guidance,
            "Seed": self.seed,
            "Size": f"{self.width}x{self.height}",
            "Model": self.model or None,
            "Denoising strength": self.strength,
            "Version": "Diptych",
        }
        line = ", ".join(f"{key}: {_quoted(value)}" for key, value in settings.items() if value is not None)
        negative = f"{NEGATIVE} {self.negative_prompt}\n" if self.negative_prompt else ""
        return f"{self.prompt}\n{negative}{line}"

    @classmethod
    def from_parameters(cls, text: str) -> Self:
        """A recipe from the text alone, such as another tool may have written."""
        *lines, last = text.strip().split("\n")
        settings = {key: _unquoted(value) for key, value in SETTING.findall(last)}
        start = next((i for i, line in enumerate(lines) if line.startswith(NEGATIVE)), len(lines))
        width, _, height = settings.get("Size", "").partition("x")
        found = {
            "prompt": "\n".join(lines[:start]),
            "negative_prompt": "\n".join(lines[start:]).removeprefix(NEGATIVE).strip(),
            "width": width,
            "height": height,
            "steps": settings.get("Steps"),
            "seed": settings.get("Seed"),
            "guidance": settings.get("CFG scale"),
            "strength": settings.get("Denoising strength"),
            "model": settings.get("Model"),
        }
        try:
            # Not strict: numbers come as text here.
            return msgspec.convert({k: v for k, v in found.items() if v is not None}, cls, strict=False)
        except msgspec.ValidationError as error:
            raise RecipeError(f"the picture's parameters are no recipe: {error}") from error


def _quoted(value: object) -> str:
    """A value that contains what separates settings goes in quotes."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if re.search(r'[,:\n"]', text) else text


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value.strip()
    try:
        return str(json.loads(value))
    except ValueError:
        return value
