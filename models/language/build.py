"""A checkpoint's files to a network: mlx-lm's, put right, with weights that were checked in both directions."""

import importlib
import json
import logging
import shutil
import stat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm import utils as mlx_utils

from models.checkpoint.weights import read_shards
from models.files import LocalModel
from models.language.architectures import stated_context
from models.language.cache.padding import mend
from models.language.config.frequencies import UnknownRope
from models.language.config.prepare import prepare
from models.language.config.standard import standard
from models.language.corrections.activation import correct_activations
from models.language.corrections.rope import RopeConfig, correct_rotations
from models.language.corrections.tying import share_embedding, untie
from models.language.corrections.windows import slide
from models.language.decode.attention import patch_attention
from models.language.networks import NETWORKS

log = logging.getLogger("diptych.language")

DEFAULT_CONTEXT = 4096
TEXTS = (".json", ".jinja", ".txt", ".model", ".tiktoken")
LARGEST_TEXT = 256 * 1024**2


class LoadError(ValueError):
    """The checkpoint cannot be loaded; the message says what was found and what would be accepted."""


def build(local: LocalModel) -> tuple[nn.Module, dict[str, Any]]:
    """mlx-lm's own loader makes and quantizes the network; the weights it is given are ours, and so is the checking."""
    stored = read_shards(local.name, local.shards(""))
    wanted: dict[str, mx.array] = {}
    given: dict[str, mx.array] = {}

    def classes(config: dict[str, Any]) -> tuple[type[nn.Module], type]:
        layers = config.get("num_hidden_layers")
        if isinstance(layers, int) and layers > len(
            stored
        ):  # made one by one: a billion of them would take all memory
            raise ValueError(
                f"its config.json states {layers} layers, but its weights are {len(stored)} tensors"
            )
        base, arguments = network_classes(config)

        class Fed(base):  # type: ignore[misc, valid-type]
            def sanitize(self, _: dict[str, mx.array]) -> dict[str, mx.array]:
                names = [name for name, _ in parameters(self)]
                untied = untie(self, stored, names)
                weights = super().sanitize(stored) if hasattr(base, "sanitize") else stored
                if untied is not None:
                    untied.place(weights)
                # Some networks have given up their head by now, for want of its weights.
                share_embedding(weights, [name for name, _ in parameters(self)])
                wanted.update(parameters(self))  # as made: what is given replaces them
                given.update(weights)
                return weights

        Fed.__name__, Fed.__qualname__ = base.__name__, base.__qualname__
        return Fed, arguments

    check_texts(local.folder)
    try:
        config = _config(local.folder)
        with TemporaryDirectory(prefix="diptych-config-") as alone:
            _write_config(Path(alone), local.folder, config)
            model, config = mlx_utils.load_model(
                Path(alone), lazy=True, strict=False, get_model_classes=classes
            )
    except (LookupError, TypeError, AttributeError, ArithmeticError, AssertionError) as error:
        raise LoadError(
            f"{local.name}: its config.json cannot be used: {type(error).__name__}: {error}"
        ) from error
    except (ValueError, FileNotFoundError) as error:
        raise LoadError(f"{local.name}: {error}") from error
    except SystemExit:  # how an architecture of mlx-lm's says that a package of its own is missing
        raise LoadError(f"{local.name}: its architecture needs a package that is not installed") from None
    _check(local.name, model, wanted, given)
    _correct_attention(local.name, model, config)
    mend(model)
    patch_attention(model)
    return model, config


def network_classes(config: dict[str, Any]) -> tuple[type[nn.Module], type]:
    """The network that computes a model type and the dataclass of its configuration: mlx-lm's, or ours where it is not
    right as it is."""
    name = NETWORKS.get(str(config.get("model_type")))
    if name is None:
        classes: tuple[type[nn.Module], type] = mlx_utils._get_classes(config)
        return classes
    module = importlib.import_module(f"models.language.networks.{name}")
    return module.Model, module.ModelArgs


