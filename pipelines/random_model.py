"""Models with random weights, for benchmarks. A folder needs only configs and tokenizers."""

from functools import partial
from pathlib import Path
from typing import Any

from models.checkpoint.quantize import Quantization
from models.checkpoint.random_weights import fill, write_checkpoint
from models.files import LocalModel
from models.text_encoders.qwen3 import Qwen3Config, Qwen3Encoder
from pipelines import pipeline_class
from pipelines.components import DTYPES
from pipelines.denoise import DenoisingPipeline
from pipelines.settings import RESIDENT, Settings, no_progress


def load_random(folder: Path, pipeline: str, settings: Settings) -> DenoisingPipeline:
    """A picture model with weights drawn on the device, in `settings.dtype`."""
    model: DenoisingPipeline = pipeline_class(pipeline)(_without_weights(folder), settings)
    dtype = DTYPES[settings.dtype or "bfloat16"]
    for component in (*model.encoders, model.transformer, model.vae):
        component.fill_with(partial(fill, dtype=dtype))
    model.load_parts(no_progress)
    return model


def write_random(folder: Path, pipeline: str, dtype: str, quantization: Quantization | None) -> None:
    """Write weights beside the configs of `folder`, which makes it a normal checkpoint."""
    if not pipeline:
        _write_text(folder, dtype)
        return
    model: DenoisingPipeline = pipeline_class(pipeline)(_without_weights(folder), RESIDENT)
    for component in (*model.encoders, model.transformer, model.vae):
        stem = "model" if component in model.encoders else "diffusion_pytorch_model"
        component.write_random(DTYPES[dtype], quantization, folder / component.name, stem)


def _write_text(folder: Path, dtype: str) -> None:
    """A Qwen3 text model, which is the same network as the prompt encoder read at its last layer."""
    network = Qwen3Encoder(Qwen3Config.from_file(folder / "config.json"), (-1,))
    write_checkpoint(network, network.weight_map, DTYPES[dtype], folder, "model", prefix="model.")


def _without_weights(folder: Path) -> LocalModel:
    def shards(component: str) -> tuple[Any, ...]:
        return ()

    return LocalModel(folder.name, folder, shards)
