"""Writes a picture model with its large networks quantized, in the checkpoint's own layout."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.checkpoint.export import write_as_stored
from models.checkpoint.quantize import Quantization, QuantizationError
from models.files import LocalModel
from pipelines import pipeline_class
from pipelines.components import Component
from pipelines.settings import RESIDENT
from pipelines.variants import config_of, read_index


def write_quantized(
    model: LocalModel, pipeline: str, quantization: Quantization, folder: Path, report: Callable[[str], None]
) -> None:
    """Write the weights of all components, and the configs of quantized ones. `report` is called with each name."""
    loaded = pipeline_class(pipeline)(model, RESIDENT)
    index = read_index(model)
    entry = {"group_size": quantization.group_size, "bits": quantization.bits, "mode": quantization.mode}
    parts: tuple[Component[Any], ...] = (*loaded.encoders, loaded.transformer)
    any_quantized = False
    for part in parts:
        report(part.name)
        if not part.write_quantized(quantization, folder / part.name, _stem(index, part.name)):
            continue
        any_quantized = True
        config = config_of(model, part.name) | {"quantization": entry}
        (folder / part.name / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    if not any_quantized:
        raise QuantizationError(
            f"{model.name} has no layer whose inputs divide into groups of {quantization.group_size}: nothing was quantized"
        )
    report(loaded.vae.name)
    write_as_stored(model.shards(loaded.vae.name), folder / loaded.vae.name, _stem(index, loaded.vae.name))


def _stem(index: dict[str, Any], part: str) -> str:
    """The file name of a component's weights, by the library that saved it."""
    listed = index.get(part)
    library = listed[0] if isinstance(listed, list) and listed else None
    return "model" if library == "transformers" else "diffusion_pytorch_model"
