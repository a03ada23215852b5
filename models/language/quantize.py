"""Writes a quantized copy of a language model, in the layout of the original."""

import contextlib
import io
from pathlib import Path

import mlx.core as mx
from mlx_lm import utils as mlx_utils

from models.checkpoint.gguf.shard import GGUFShard
from models.checkpoint.quantize import Quantization
from models.files import LocalModel
from models.language.build import LoadError, build
from models.language.unpack import unpack


def write_quantized(local: LocalModel, quantization: Quantization, folder: Path) -> None:
    """Write weights and config.json. The architecture decides which layers are quantized. Of a GGUF, layers that have no
    more bits than that already stay as they are."""
    model, config = build(local)
    if "quantization" in config:
        if not any(isinstance(shard, GGUFShard) for shard in local.shards("")):
            raise LoadError(f"{local.name} is already quantized; quantizing needs the full-precision model")
        for path in unpack(model, quantization.bits):
            config["quantization"].pop(path, None)
        model.set_dtype(getattr(mx, config["dtype"]))
    with contextlib.redirect_stdout(io.StringIO()):  # it prints the bits per weight
        model, config = mlx_utils.quantize_model(
            model, config, quantization.group_size, quantization.bits, quantization.mode
        )
    folder.mkdir(parents=True, exist_ok=True)
    mlx_utils.save_model(folder, model, donate_model=True)
    mlx_utils.save_config(config, folder / "config.json")
