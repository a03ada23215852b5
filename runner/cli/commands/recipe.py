"""`diptych recipe`: how a picture was made, as the picture says itself."""

import argparse

import msgspec

from pipelines.recipe import Recipe
from runner.cli.commands.draw import recipe_of
from runner.terminal import print_json

LABELS = {
    "negative_prompt": "negative",
    "n": "pictures",
    "index": "of these",
    "images": "made from",
}


def run(options: argparse.Namespace) -> int:
    found = recipe_of(options.picture)
    if options.json:
        print_json(msgspec.to_builtins(found))
    else:
        print(render(found))
    return 0


def render(recipe: Recipe) -> str:
    """The recipe as a reader wants it: what was said, a line each."""
    values = {**msgspec.to_builtins(recipe)}
    values["size"] = f"{values.pop('width')} x {values.pop('height')}"
    if recipe.n > 1:
        values["index"] = f"number {recipe.index + 1}"
    if recipe.images:
        values["images"] = (
            f"{recipe.images} other picture{'s' if recipe.images > 1 else ''}, not in this file"
        )
    order = (
        "prompt",
        "negative_prompt",
        "size",
        "steps",
        "seed",
        "guidance",
        "cfg_normalization",
        "cfg_truncation",
        "true_cfg_scale",
        "strength",
        "images",
        "n",
        "index",
    )
    rows = [(LABELS.get(name, name), values[name]) for name in (*order, "model") if name in values]
    width = max(len(label) for label, _ in rows)
    indent = "\n" + " " * (width + 2)
    return "\n".join(
        f"{label:<{width}}  {indent.join(_printable(value).split(chr(10)))}" for label, value in rows
    )


def _printable(value: object) -> str:
    """A picture from anywhere must not steer the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in str(value))
