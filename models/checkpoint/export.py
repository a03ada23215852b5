"""Writes a component's weights, quantized, under the checkpoint's names and in its layout.

Projections stay separate as in the checkpoint, so other programs can read the result; tensors that the network does not
use are left out.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn

from models.checkpoint.quantize import Quantization, quantizable
from models.checkpoint.weights import WeightMap, fused_parts, load_tensors, read_shards
from models.files import Shard

LARGEST_FILE = 4 * 10**9
METADATA = {"format": "mlx"}


def write_quantized(
    module: nn.Module,
    shards: Sequence[Shard],
    weight_map: WeightMap,
    quantization: Quantization,
    folder: Path,
    stem: str,
) -> list[Path]:
    """Write `shards`, quantized where `module` says, as stem.safetensors or in numbered files with their index.

    `module` is a network built for these weights. They are loaded into it first, so weights that do not belong to it are
    an error before anything is written. Layers that are quantized already stay as they are.
    """
    owner = type(module).__name__
    load_tensors(module, read_shards(owner, shards), weight_map)
    chosen = chosen_layers(module, weight_map, quantization.group_size)
    # Mapped again: arrays that the module references would stay in memory after they are written.
    stored = read_shards(owner, shards)
    tensors: dict[str, mx.array] = {}
    for key, value in stored.items():
        name = weight_map.name(key)
        if name is None:
            continue
        layer = key.removesuffix(".weight")
        if layer != key and name.removesuffix(".weight") in chosen:
            tensors |= {f"{layer}.{leaf}": part for leaf, part in quantization.quantize(value).items()}
        else:
            tensors[key] = value
    del stored
    return write_tensors(tensors, folder, stem)


def write_as_stored(shards: Sequence[Shard], folder: Path, stem: str) -> list[Path]:
    """Copy `shards`, under the checkpoint's names."""
    return write_tensors(read_shards(folder.name, shards), folder, stem)


def chosen_layers(module: nn.Module, weight_map: WeightMap, group_size: int) -> set[str]:
    """The layers to quantize, including the separate parts of fused layers."""
    paths = [path for path, layer in module.named_modules() if quantizable(path, layer, group_size)]
    return {part for path in paths for part in (fused_parts(path, weight_map.fuse) or [path])} | set(paths)


def write_tensors(tensors: dict[str, mx.array], folder: Path, stem: str) -> list[Path]:
    """One file at a time, so that only one is in memory."""
    groups = _groups(tensors)
    folder.mkdir(parents=True, exist_ok=True)
    if len(groups) == 1:
        names = [f"{stem}.safetensors"]
    else:
        names = [f"{stem}-{at:05d}-of-{len(groups):05d}.safetensors" for at in range(1, len(groups) + 1)]
        index = {key: name for name, keys in zip(names, groups, strict=True) for key in keys}
        total = sum(value.nbytes for value in tensors.values())
        text = json.dumps({"metadata": {"total_size": total}, "weight_map": index}, indent=2)
        (folder / f"{stem}.safetensors.index.json").write_text(text + "\n")
    for name, keys in zip(names, groups, strict=True):
        mx.save_safetensors(str(folder / name), {key: tensors.pop(key) for key in keys}, METADATA)
        mx.clear_cache()
    return [folder / name for name in names]


def _groups(tensors: dict[str, mx.array]) -> list[list[str]]:
    """Names in order, split where a file would grow too large."""
    groups: list[list[str]] = [[]]
    size = 0
    for key, value in tensors.items():
        if groups[-1] and size + value.nbytes > LARGEST_FILE:
            groups.append([])
            size = 0
        groups[-1].append(key)
        size += value.nbytes
    return groups
