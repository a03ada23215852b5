"""LoRA adapters of language models, as the local user names them."""

import os
from pathlib import Path

from models.files import LoraFile
from runner.errors import BadRequest
from runner.sources.base import shorten

LARGEST_SCALE = 100.0


def parse_lora(text: str) -> LoraFile:
    """PATH or PATH:SCALE."""
    path, scale = text, 1.0
    before, colon, after = text.rpartition(":")
    if colon and before:
        try:
            path, scale = before, float(after)
        except ValueError:  # a colon in the path
            path, scale = text, 1.0
    if not -LARGEST_SCALE <= scale <= LARGEST_SCALE:
        raise BadRequest(
            f"--lora: the scale {shorten(after)} is not a number from -{LARGEST_SCALE:g} to {LARGEST_SCALE:g}"
        )
    place = Path(os.path.expanduser(path)).absolute()
    if not (place.is_file() or place.is_dir()):
        raise BadRequest(f"--lora: {shorten(path)} is neither a file nor a folder")
    return LoraFile(place, scale)
