"""A checkpoint's files to a network: mlx-lm's, corrected where needed, with no weight missing and none left over."""

import importlib
import json
import logging
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm import utils as mlx_utils

from models.checkpoint.gguf.shard import Precision, of_text
from models.checkpoint.weights import read_shards
from models.files import LocalModel
from models.language.architectures import max_context
from models.language.cache.padding import patch_batch_mask
from models.language.config.frequencies import UnknownRope
from models.language.config.prepare import prepare
from models.language.config.standard import transformers_config
from models.language.corrections.activation import correct_activations
from models.language.corrections.rope import RopeConfig, correct_rotations
from models.language.corrections.sections import use_sections
from models.language.corrections.tying import share_embedding, untie
from models.language.corrections.windows import use_sliding_windows
from models.language.decode.attention import patch_attention
from models.language.networks import NETWORKS

log = logging.getLogger("diptych.language")

DEFAULT_CONTEXT = 4096
TEXT_SUFFIXES = (".json", ".jinja", ".gotmpl", ".txt", ".model", ".tiktoken")
MAX_TEXT_BYTES = 256 * 1024**2

Tensors: TypeAlias = dict[str, mx.array]


class LoadError(ValueError):
    """The checkpoint cannot be loaded; the message says what is wrong and what would be accepted."""


