"""LoRA of language models: read from PEFT's files or from a GGUF, and put beside the weights, which stay as they are.

    notes = add_loras("name", model, config, [LoraFile(path, 0.5)], mx.float32)

Every tensor of an adapter is used, or named in an AdapterError.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from models.adapters.adapter import Change
from models.adapters.adapter_file import ALPHA, DOWN, AdapterError, listed, read_adapter_file
from models.adapters.layers import attach
from models.adapters.names import Target
from models.adapters.terms import TermError, make_term
from models.checkpoint.digest import file_digest
from models.config import ConfigError, read_json
from models.files import LoraFile, open_regular
from models.language.gguf.adapter import GGUFAdapter
from models.language.gguf.lora_tensors import read_gguf_groups

PEFT_CONFIG, PEFT_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# Settings of PEFT that change what is computed, in ways that are not supported.
REFUSED = (
    "use_dora", "fan_in_fan_out", "layer_replication", "trainable_token_indices", "alora_invocation_tokens", "use_qalora",
    "use_bdlora", "velora_config", "arrow_config",
)  # fmt: skip

Groups = Mapping[str, Mapping[str, mx.array]]


def add_loras(
    owner: str, model: nn.Module, config: Mapping[str, Any], loras: Sequence[LoraFile], dtype: mx.Dtype
) -> list[str]:
    """Notes about them, which tell one adapter from another. `dtype`: what the network computes in. Raises AdapterError,
    GGUFError or WeightsError."""
    targets = _targets(model)
    adapters, notes = [], []
    for lora in loras:
        groups, alphas, base = _read(lora.path, config)
        changes = _changes(lora.path.name, owner, groups, alphas, targets, base)
        adapters.append((changes, lora.scale))
        notes.append(
            f"LoRA {lora.path.name} ({file_digest(_weights(lora.path))[:12]}) times {lora.scale:g} beside {len(changes)} layers"
        )
    attach(model, adapters, {}, dtype)
    return notes


def _targets(model: nn.Module) -> dict[str, Target]:
    targets = {}
    for path, layer in model.named_modules():
        if isinstance(layer, nn.Linear | nn.QuantizedLinear):
            outputs, inputs = layer["weight"].shape
            inputs = inputs * 32 // layer.bits if isinstance(layer, nn.QuantizedLinear) else inputs
            targets[path] = Target(path, 0, outputs, inputs)
    return targets


def _find(name: str, targets: Mapping[str, Target]) -> Target | None:
    """By its name, or by one that has more or less in front."""
    if name in targets:
        return targets[name]
    alike = [path for path in targets if path.endswith(f".{name}") or name.endswith(f".{path}")]
    return targets[alike[0]] if len(alike) == 1 else None


def _changes(
    name: str,
    owner: str,
    groups: Groups,
    alphas: Mapping[str, float],
    targets: Mapping[str, Target],
    base: str,
) -> dict[str, tuple[Change, ...]]:
    changes: dict[str, tuple[Change, ...]] = {}
    problems = []
    for layer, roles in groups.items():
        target = _find(layer, targets)
        if target is None:
            problems.append(f"{layer} is not a layer of it")
            continue
        try:
            term = make_term(roles, target.outputs, target.inputs, alphas.get(layer))
        except TermError as error:
            problems.append(f"{layer} {error}")
            continue
        if target.path in changes:
            problems.append(f"{layer} is there twice")
        changes[target.path] = (Change(target, term),)
    if problems:
        made = f"; it was made for {base[:120]!r}" if base else ""
        raise AdapterError(
            f"the adapter {name} does not belong to {owner}: {len(problems)} of {len(groups)} layers do not fit: "
            f"{listed(problems, 4)}{made}"
        )
    return changes


def _weights(path: Path) -> Path:
    return path / PEFT_WEIGHTS if path.is_dir() else path


def _read(path: Path, config: Mapping[str, Any]) -> tuple[Groups, Mapping[str, float], str]:
    """The tensors of each layer, alphas, and what the adapter says that it was made for."""
    if path.is_file() and _is_gguf(path):
        adapter = GGUFAdapter.open(path)
        read = read_gguf_groups(adapter, config)
        return read, {} if adapter.alpha is None else dict.fromkeys(read, adapter.alpha), adapter.base
    weights = _weights(path)
    if not weights.is_file() or weights.suffix != ".safetensors":
        raise AdapterError(
            f"{path} is not an adapter: a GGUF, a safetensors file or a folder of PEFT's is needed"
        )
    file = read_adapter_file(weights, path.name)
    groups: Groups = {_short(layer): roles for layer, roles in file.groups.items()}
    if len(groups) != len(file.groups):
        raise AdapterError(f"{path.name} names a layer twice")
    declared = weights.parent / PEFT_CONFIG
    if not declared.is_file():
        return groups, {}, ""
    try:
        settings = read_json(declared)
    except (ConfigError, ValueError, OSError) as error:
        raise AdapterError(f"{path.name}: {error}") from error
    return groups, _alphas(path.name, settings, groups), str(settings.get("base_model_name_or_path") or "")


def _is_gguf(path: Path) -> bool:
    with open_regular(path) as file:
        return file.read(4) == b"GGUF"


def _short(layer: str) -> str:
    return layer.removeprefix("base_model.model.")


def _alphas(name: str, settings: Mapping[str, Any], groups: Groups) -> dict[str, float]:
    """Of each layer, times what PEFT divides less by."""
    kind = settings.get("peft_type", "LORA")
    if kind not in ("LORA", "LOHA", "LOKR"):
        raise AdapterError(f"{name} is of the kind {str(kind)[:40]!r}; LORA, LOHA and LOKR are supported")
    refused = [key for key in REFUSED if settings.get(key)]
    if refused:
        raise AdapterError(f"{name}: {', '.join(refused)} in its {PEFT_CONFIG} is not supported")
    patterns = settings.get("alpha_pattern") or {}
    if not isinstance(patterns, dict) or any(set(str(key)) & set("*+?[]()|^$\\{}") for key in patterns):
        raise AdapterError(
            f"{name}: alpha_pattern in its {PEFT_CONFIG} has to name layers by the ends of their names"
        )
    default = settings.get("lora_alpha", settings.get("alpha"))
    alphas = {}
    for layer, roles in groups.items():
        named = (value for key, value in patterns.items() if f".{layer}".endswith(f".{key}"))
        alpha = next(named, default)
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
            raise AdapterError(
                f"{name}: lora_alpha in its {PEFT_CONFIG} is {str(alpha)[:40]!r}; a number is needed"
            )
        rank = roles[DOWN].shape[0] if DOWN in roles and roles[DOWN].ndim else 1
        if ALPHA not in roles:
            alphas[layer] = float(alpha) * (math.sqrt(rank) if settings.get("use_rslora") else 1)
    return alphas
