"""Loads checkpoints into networks: strict about missing and unexpected tensors, lazy until the caller evaluates.

    encoder = Qwen3Encoder(config)
    load_component(encoder, model.shards("text_encoder"), encoder.weight_map, dtype=mx.bfloat16)
    evaluate(encoder)

Parameter names follow the checkpoint, so a WeightMap holds only the differences. Convolution kernels become
channels-last; layers that are quantized in the checkpoint are quantized first.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from models.checkpoint.gguf.shard import GGUFShard, Precision
from models.checkpoint.gguf.tensors import read_tensors
from models.checkpoint.quantize import Quantization, QuantizationError, replace_layers
from models.checkpoint.safetensors import WeightsError, read_header
from models.files import Shard
from models.open_files import allow_open_files

FLOATS = (mx.float32, mx.float16, mx.bfloat16)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
LEAVES = ("weight", "bias", "scales", "biases", "global_scale")
LISTED = 12
PIECE = 32 * 2**20

__all__ = ["WeightMap", "WeightsError", "evaluate", "load_component", "load_tensors", "read_shards"]


@dataclass(frozen=True)
class WeightMap:
    """Rules from a checkpoint's names to a network's, applied in this order; other names stay.

    `strip`: prefixes to remove.
    `drop`: patterns (with `*`) of tensors that the network does not have.
    `rename`: whole dotted fragments and their replacements: ("to_out.0", "to_out") turns "a.to_out.0.bias" into
    "a.to_out.bias".
    `tied`: second names of tensors, used where the checkpoint lacks the first.
    `fuse`: layers of the network and the checkpoint's layers that they consist of, in order, with the same parent:
    {"to_qkv": ("to_q", "to_k", "to_v")}; applied where the checkpoint does not have the fused layer itself.
    `last_frame`: of kernels over time and plane, those of the network in the plane are the last slice in time.
    `flat`: layers of the network that multiply whole patches, whose kernels in the checkpoint have the patches' axes.
    """

    strip: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    rename: tuple[tuple[str, str], ...] = ()
    tied: Mapping[str, str] = field(default_factory=dict)
    fuse: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    last_frame: bool = False
    flat: tuple[str, ...] = ()

    def name(self, name: str) -> str | None:
        """The network's name of a checkpoint's tensor; None: it is dropped."""
        for prefix in self.strip:
            name = name.removeprefix(prefix)
        if any(fnmatchcase(name, pattern) for pattern in self.drop):
            return None
        for old, new in self.rename:
            name = f".{name}.".replace(f".{old}.", f".{new}.")[1:-1]
        return name


def load_component(
    module: nn.Module,
    shards: Sequence[Shard],
    weight_map: WeightMap = WeightMap(),
    dtype: mx.Dtype | None = None,
) -> None:
    """Load the tensors of `shards` into `module`, in `dtype` or as they are stored."""
    load_tensors(module, read_shards(type(module).__name__, shards), weight_map, dtype)


def load_tensors(
    module: nn.Module,
    stored: Mapping[str, mx.array],
    weight_map: WeightMap = WeightMap(),
    dtype: mx.Dtype | None = None,
) -> None:
    """The same for tensors under the checkpoint's names."""
    owner = type(module).__name__
    tensors = _map_names(owner, stored, weight_map)
    _spread_global_scales(tensors)
    _fuse(module, tensors, weight_map.fuse)
    _quantize_as_stored(owner, module, tensors)
    if weight_map.last_frame:
        _take_last_frame(module, tensors)
    _flatten(tensors, weight_map.flat)
    _channels_last(module, tensors)
    _check(owner, dict(tree_flatten(module.parameters())), tensors)
    if dtype is not None:
        tensors = {
            name: value.astype(dtype) if value.dtype in FLOATS else value for name, value in tensors.items()
        }
    module.load_weights(list(tensors.items()), strict=False)


def evaluate(module: nn.Module, progress: Callable[[float], None] = lambda done: None) -> None:
    """Read the mapped tensors, some at a time: the sources of converted, fused or quantized ones are never all in memory.
    `progress` is called with the fraction done."""
    parameters: list[mx.array] = [
        value for _, value in cast(list[tuple[str, mx.array]], tree_flatten(module.parameters()))
    ]
    total = sum(value.nbytes for value in parameters)
    done, pending_bytes = 0, 0
    pending: list[mx.array] = []
    for value in parameters:
        pending.append(value)
        pending_bytes += value.nbytes
        if pending_bytes >= PIECE or value is parameters[-1]:
            mx.eval(pending)
            mx.clear_cache()
            done, pending_bytes = done + pending_bytes, 0
            pending.clear()
            progress(done / max(total, 1))