def _config(folder: Path) -> dict[str, Any]:
    config = read_config(folder / "config.json")
    return prepare(config, network_classes(config)[1])


def _write_config(alone: Path, folder: Path, config: dict[str, Any]) -> None:
    """mlx-lm reads every weight file that it finds beside config.json: it is shown a folder without any."""
    (alone / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for name in ("generation_config.json", "hf_quant_config.json"):
        if (folder / name).exists():
            shutil.copyfile(folder / name, alone / name)


def _correct_attention(name: str, model: nn.Module, config: dict[str, Any]) -> None:
    """Rotations and windows as transformers reads them from a config.json; of types that it does not have, as mlx-lm does."""
    nested = config.get("text_config")
    text = nested if isinstance(nested, dict) else config
    meaning = standard(text)
    if meaning is None:
        return
    activation = meaning.declared("hidden_act") or meaning.declared("activation_function")
    if isinstance(activation, str):
        correct_activations(model, _architecture(model), activation)
    types, parameters = meaning.declared("layer_types"), meaning.declared("rope_parameters")
    if slide(model, meaning.declared("sliding_window"), types):
        log.info("the layers of %s attend to a sliding window", name)
    if not isinstance(parameters, dict):
        return
    positions = stated_context(text) or DEFAULT_CONTEXT
    rope = RopeConfig(parameters, types, positions, meaning.head_dim)
    try:
        replaced = correct_rotations(model, rope)
    except UnknownRope as error:
        raise LoadError(f"{name}: {error}") from error
    if replaced:
        log.info("%d rotary embeddings computed by Diptych: %s", len(replaced), _some(replaced, 3))


def _architecture(model: nn.Module) -> str:
    """The module of mlx-lm's, or of ours, that a network is made by."""
    return type(model).__mro__[1].__module__.rpartition(".")[2]


def parameters(model: nn.Module) -> list[tuple[str, mx.array]]:
    return tree_flatten(model.parameters())  # type: ignore[return-value]  # a list unless a destination is given


def _check(name: str, model: nn.Module, wanted: dict[str, mx.array], given: dict[str, mx.array]) -> None:
    """`wanted`: the network's parameters as it was made, before it was quantized and given weights."""
    expected = dict(parameters(model)).keys()
    missing = sorted(expected - given.keys())
    unexpected = sorted(given.keys() - expected)
    plain = [key for key in sorted(wanted.keys() & given.keys()) if _scales(key) not in given]
    misshaped = [
        f"{key} ({list(given[key].shape)}, should be {list(wanted[key].shape)})"
        for key in plain
        if given[key].shape != wanted[key].shape
    ]
    mistyped = [
        f"{key} ({given[key].dtype})"
        for key in plain
        if mx.issubdtype(wanted[key].dtype, mx.floating) and not mx.issubdtype(given[key].dtype, mx.floating)
    ]
    problems = [
        f"{what}: {_some(names)}"
        for what, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of the wrong shape", misshaped),
            ("not of floating point", mistyped),
        )
        if names
    ]
    if problems:
        raise LoadError(f"{name}: the weights do not fit config.json; " + "; ".join(problems))


def _scales(key: str) -> str:
    """What stands beside a quantized weight."""
    return f"{key.rpartition('.')[0]}.scales"


def _some(names: list[str], most: int = 12) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def read_config(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise LoadError(f"{file} cannot be read: {error}") from error


def check_texts(folder: Path) -> None:
    """What the libraries open by themselves, before they do: a pipe would be waited for, a huge file read whole."""
    for path in sorted(folder.iterdir()):
        if path.suffix not in TEXTS or not path.exists():
            continue
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise LoadError(f"{path} cannot be read: it is not a regular file")
        if status.st_size > LARGEST_TEXT:
            raise LoadError(
                f"{path} is too large to be read: {status.st_size:,} bytes, at most {LARGEST_TEXT:,}"
            )
    for name in ("config.json", "generation_config.json"):
        if (folder / name).exists() and not isinstance(read_config(folder / name), dict):
            raise LoadError(f"{folder / name} is not a JSON object")
