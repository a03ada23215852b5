"""A checkpoint's components: loaded when they are needed, dropped when memory is needed for others."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import mlx.core as mx
import mlx.nn as nn

from models.adapters.adapter import Change
from models.adapters.layers import AdaptedLinear, attach
from models.adapters.names import LayerNames
from models.adapters.spellings import Spellings
from models.checkpoint.export import write_quantized
from models.checkpoint.quantize import Quantization, quantize
from models.checkpoint.random_weights import write_checkpoint
from models.checkpoint.safetensors import read_header
from models.checkpoint.unpack import unpack
from models.checkpoint.weights import WeightMap, evaluate, load_component, weight_bytes
from models.config import ConfigError
from models.files import LocalModel
from models.kernel_checks import check_for_pictures
from models.tokenizers.tokenizer import PromptTokenizer
from pipelines.settings import Progress, Settings, no_progress

Network = TypeVar("Network", bound=nn.Module)
Changes = Sequence[tuple[Mapping[str, tuple[Change, ...]], float]]  # by layer, and their scale
MOST_STEPS_KEPT = 4  # compiled ones, of adapters that differ in their layers
DTYPES = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}


class Component(Generic[Network]):
    """A network and the location of its weights. Calling it returns the network, and loads it if necessary."""

    def __init__(
        self,
        model: LocalModel,
        name: str,
        build: Callable[[], tuple[Network, WeightMap]],
        settings: Settings,
        quantized: bool = True,
    ) -> None:
        self.name = name
        self._model, self._build = model, build
        self._dtype = DTYPES[settings.dtype] if settings.dtype else None
        self._quantized = quantized
        self._quantization = settings.quantization if quantized else None
        self._unpacked = settings.unpacked
        self._compiled = mx.default_device() == mx.gpu if settings.compiled is None else settings.compiled
        self.bytes = 0  # of the loaded weights; known once they have been mapped
        self._held: Network | None = None
        # Compiled methods by name, and by the structure of the adapters that they were compiled with.
        self._compiled_parts: dict[str, dict[tuple[object, ...], Callable[..., Any]]] = {}
        self._changes: Changes = ()
        self._beside: dict[str, AdaptedLinear] = {}
        self._fill: Callable[[Network], None] | None = None

    def __call__(self) -> Network:
        return self.load() if self._held is None else self._held

    @property
    def held(self) -> bool:
        return self._held is not None

    def load(self, progress: Progress = no_progress) -> Network:
        network = self._mapped()
        evaluate(network, progress)
        self._held = network
        self._attach(network)
        return network

    def layer_names(self, spellings: Spellings) -> LayerNames:
        network, weight_map = self._build()
        return LayerNames(network, weight_map, spellings)

    def adapt(self, changes: Changes) -> None:
        """Put adapters beside the weights, in place of those before: now, and whenever the weights are loaded."""
        self._changes = changes
        if self._held is not None:
            self._attach(self._held)

    def _attach(self, network: Network) -> None:
        if self._changes or self._beside:
            attach(network, self._changes, self._beside)

    def fill_with(self, fill: Callable[[Network], None]) -> None:
        """Get weights from `fill` instead of files, for benchmarks."""
        self._fill = fill

    def check(self) -> None:
        """Check that the weights match their config, without reading them."""
        self._mapped()

    def write_random(
        self, dtype: mx.Dtype, quantization: Quantization | None, folder: Path, stem: str
    ) -> None:
        """Write a checkpoint of random weights; `quantization` applies as in loading."""
        network, weight_map = self._build()
        applied = quantization if self._quantized else None
        write_checkpoint(network, weight_map, dtype, folder, stem, applied)

    def write_quantized(self, quantization: Quantization, folder: Path, stem: str) -> bool:
        """Write its quantized weights in the checkpoint's layout; returns whether any layer is quantized."""
        network, weight_map = self._build()
        shards = self._model.shards(self.name)
        written = write_quantized(network, shards, weight_map, quantization, folder, stem)
        return any(name.endswith(".scales") for path in written for name in read_header(path).tensors)

    def step(self, *arguments: Any) -> mx.array:
        """The network's `step`."""
        result: mx.array = self.run("step", *arguments)
        return result

    def run(self, part: str, *arguments: Any) -> Any:
        """A method of the network. Compiled, it is traced once for each shape and cached between pictures."""
        method = getattr(self(), part)
        if not self._compiled:
            return method(*arguments)
        # Adapters are inputs of a compiled step: others of the same layers and ranks need no other one.
        used = {path: layer for path, layer in self._beside.items() if layer.terms}
        structure = tuple((path, layer.structure) for path, layer in used.items())
        kept = self._compiled_parts.setdefault(part, {})
        if structure not in kept:
            while len(kept) >= MOST_STEPS_KEPT:
                del kept[next(iter(kept))]
            inputs = [layer.terms for layer in used.values()]
            kept[structure] = mx.compile(method, inputs=inputs) if inputs else mx.compile(method)
        return kept[structure](*arguments)

    def drop(self) -> None:
        """Release the network and its memory."""
        self._held = None
        self._compiled_parts.clear()
        self._beside.clear()
        mx.clear_cache()

    def _mapped(self) -> Network:
        network, weight_map = self._build()
        if self._fill is not None:
            self._fill(network)
        else:
            load_component(network, self._model.shards(self.name), weight_map, self._dtype)
        if self._quantization is not None:
            quantize(network, self._quantization)
        if self._unpacked:
            unpack(network)
        check_for_pictures(network)
        self.bytes = weight_bytes(network)
        return network


def load_all(components: Mapping[Component[Any], float], progress: Progress) -> None:
    """Load all of them, each with its share of the progress."""
    before, whole = 0.0, sum(components.values())
    for component, share in components.items():
        component.load(lambda done, before=before, share=share: progress((before + done * share) / whole))  # type: ignore[misc]
        before += share


def tokenizer_of(model: LocalModel, name: str, encoder: str, vocab_size: int) -> PromptTokenizer:
    """A tokenizer that matches its encoder: a token id beyond the embedding would read out of bounds."""
    tokenizer = PromptTokenizer.load(model.folder / name)
    highest = max(tokenizer.backend.get_vocab(with_added_tokens=True).values(), default=0)
    if highest >= vocab_size:
        raise ConfigError(
            f"{tokenizer.folder} has token ids up to {highest}, but {encoder}'s vocab_size is {vocab_size}: "
            "these parts do not belong together"
        )
    return tokenizer


def require_equal(one: str, size: int, other: str, expected: int) -> None:
    """Two configs that must agree on a size."""
    if size != expected:
        raise ConfigError(f"{one} is {size}, but {other} is {expected}: these parts do not belong together")