def weight_bytes(module: nn.Module) -> int:
    """Bytes of all parameters, without reading them."""
    parameters = cast(list[tuple[str, mx.array]], tree_flatten(module.parameters()))
    return sum(array.nbytes for _, array in parameters)


def read_shards(
    owner: str, shards: Sequence[Shard], precision: Precision = "half", notes: list[str] | None = None
) -> dict[str, mx.array]:
    """All tensors of a component under the checkpoint's names. Of safetensors only headers are read; those of a GGUF are
    converted, to `precision`, and `notes` gets what is lost thereby."""
    if not shards:
        raise WeightsError(f"{owner}: the model has no weights for it")
    # Mapped files stay open, and a store with one file per tensor exceeds the usual limit.
    allow_open_files(len(shards) + 256)
    tensors: dict[str, mx.array] = {}
    error = 0.0
    for shard in shards:
        if isinstance(shard, GGUFShard):
            stored, lost = read_tensors(shard, precision)
            error = max(error, lost)
        else:
            read_header(shard.path)
            stored = _renamed(_map(shard.path), shard.names)
        for name, value in stored.items():
            if name in tensors:
                raise WeightsError(f"{owner}: {name} is stored twice, the second time in {shard.path}")
            tensors[name] = value
    if error and notes is not None:
        notes.append(
            f"layers with scales for 16 weights, which MLX does not have, are quantized to 8 bits: no weight differs by more "
            f"than {error:.2g}"
        )
    return tensors


def _renamed(stored: dict[str, mx.array], names: Mapping[str, str] | None) -> dict[str, mx.array]:
    if names is None:
        return stored
    return {names[key]: value for key, value in stored.items() if key in names}


def _map(path: Path) -> dict[str, mx.array]:
    try:
        stored = mx.load(str(path), format="safetensors")
    except RuntimeError as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error
    return cast(dict[str, mx.array], stored)


def _map_names(owner: str, stored: Mapping[str, mx.array], weight_map: WeightMap) -> dict[str, mx.array]:
    tensors: dict[str, mx.array] = {}
    for key, value in stored.items():
        name = weight_map.name(key)
        if name in tensors:
            raise WeightsError(f"{owner}: two tensors of the checkpoint would become {name}")
        if name is not None:
            tensors[name] = value
    for second, first in weight_map.tied.items():
        if second in tensors:
            value = tensors.pop(second)
            tensors.setdefault(first, value)
    return tensors


def _spread_global_scales(tensors: dict[str, mx.array]) -> None:
    """A scale of a whole layer becomes one per row, so that layers can be fused."""
    for name, value in list(tensors.items()):
        weight = tensors.get(name.removesuffix("global_scale") + "weight")
        if name.endswith(".global_scale") and value.size == 1 and weight is not None:
            tensors[name] = mx.broadcast_to(value.reshape(1), weight.shape[:1])


def _fuse(module: nn.Module, tensors: dict[str, mx.array], rules: Mapping[str, tuple[str, ...]]) -> None:
    """Concatenate layers that the network computes as one product."""
    for path, layer in module.named_modules():
        parts = fused_parts(path, rules)
        if parts and f"{path}.weight" not in tensors:
            _fuse_layer(tensors, path, parts, layer.weight.shape[-1])


