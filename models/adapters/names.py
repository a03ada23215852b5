"""Which layer an adapter means: a network's layers under all their names.

The checkpoint's layers that a network has fused are rows of the fused one; so an adapter of `to_k` is one of the middle
third of `to_qkv`. Names are compared with dots as underscores, since kohya's tools write them so.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import mlx.nn as nn

from models.adapters.spellings import Rows, Spellings, plain
from models.checkpoint.weights import WeightMap, fused_parts

# What stands before a transformer's layers, and before those of the text encoders, by their component.
TRANSFORMER = (
    "base_model.model.", "base_model.", "model.diffusion_model.", "diffusion_model.", "transformer.", "unet.", "lora_unet_",
    "lora_transformer_", "lycoris_", "model.",
)  # fmt: skip
ENCODERS: Mapping[str, str] = {
    "text_encoders.clip_l.transformer.": "text_encoder",
    "text_encoders.t5xxl.transformer.": "text_encoder_2",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
    "lora_te3_": "text_encoder_2",
    "text_encoder.": "text_encoder",
    "text_encoder_2.": "text_encoder_2",
}


@dataclass(frozen=True)
class Target:
    """Rows `start` to `stop` of a layer with so many inputs. `foreign`: found by a name that the checkpoint does not have."""

    path: str
    start: int
    stop: int
    inputs: int
    swapped: bool = False
    foreign: bool = False

    @property
    def outputs(self) -> int:
        return self.stop - self.start


def component_of(layer: str) -> tuple[str, str]:
    """The component that a layer of a file is in, and the rest of its name."""
    for prefix, component in ENCODERS.items():
        if layer.startswith(prefix):
            return component, layer.removeprefix(prefix)
    before = ""
    while before != layer:
        before = layer
        for prefix in TRANSFORMER:
            layer = layer.removeprefix(prefix)
    return "transformer", layer


class LayerNames:
    """Finds a layer of a network by any of its names."""

    def __init__(self, network: nn.Module, weight_map: WeightMap, spellings: Spellings) -> None:
        """`network` is not quantized: its shapes are looked at."""
        self._targets: dict[str, Target] = {}
        prefixes = ("", *weight_map.strip)
        modules = dict(network.named_modules())
        for path, layer in modules.items():
            if not isinstance(layer, nn.Linear):
                continue
            outputs, inputs = layer.weight.shape
            whole = Target(path, 0, outputs, inputs)
            parent, _, own = path.rpartition(".")
            sizes = getattr(modules.get(parent), "fused_sizes", {}).get(own)
            parts = self._parts(whole, fused_parts(path, weight_map.fuse), sizes)
            for name, target in (
                (path, whole),
                *parts.items(),
                *_spelled(whole, list(parts.values()), spellings),
            ):
                for prefix in prefixes:
                    self._targets[plain(prefix + name)] = target
                    self._targets[plain(prefix + _unrenamed(name, weight_map))] = target

    def find(self, name: str) -> Target | None:
        return self._targets.get(plain(name))

    @staticmethod
    def _parts(whole: Target, names: Sequence[str], sizes: Sequence[int] | None) -> dict[str, Target]:
        """The rows of a fused layer's parts: `sizes`, or as many for each, or as many as there are inputs for all but the
        last: queries, keys, values, and an MLP beside them."""
        if not names:
            return {}
        equal = whole.outputs // len(names) if len(names) < 4 else whole.inputs
        starts = [sum(sizes[:index]) if sizes else index * equal for index in range(len(names))]
        stops = [*starts[1:], whole.outputs]
        return {
            name: Target(whole.path, start, stop, whole.inputs)
            for name, start, stop in zip(names, starts, stops, strict=True)
        }


def _spelled(whole: Target, parts: Sequence[Target], spellings: Spellings) -> Iterable[tuple[str, Target]]:
    number = next((word for word in whole.path.split(".") if word.isdigit()), "")
    for name, rows in spellings.items():
        if rows.path.format(number) == whole.path:
            yield name.format(number), _rows(whole, parts, rows)


def _rows(whole: Target, parts: Sequence[Target], rows: Rows) -> Target:
    stop = whole.stop if rows.parts is None else parts[rows.parts - 1].stop
    start = parts[rows.first].start if rows.first else 0
    return Target(whole.path, start, stop, whole.inputs, rows.swapped, foreign=True)


def _unrenamed(name: str, weight_map: WeightMap) -> str:
    """A network's name as the checkpoint has it."""
    for old, new in weight_map.rename:
        name = f".{name}.".replace(f".{new}.", f".{old}.")[1:-1]
    return name
