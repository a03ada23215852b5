"""Toy checkpoints for tests: made in a few hundredths of a second, and kept for the whole run."""

import functools
import tempfile
from pathlib import Path
from typing import Any

from tests.toys.families import FAMILIES, SIZES
from tests.toys.text import make_text_model
from tests.toys.vision import make_vision_model

__all__ = ["FAMILIES", "SIZES", "make_text_model", "make_vision_model", "toy_text", "toy_vision"]


@functools.cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="diptych-toys-")


@functools.cache
def toy_text(family: str = "qwen3", **options: Any) -> Path:
    """The folder of such a model (`make_text_model`'s options), made once. Read only: others use it too."""
    name = "-".join([family, *(f"{key}={value}" for key, value in sorted(options.items()))])
    return make_text_model(Path(_scratch().name) / name, family, **options)


@functools.cache
def toy_vision() -> Path:
    """The folder of a Qwen2.5-VL, made once. Read only: others use it too."""
    return make_vision_model(Path(_scratch().name) / "vision")
