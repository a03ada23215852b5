"""A picture model written again with its large networks quantized, in the layout that it came in."""

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
from pipelines.variants import config_of


def write_quantized(
    model: LocalModel, pipeline: str, quantization: Quantization, folder: Path, say: Callable[[str], None]
) -> None:
    """Write the weights of all components, and the configs of those that are quantized. `say` hears each name."""
    walk = pipeline_class(pipeline)(model, RESIDENT)
    index = json.loads((model.folder / "model_index.json").read_text())
    stated = {"group_size": quantization.group_size, "bits": quantization.bits, "mode": quantization.mode}
    parts: tuple[Component[Any], ...] = (*walk.encoders, walk.transformer)
    smaller = False
    for part in parts:
        say(part.name)
        if not part.write_quantized(quantization, folder / part.name, _stem(index, part.name)):
            continue
        smaller = True
        config = config_of(model, part.name) | {"quantization": stated}
        (folder / part.name / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    if not smaller:
        raise QuantizationError(
            f"{model.name} has no layer that divides into groups of {quantization.group_size} inputs: nothing was quantized"
        )
    say(walk.vae.name)
    write_as_stored(model.shards(walk.vae.name), folder / walk.vae.name, _stem(index, walk.vae.name))


def _stem(index: dict[str, Any], part: str) -> str:
    """What the library that saved a component calls its weights."""
    listed = index.get(part)
    library = listed[0] if isinstance(listed, list) and listed else None
    return "model" if library == "transformers" else "diffusion_pytorch_model"
