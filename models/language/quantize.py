"""Writes a quantized copy of a language model, in the layout of the original."""

import contextlib
import io
from pathlib import Path

from mlx_lm import utils as mlx_utils

from models.checkpoint.quantize import Quantization
from models.files import LocalModel
from models.language.build import LoadError, build


def write_quantized(local: LocalModel, quantization: Quantization, folder: Path) -> None:
    """Write weights and config.json. The architecture decides which layers are quantized."""
    model, config = build(local)
    if "quantization" in config:
        raise LoadError(f"{local.name} is already quantized; quantizing needs the full-precision model")
    with contextlib.redirect_stdout(io.StringIO()):  # it prints the bits per weight
        model, config = mlx_utils.quantize_model(
            model, config, quantization.group_size, quantization.bits, quantization.mode
        )
    folder.mkdir(parents=True, exist_ok=True)
    mlx_utils.save_model(folder, model, donate_model=True)
    mlx_utils.save_config(config, folder / "config.json")
