"""`diptych recipe`: how a picture was made, by the recipe stored in it."""

import argparse

import msgspec

from pipelines.recipe import Recipe
from runner.cli.commands.draw import recipe_of
from runner.terminal import print_json

LABELS = {
    "negative_prompt": "negative",
    "model_hash": "hash",
    "n": "pictures",
    "index": "of these",
    "images": "made from",
    "masked": "mask",
}
# What comes before and after all other parameters.
FIRST = ("prompt", "negative_prompt", "size", "steps", "seed")
LAST = ("images", "masked", "n", "index", "model", "model_hash")


def run(options: argparse.Namespace) -> int:
    recipe = recipe_of(options.picture)
    if options.json:
        print_json(msgspec.to_builtins(recipe))
    else:
        print(render(recipe))
    return 0


def render(recipe: Recipe) -> str:
    """The recipe for people: a line each for the parameters that are set."""
    values = msgspec.to_builtins(recipe)
    values["size"] = f"{values.pop('width')} x {values.pop('height')}"
    if recipe.n > 1:
        values["index"] = f"number {recipe.index + 1}"
    if recipe.images:
        values["images"] = (
            f"{recipe.images} other picture{'s' if recipe.images > 1 else ''}, not in this file"
        )
    if recipe.masked:
        values["masked"] = "one, not in this file"
    if recipe.loras:
        values["loras"] = ", ".join(
            f"{lora} ({lora.hash})" if lora.hash else str(lora) for lora in recipe.loras
        )
    if recipe.variations:
        values["variations"] = ", ".join(str(variation) for variation in recipe.variations)
    if recipe.boxes:
        values["boxes"] = "; ".join(str(one) for one in recipe.boxes)
    if recipe.controls:
        values["controls"] = "; ".join(
            f"{one} ({one.hash})" if one.hash else str(one) for one in recipe.controls
        )
    rest = (name for name in values if name not in (*FIRST, *LAST))
    names = [name for name in (*FIRST, *rest, *LAST) if values.get(name, "") != ""]
    width = max(len(LABELS.get(name, name)) for name in names)
    indent = "\n" + " " * (width + 2)
    lines = (indent.join(_printable(values[name]).split("\n")) for name in names)
    return "\n".join(
        f"{LABELS.get(name, name):<{width}}  {line}" for name, line in zip(names, lines, strict=True)
    )


def _printable(value: object) -> str:
    """A value that cannot control the terminal, whatever file it comes from."""
    text = "yes" if value is True else str(value)
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)
