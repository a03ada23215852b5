"""Random weights at real sizes, for benchmarks: directly on the device, or written as a normal checkpoint.

Activations stay about as large as in a trained model, so nothing overflows, and no device has less work than with real
weights, as it would with zeros.
"""

from pathlib import Path
from typing import cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

from models.checkpoint.export import chosen_layers, write_tensors
from models.checkpoint.quantize import Quantization
from models.checkpoint.weights import CONVOLUTIONS, WeightMap, fused_parts

EMBEDDINGS = ("embed", "shared", "attention_bias")


def fill(network: nn.Module, dtype: mx.Dtype) -> None:
    """Replace the network's parameters, lazily: layers that are quantized next are never held unquantized."""
    values = [(name, _random(name, initial.shape, dtype)) for name, initial in _parameters(network)]
    network.update(tree_unflatten(values))


def write_checkpoint(
    network: nn.Module,
    weight_map: WeightMap,
    dtype: mx.Dtype,
    folder: Path,
    stem: str,
    quantization: Quantization | None = None,
    prefix: str = "",
) -> list[Path]:
    """Write `network` in a checkpoint's layout: separate projections, channels-first convolutions, names with `prefix`."""
    layers = dict(network.named_modules())
    quantized = chosen_layers(network, weight_map, quantization.group_size) if quantization else set()
    tensors: dict[str, mx.array] = {}
    for name, initial in _parameters(network):
        path, _, leaf = name.rpartition(".")
        for part, rows in _parts(layers, path, weight_map, initial.shape[0] if initial.ndim else 0):
            shape = (rows, *initial.shape[1:]) if rows is not None else initial.shape
            value = _random(name, shape, dtype)
            if leaf == "weight" and isinstance(layers.get(path), CONVOLUTIONS):
                value = mx.moveaxis(value, -1, 1)
            stored = f"{prefix}{part}" if part else prefix.removesuffix(".")
            if quantization and leaf == "weight" and part in quantized:
                tensors |= {f"{stored}.{key}": piece for key, piece in quantization.quantize(value).items()}
            else:
                tensors[f"{stored}.{leaf}" if stored else leaf] = value
    return write_tensors(tensors, folder, stem)


def _parameters(network: nn.Module) -> list[tuple[str, mx.array]]:
    return cast(list[tuple[str, mx.array]], tree_flatten(network.parameters()))


def _random(name: str, shape: tuple[int, ...], dtype: mx.Dtype) -> mx.array:
    noise = mx.random.normal(shape, dtype=dtype)
    if name.endswith("running_var"):
        return (1 + 0.1 * mx.abs(noise)).astype(dtype)
    if len(shape) < 2:
        center = 1.0 if name.endswith("weight") else 0.0
        return (center + 0.1 * noise).astype(dtype)
    if any(word in name for word in EMBEDDINGS) and "embedder" not in name:
        return noise
    inputs = 1
    for length in shape[1:]:
        inputs *= length
    return (noise * inputs**-0.5).astype(dtype)


def _parts(
    layers: dict[str, nn.Module], path: str, weight_map: WeightMap, rows: int
) -> list[tuple[str, int | None]]:
    """The checkpoint's layers that make up a layer of the network, with their rows; None: it is stored as it is."""
    parts = fused_parts(path, weight_map.fuse)
    if not parts:
        return [(path, None)]
    parent = layers[path.rpartition(".")[0]]
    if len(parts) == 3 and "key_size" in vars(parent):  # fewer heads of keys than of queries
        sizes = [parent.query_size, parent.key_size, parent.key_size]
    elif len(parts) == 4:  # attention and an MLP in parallel
        width = parent.heads * parent.head_dim
        sizes = [width, width, width, rows - 3 * width]
    else:
        sizes = [rows // len(parts)] * len(parts)
    return list(zip(parts, sizes, strict=True))
