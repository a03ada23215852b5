"""Which engine runs a picture model: Diptych's own pipelines on MLX, or diffusers on torch. Reads JSON only, and imports
neither."""

from enum import StrEnum

from pipelines import PIPELINES
from pipelines.fallback import catalog
from runner.errors import ModelNotSupported
from runner.sources import ModelFiles
from runner.sources.base import shorten, some


class ImageEngine(StrEnum):
    MLX = "mlx"
    TORCH = "torch"


CHOICES = ("auto", *ImageEngine)  # the values of `--engine`


def choose_engine(files: ModelFiles, class_name: str, choice: str = "auto") -> ImageEngine:
    """The engine for the class that a model_index.json names: MLX's if there is one, unless `choice` is another."""
    if choice != "torch" and class_name in PIPELINES:
        return ImageEngine.MLX
    reason = None if choice == "mlx" else not_by_torch(files, class_name)
    if choice != "mlx" and reason is None:
        return ImageEngine.TORCH
    if choice == "torch":
        raise ModelNotSupported(f"{files.place} cannot be run by the torch engine: {reason}")
    raise ModelNotSupported(
        f"{files.place} is a {shorten(class_name)} model, which Diptych cannot run; {_why(reason)}"
    )


def no_engine(files: ModelFiles, class_name: str) -> str | None:
    """Why no engine here runs this class; None when one does."""
    if class_name in PIPELINES:
        return None
    reason = not_by_torch(files, class_name)
    return f"no pipeline for {shorten(class_name)}; {_why(reason)}" if reason else None


def not_by_torch(files: ModelFiles, class_name: str) -> str | None:
    """Why diffusers does not run this model here; None when it does."""
    if files.source == "ollama":
        return "the torch engine reads folders and hub repos, and this is in the Ollama store"
    return catalog.refusal(class_name, files.read_index() or {})


def _why(reason: str | None) -> str:
    ours = f"picture models it runs: {some(sorted(PIPELINES), 50)}"
    return f"{ours}; {reason}" if reason else f"{ours}; --engine torch may run it"