def build(
    local: LocalModel, precision: Precision = "half", notes: list[str] | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """mlx-lm's loader creates and quantizes the network; reading the weights and checking them is done here. `precision` is
    that of a GGUF's weights, and `notes` gets what is lost when they are converted."""
    weights = _Weights(read_shards(local.name, of_text(local.shards("")), precision, notes))
    check_texts(local.folder)
    try:
        config = _config(local.folder)
        if precision == "unpacked":
            config.pop("quantization", None)
        with TemporaryDirectory(prefix="diptych-config-") as folder:
            _write_config(Path(folder), local.folder, config)
            model, config = mlx_utils.load_model(
                Path(folder), lazy=True, strict=False, get_model_classes=weights.classes
            )
    except (LookupError, TypeError, AttributeError, ArithmeticError, AssertionError) as error:
        raise LoadError(
            f"{local.name}: its config.json cannot be used: {type(error).__name__}: {error}"
        ) from error
    except (ValueError, FileNotFoundError) as error:
        raise LoadError(f"{local.name}: {error}") from error
    except SystemExit:  # some of mlx-lm's architectures exit when an optional package is missing
        raise LoadError(f"{local.name}: its architecture needs a package that is not installed") from None
    weights.check(local.name, model)
    _correct_attention(local.name, model, config)
    patch_batch_mask(model)
    patch_attention(model)
    return model, config


class _Weights:
    """The tensors of a checkpoint's files, on their way into the network that mlx-lm's loader creates."""

    def __init__(self, stored: Tensors) -> None:
        self._stored = stored
        self._initial: Tensors = {}  # the network's parameters as created: before quantization, without these weights
        self._loaded: Tensors = {}  # the weights by the network's own names

    def classes(self, config: dict[str, Any]) -> tuple[type[nn.Module], type]:
        """The network's class, for mlx-lm's loader, with a `sanitize` that ignores the loader's (absent) weights."""
        layers = config.get("num_hidden_layers")
        # The network creates its layers one by one: a billion of them would fill the memory.
        if isinstance(layers, int) and layers > len(self._stored):
            raise ValueError(
                f"its config.json has {layers} layers, but its weights are {len(self._stored)} tensors"
            )
        base, arguments = network_classes(config)
        weights = self

        class WithWeights(base):  # type: ignore[misc, valid-type]
            def sanitize(self, _: Tensors) -> Tensors:
                rename = super().sanitize if hasattr(base, "sanitize") else lambda stored: stored
                return weights._sanitize(self, rename)

        WithWeights.__name__, WithWeights.__qualname__ = base.__name__, base.__qualname__
        return WithWeights, arguments

    def _sanitize(self, model: nn.Module, rename: Callable[[Tensors], Tensors]) -> Tensors:
        untied = untie(model, self._stored, [name for name, _ in parameters(model)])
        weights = rename(self._stored)
        if untied is not None:
            untied.place(weights)
        # `rename` of some networks has removed their head, if there are no weights for it.
        share_embedding(weights, [name for name, _ in parameters(model)])
        self._initial.update(parameters(model))
        self._loaded.update(weights)
        return weights

    def check(self, name: str, model: nn.Module) -> None:
        """Every parameter of the network has a weight of the right shape and type, and every weight a parameter."""
        expected = dict(parameters(model)).keys()
        loaded, initial = self._loaded, self._initial
        plain = [
            key
            for key in sorted(initial.keys() & loaded.keys())
            if f"{key.rpartition('.')[0]}.scales" not in loaded
        ]
        faults = {
            "missing": sorted(expected - loaded.keys()),
            "unexpected": sorted(loaded.keys() - expected),
            "of the wrong shape": [
                f"{key} ({list(loaded[key].shape)}, should be {list(initial[key].shape)})"
                for key in plain
                if loaded[key].shape != initial[key].shape
            ],
            "not floating point": [
                f"{key} ({loaded[key].dtype})"
                for key in plain
                if mx.issubdtype(initial[key].dtype, mx.floating)
                and not mx.issubdtype(loaded[key].dtype, mx.floating)
            ],
        }
        problems = [f"{fault}: {_some(names)}" for fault, names in faults.items() if names]
        if problems:
            raise LoadError(f"{name}: the weights do not match config.json; " + "; ".join(problems))
        # The network's class holds on to this object, and would keep weights that are converted or sharded later.
        for tensors in (self._stored, self._loaded, self._initial):
            tensors.clear()


def network_classes(config: dict[str, Any]) -> tuple[type[nn.Module], type]:
    """The network of a model type and the dataclass of its configuration: mlx-lm's, or ours where mlx-lm's is wrong."""
    name = NETWORKS.get(str(config.get("model_type")))
    if name is None:
        classes: tuple[type[nn.Module], type] = mlx_utils._get_classes(config)
        return classes
    module = importlib.import_module(f"models.language.networks.{name}")
    return module.Model, module.ModelArgs


def _config(folder: Path) -> dict[str, Any]:
    config = read_config(folder / "config.json")
    return prepare(config, network_classes(config)[1])


def _write_config(target: Path, folder: Path, config: dict[str, Any]) -> None:
    """mlx-lm reads every weight file next to config.json, so it gets a folder without any."""
    (target / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for name in ("generation_config.json", "hf_quant_config.json"):
        if (folder / name).exists():
            shutil.copyfile(folder / name, target / name)


def _correct_attention(name: str, model: nn.Module, config: dict[str, Any]) -> None:
    """Activations, rotations and windows as transformers reads them from config.json; types it does not have stay mlx-lm's."""
    nested = config.get("text_config")
    text = nested if isinstance(nested, dict) else config
    reference = transformers_config(text)
    if reference is None:
        return
    activation = reference.declared("hidden_act") or reference.declared("activation_function")
    if isinstance(activation, str):
        correct_activations(model, _architecture(model), activation)
    types, parameters = reference.declared("layer_types"), reference.declared("rope_parameters")
    if use_sliding_windows(model, reference.declared("sliding_window"), types):
        log.info("%s uses sliding-window attention", name)
    if not isinstance(parameters, dict):
        return
    positions = max_context(text) or DEFAULT_CONTEXT
    rope = RopeConfig(parameters, types, positions, reference.head_dim)
    try:
        replaced = correct_rotations(model, rope)
        if sections := getattr(model, "sections", None):
            use_sections(model, sections, rope)
    except UnknownRope as error:
        raise LoadError(f"{name}: {error}") from error
    if replaced:
        log.info("%d rotary embeddings replaced by ours: %s", len(replaced), _some(replaced, 3))


def _architecture(model: nn.Module) -> str:
    """The name of the module, mlx-lm's or ours, that defines a network."""
    return type(model).__mro__[1].__module__.rpartition(".")[2]


def parameters(model: nn.Module) -> list[tuple[str, mx.array]]:
    return tree_flatten(model.parameters())  # type: ignore[return-value]  # a list unless a destination is given


def _some(names: list[str], most: int = 12) -> str:
    text = ", ".join(names[:most])
    return text if len(names) <= most else f"{text} and {len(names) - most} more"


def read_config(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise LoadError(f"{file} cannot be read: {error}") from error


def check_texts(folder: Path) -> None:
    """Check the files that mlx-lm and transformers will open: they would block on a pipe, and read a huge file whole."""
    for path in sorted(folder.iterdir()):
        if path.suffix not in TEXT_SUFFIXES or not path.exists():
            continue
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise LoadError(f"{path} cannot be read: it is not a regular file")
        if status.st_size > MAX_TEXT_BYTES:
            raise LoadError(
                f"{path} is too large: {status.st_size:,} bytes; at most {MAX_TEXT_BYTES:,} are allowed"
            )
    for name in ("config.json", "generation_config.json"):
        if (folder / name).exists() and not isinstance(read_config(folder / name), dict):
            raise LoadError(f"{folder / name} is not a JSON object")
