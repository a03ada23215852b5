"""The reference's side of Qwen-Image-Edit: a processor without torchvision, positions, and sizes of toys."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.pipelines.toy_model import Config

SIDE = 1024  # of the pictures that the reference's sizes are made for


def processor(settings: Config, tokenizer: Any) -> Any:
    package = "transformers.models.qwen2_vl.image_processing_pil_qwen2_vl"
    pictures = importlib.import_module(package).Qwen2VLImageProcessorPil(**settings)
    base = importlib.import_module("transformers.models.qwen2_5_vl.processing_qwen2_5_vl").Qwen2_5_VLProcessor

    class Processor(base):  # type: ignore[misc, valid-type]
        """Without what it has for videos, which needs torchvision."""

        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> None:
            return None

    return Processor(pictures, tokenizer, video_processor=None)


def tell_positions(encoder: Any) -> None:
    """transformers 5 needs to be told which tokens are a picture's for their positions over rows and columns, which earlier
    ones found by themselves; diffusers 0.42 does not tell it."""
    forward, placeholder = encoder.forward, encoder.config.image_token_id

    def told(input_ids: Any, **more: Any) -> Any:
        return forward(input_ids=input_ids, mm_token_type_ids=(input_ids == placeholder).long(), **more)

    encoder.forward = told


@contextmanager
def sizes_of_a_toy(side: int) -> Iterator[None]:
    """The reference's sizes are those of a model of 1024 pixels."""
    package = "diffusers.pipelines.qwenimage.pipeline_qwenimage_edit"
    modules = [importlib.import_module(package + name) for name in ("", "_plus", "_inpaint")]
    originals = [module.calculate_dimensions for module in modules]

    def scaled(original: Any) -> Any:
        return lambda area, ratio: original(area * (side / SIDE) ** 2, ratio)

    try:
        for module, original in zip(modules, originals, strict=True):
            module.calculate_dimensions = scaled(original)  # type: ignore[attr-defined]
        yield
    finally:
        for module, original in zip(modules, originals, strict=True):
            module.calculate_dimensions = original  # type: ignore[attr-defined]