def fused_parts(path: str, rules: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The checkpoint's layers of the fused layer at `path`; empty if it is not fused."""
    for fused, parts in rules.items():
        if f".{path}".endswith(f".{fused}"):
            return [path[: -len(fused)] + part for part in parts]
    return []


def _fuse_layer(tensors: dict[str, mx.array], path: str, parts: list[str], inputs: int) -> None:
    if len({_form(tensors, part) for part in parts}) > 1:
        # Quantized in different ways: only dequantized rows can be concatenated.
        for part in parts:
            _dequantize(tensors, part, inputs)
    for leaf in LEAVES:
        names = [f"{part}.{leaf}" for part in parts]
        rows = [tensors[name] for name in names if name in tensors]
        if len(rows) == len(names) and len({row.shape[1:] for row in rows}) == 1:
            tensors[f"{path}.{leaf}"] = mx.concatenate(rows, axis=0)
            for name in names:
                del tensors[name]


def _form(tensors: dict[str, mx.array], part: str) -> tuple[object, ...]:
    """Must be equal for two quantized layers to be fused."""
    names = [f"{part}.{leaf}" for leaf in ("weight", "scales", "biases")]
    return tuple(
        (tensors[name].shape[1:], tensors[name].dtype) if name in tensors else None for name in names
    )


def _dequantize(tensors: dict[str, mx.array], part: str, inputs: int) -> None:
    scales = tensors.pop(f"{part}.scales", None)
    if scales is None or f"{part}.weight" not in tensors:
        return
    weight, biases = tensors[f"{part}.weight"], tensors.pop(f"{part}.biases", None)
    quantization = Quantization.of(weight, scales, biases, inputs)
    rows, factor = quantization.dequantize(weight, scales, biases), tensors.pop(f"{part}.global_scale", None)
    tensors[f"{part}.weight"] = rows if factor is None else (rows * factor[:, None]).astype(rows.dtype)


def _quantize_as_stored(owner: str, module: nn.Module, tensors: dict[str, mx.array]) -> None:
    """Quantize the layers that are quantized in the checkpoint, by their shapes there."""
    plan: dict[str, Quantization] = {}
    for path, layer in module.named_modules():
        weight, scales = tensors.get(f"{path}.weight"), tensors.get(f"{path}.scales")
        if isinstance(layer, nn.Linear | nn.Embedding) and weight is not None and scales is not None:
            try:
                plan[path] = Quantization.of(
                    weight, scales, tensors.get(f"{path}.biases"), layer.weight.shape[-1]
                )
            except QuantizationError as error:
                raise WeightsError(f"{owner}: {path}: {error}") from error
    replace_layers(module, plan, scaled={path for path in plan if f"{path}.global_scale" in tensors})


def _take_last_frame(module: nn.Module, tensors: dict[str, mx.array]) -> None:
    for path, layer in module.named_modules():
        kernel = tensors.get(f"{path}.weight")
        if isinstance(layer, nn.Conv2d) and kernel is not None and kernel.ndim == 5:
            tensors[f"{path}.weight"] = kernel[:, :, -1]


def _flatten(tensors: dict[str, mx.array], layers: Iterable[str]) -> None:
    for name in (f"{layer}.weight" for layer in layers):
        if name in tensors and tensors[name].ndim > 2:
            tensors[name] = tensors[name].flatten(1)


def _channels_last(module: nn.Module, tensors: dict[str, mx.array]) -> None:
    for path, layer in module.named_modules():
        name = f"{path}.weight"
        if isinstance(layer, CONVOLUTIONS) and name in tensors and tensors[name].ndim == layer.weight.ndim:
            tensors[name] = mx.moveaxis(tensors[name], 1, -1)


def _check(owner: str, params: Mapping[str, mx.array], tensors: Mapping[str, mx.array]) -> None:
    """Lists every tensor that does not fit in one error."""
    both = [name for name in params if name in tensors]
    problems = [
        _listed("missing", (name for name in params if name not in tensors)),
        _listed("unexpected", (name for name in tensors if name not in params)),
        _listed("misshaped", (_shapes(name, tensors[name], params[name]) for name in both if tensors[name].shape != params[name].shape)),
        _listed("of another type", (f"{name} ({tensors[name].dtype})" for name in both if (tensors[name].dtype in FLOATS) != (params[name].dtype in FLOATS))),
    ]  # fmt: skip
    if any(problems):
        raise WeightsError(
            f"{owner}: the weights do not belong to its config: {'; '.join(filter(None, problems))}"
        )


def _shapes(name: str, tensor: mx.array, param: mx.array) -> str:
    return f"{name} (has {list(tensor.shape)}, {list(param.shape)} is needed)"


def _listed(what: str, names: Iterable[str]) -> str:
    all_names = sorted(names)
    if not all_names:
        return ""
    rest = len(all_names) - LISTED
    return f"{len(all_names)} {what}: {', '.join(all_names[:LISTED])}" + (
        f" and {rest} more" if rest > 0 else ""
    )
