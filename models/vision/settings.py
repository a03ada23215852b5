"""What the files of a checkpoint say about its eyes: settings, special tokens, the names of tensors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx

from models.config import ConfigError, read_json

# transformers 5 writes one file for all of a model's processors.
OLDER, NEWER = "preprocessor_config.json", "processor_config.json"


def processor_settings(folder: Path) -> dict[str, Any]:
    """The settings of the picture processor; those of the processor of prompts are in `prompt_settings`."""
    settings = prompt_settings(folder).get("image_processor")
    if isinstance(settings, dict):
        return settings
    if (folder / OLDER).exists():
        return read_json(folder / OLDER)
    raise ConfigError(f"{folder / OLDER} is missing: it says how pictures are prepared")


def prompt_settings(folder: Path) -> dict[str, Any]:
    return read_json(folder / NEWER) if (folder / NEWER).exists() else {}


def section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A configuration inside config.json."""
    values = config.get(name)
    if not isinstance(values, Mapping):
        raise ConfigError(f"config.json: {name} is {values!r}; an object is needed")
    return values


def token_id(config: Mapping[str, Any], *names: str, default: int | None = None) -> int:
    """The id of a special token, under the first of these names that the file has."""
    for name in names:
        if config.get(name) is not None:
            value = config[name]
            if type(value) is not int or value < 0:
                raise ConfigError(f"config.json: {name} is {value!r}; the id of a token is needed")
            return value
    if default is None:
        raise ConfigError(f"config.json: {names[0]} is missing")
    return default


def special_token(folder: Path, name: str, default: str) -> str:
    """The text of a special token that the tokenizer has a name for."""
    file = folder / "tokenizer_config.json"
    settings = read_json(file) if file.exists() else {}
    extra = settings.get("extra_special_tokens")
    for source in (settings, extra if isinstance(extra, Mapping) else {}):
        value = source.get(name)
        value = value.get("content") if isinstance(value, Mapping) else value
        if isinstance(value, str) and value:
            return value
    return default


def under(weights: Mapping[str, mx.array], *prefixes: str) -> dict[str, mx.array]:
    """The tensors under the first of these prefixes that a checkpoint has, without it."""
    for prefix in prefixes:
        tensors = {name[len(prefix) :]: value for name, value in weights.items() if name.startswith(prefix)}
        if tensors:
            return tensors
    return {}


def flat_kernel(weights: Mapping[str, mx.array], layer: str, channels: int) -> dict[str, mx.array]:
    """The same tensors, with the convolution over patches as the matrix that it is; files that MLX has written have the
    channels last."""
    flat, name = dict(weights), f"{layer}.weight"
    kernel = flat.get(name)
    if kernel is not None and kernel.ndim > 2:
        if kernel.shape[1] != channels == kernel.shape[-1]:
            kernel = mx.moveaxis(kernel, -1, 1)
        flat[name] = kernel.flatten(1)
    return flat
