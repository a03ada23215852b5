"""The header of a LoRA adapter in a GGUF file: what it is for, and its tensors. No MLX."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from models.checkpoint.gguf.header import GGUFHeader, Tensor, read_gguf_header
from models.checkpoint.gguf.types import BF16, F16, F32
from models.checkpoint.safetensors import WeightsError
from models.language.gguf.architectures import ARCHITECTURES, Architecture
from models.language.gguf.metadata import GGUFError
from models.language.gguf.names import network_name

_KEY = re.compile(r"(.{1,200}\.weight)\.lora_([ab])")


@dataclass(frozen=True)
class GGUFAdapter:
    """`pairs`: the keys of the two matrices of each layer, by the key of the weight that they belong to."""

    path: Path
    header: GGUFHeader
    architecture: Architecture
    pairs: dict[str, dict[str, str]]

    @classmethod
    def open(cls, path: Path) -> "GGUFAdapter":
        """Raises GGUFError, which says what is wrong."""
        label = f"the adapter {path.name[:80]}"
        try:
            header = read_gguf_header(path)
        except WeightsError as error:
            raise GGUFError(f"{label}: {error}") from error
        values = header.metadata
        kind, form = values.get("general.type"), values.get("adapter.type")
        if kind != "adapter" or form != "lora":
            raise GGUFError(
                f"{label} is {kind!r} of the type {form!r} by its header; an adapter of the type 'lora' is needed"
            )
        name = values.get("general.architecture")
        if not isinstance(name, str) or name not in ARCHITECTURES:
            raise GGUFError(
                f"{label} is for the architecture {str(name)[:80]!r}; these run: {', '.join(ARCHITECTURES)}"
            )
        return cls(path, header, ARCHITECTURES[name], _pairs(header, label))

    @property
    def alpha(self) -> float | None:
        """None: what the adapter adds is not scaled."""
        value = self.header.metadata.get("adapter.lora.alpha", 0.0)
        if type(value) not in (int, float) or not math.isfinite(value):
            raise GGUFError(
                f"the adapter {self.path.name[:80]}: adapter.lora.alpha is {str(value)[:40]!r}; a number is needed"
            )
        return float(value) or None

    @property
    def base(self) -> str:
        """What it was made for, as far as it says so."""
        values = self.header.metadata
        return str(values.get("general.base_model.0.name") or values.get("general.architecture"))

    def names(self) -> dict[str, str]:
        """The network's layer of each weight; an error names those that its architecture does not have."""
        names = {key: network_name(key, self.architecture) for key in self.pairs}
        unknown = [key for key, name in names.items() if name is None]
        if unknown:
            raise GGUFError(
                f"the adapter {self.path.name[:80]} has tensors for layers that cannot have one: {', '.join(unknown[:6])[:300]}"
            )
        return {key: str(name).removesuffix(".weight") for key, name in names.items()}

    def check_base(self, architecture: Architecture, tensors: Mapping[str, Tensor], label: str) -> None:
        """Whether it belongs to a GGUF with these tensors."""
        if architecture.model_type != self.architecture.model_type:
            raise GGUFError(
                f"{label}: its adapter is for {self.architecture.model_type}, and the model is {architecture.model_type}"
            )
        missing = sorted(set(self.pairs) - set(tensors))
        if missing:
            raise GGUFError(
                f"{label}: its adapter is for layers that the model does not have: {', '.join(missing[:6])[:300]}"
            )
        for key, pair in self.pairs.items():
            down, up = (self.header.tensors[pair[letter]].shape for letter in "ab")
            if (up[0], down[1]) != tensors[key].shape or down[0] != up[1]:
                raise GGUFError(
                    f"{label}: its adapter has {list(down)} and {list(up)} for {key}, which is {list(tensors[key].shape)}"
                )


def _pairs(header: GGUFHeader, label: str) -> dict[str, dict[str, str]]:
    pairs: dict[str, dict[str, str]] = {}
    for key, tensor in header.tensors.items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise GGUFError(
                f"{label} has the tensor {key[:120]!r}, which is not LoRA's; names end in .weight.lora_a or .lora_b"
            )
        if tensor.type not in (F32, F16, BF16) or len(tensor.shape) != 2:
            raise GGUFError(
                f"{label}: {key[:120]} is {tensor.type.name} {list(tensor.shape)}; a matrix of F32, F16 or BF16 is needed"
            )
        pairs.setdefault(match[1], {})[match[2]] = key
    half = [key for key, pair in pairs.items() if len(pair) != 2]
    if half or not pairs:
        what = f"one of the two matrices of {', '.join(half[:6])[:300]}" if half else "no tensors"
        raise GGUFError(f"{label} has {what}")
    return pairs
