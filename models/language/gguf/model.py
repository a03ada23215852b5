"""One model's GGUF files together: its config.json, and its tensors as they are read."""

import math
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from models.checkpoint.gguf.header import GGUFHeader, Tensor, read_gguf_header
from models.checkpoint.gguf.shard import Edit, GGUFShard, Half
from models.checkpoint.gguf.types import F32, GROUP
from models.checkpoint.safetensors import TensorInfo
from models.files import open_regular
from models.language.gguf.architectures import Architecture, architecture_of
from models.language.gguf.config import config_json
from models.language.gguf.encoders import pooling_files
from models.language.gguf.metadata import GGUFError, Metadata
from models.language.gguf.names import FACTORS, edits, network_names
from models.language.gguf.ollama import text_metadata
from models.language.gguf.projector import TEXT, Projector

MOST_FACTORS = 4096


@dataclass(frozen=True)
class GGUFModel:
    """`headers` are those of its files, the one with the metadata first; `factors` the contents of its small tensors of
    rotary factors; `label` names the model in errors; `projector` is what it may see with."""

    headers: tuple[GGUFHeader, ...]
    factors: Mapping[str, list[float]]
    label: str
    projector: Projector | None = None

    @classmethod
    def open(cls, paths: Sequence[Path], label: str, beside: Path | None = None) -> "GGUFModel":
        """`beside`: the file with its projector."""
        headers = tuple(read_gguf_header(path) for path in paths)
        projector = None
        if beside is not None:
            projector = Projector.of(read_gguf_header(beside), f"{label} with {beside.name}")
        return cls.of(headers, lambda number, tensor: _read_bytes(paths[number], tensor), label, projector)

    @classmethod
    def of(
        cls,
        headers: tuple[GGUFHeader, ...],
        read: Callable[[int, Tensor], bytes],
        label: str,
        projector: Projector | None = None,
    ) -> "GGUFModel":
        """`read` reads a small tensor of the file with a number."""
        factors = {
            FACTORS[key]: _factors(tensor, lambda: read(number, tensor), label)  # noqa: B023 - called at once
            for number, header in enumerate(headers)
            for key, tensor in header.tensors.items()
            if key in FACTORS
        }
        model = cls(headers, factors, label, projector or Projector.inside(headers[0], label))
        model.check_parts()
        return model

    def check_parts(self) -> None:
        """Files of a model that is split have to be all there, in their order."""
        first = self.headers[0].metadata
        count = first.get("split.count", 0) or 1
        if count != len(self.headers):
            raise GGUFError(f"{self.label} is one of {count} files, of which {len(self.headers)} are here")
        numbers = [header.metadata.get("split.no", 0) for header in self.headers]
        if count > 1 and numbers != list(range(len(numbers))):
            raise GGUFError(
                f"{self.label}: the files of a split model are numbered {numbers[:8]} in themselves"
            )
        declared = first.get("split.tensors.count")
        if (
            count > 1
            and declared is not None
            and declared != sum(len(header.tensors) for header in self.headers)
        ):
            raise GGUFError(f"{self.label} has {declared} tensors by its first file, and others in its files")
        if len({key for header in self.headers for key in header.tensors}) != sum(
            len(header.tensors) for header in self.headers
        ):
            raise GGUFError(f"{self.label} has a tensor in two of its files")

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Of the text network."""
        tower = () if self.projector is None or self.projector.own_file else self.projector.keys.values()
        tensors = {key: tensor for header in self.headers for key, tensor in header.tensors.items()}
        return {key: tensor for key, tensor in tensors.items() if key not in frozenset(tower)}

    @cached_property
    def metadata(self) -> Metadata:
        """Of the text network."""
        first = self.headers[0]
        return Metadata(text_metadata(first.metadata, first.tensors), self.factors, self.label)

    @cached_property
    def blindness(self) -> str:
        """Why it cannot see with the projector that it has; "" if it can, or has none."""
        return "" if self.projector is None else self.projector.why_not(self.metadata)

    @property
    def eyes(self) -> Projector | None:
        """What it sees with."""
        return None if self.blindness else self.projector

    @cached_property
    def architecture(self) -> Architecture:
        return architecture_of(self.metadata)

    @cached_property
    def names(self) -> dict[str, str]:
        names = network_names(self.tensors, self.architecture, self.metadata)
        return names if self.eyes is None else {key: TEXT + name for key, name in names.items()}

    @cached_property
    def edits(self) -> dict[str, Edit]:
        return edits(self.tensors, self.architecture, self.metadata)

    @cached_property
    def config(self) -> dict[str, Any]:
        config = config_json(self.metadata, self.architecture, self.tensors, self.names)
        return config if self.eyes is None else self.eyes.config(config, self.metadata)

    @property
    def vocabulary(self) -> Mapping[str, Any]:
        """The metadata, as the tokenizer needs it."""
        return self.metadata.values if self.eyes is None else self.eyes.vocabulary(self.metadata)

    def pooling_files(self) -> dict[str, Any]:
        """Of an encoder, the files that say how its vectors are made."""
        return {} if self.architecture.encoder is None else pooling_files(self.metadata)

    def main_type(self) -> str:
        """The type that most of its bytes are stored as."""
        sizes: Counter[str] = Counter()
        for tensor in self.tensors.values():
            sizes[tensor.type.name] += tensor.nbytes
        return max(sizes, key=sizes.__getitem__, default="")

    def types(self) -> set[str]:
        """The types that its tensors are stored as, those of its small ones left out."""
        return {tensor.type.name for tensor in self.tensors.values() if len(tensor.shape) > 1}

    def shards(self, paths: Sequence[Path], beside: Path | None = None) -> tuple[GGUFShard, ...]:
        """`beside`: the file with its projector."""
        half: Half = self.config["dtype"]
        shards = tuple(
            GGUFShard(
                path, {key: self.names[key] for key in header.tensors if key in self.names}, self.edits, half
            )
            for path, header in zip(paths, self.headers, strict=True)
        )
        if self.eyes is None:
            return shards
        return (*shards, self.eyes.shard(beside if self.eyes.own_file and beside else paths[0], half))

    def loaded_tensors(self) -> dict[str, TensorInfo]:
        """What the tensors become when they are loaded, for estimates: sizes, not places."""
        half = {"float16": "F16", "bfloat16": "BF16"}[self.config["dtype"]]
        infos: dict[str, TensorInfo] = {}
        for key, name in self.names.items():
            tensor = self.tensors[key]
            packing = tensor.type.packing
            if packing is None:
                infos[name] = _info(half, tensor.shape)
                continue
            *rows, columns = tensor.shape
            layer = name.removesuffix("weight")
            infos[name] = _info("U32", (*rows, columns * packing.bits // 32))
            for part in ("scales", "biases"):
                infos[layer + part] = _info(half, (*rows, columns // GROUP))
        if self.eyes is not None:
            seen = self.eyes.header.tensors
            infos |= {name: _info(half, seen[key].shape) for key, name in self.eyes.names.items()}
        return infos


def _info(dtype: str, shape: tuple[int, ...]) -> TensorInfo:
    size = 4 if dtype == "U32" else 2
    for count in shape:
        size *= count
    return TensorInfo(dtype, shape, 0, size)


def _read_bytes(path: Path, tensor: Tensor) -> bytes:
    with open_regular(path) as file:
        file.seek(tensor.start)
        return file.read(tensor.nbytes)


def _factors(tensor: Tensor, read: Callable[[], bytes], label: str) -> list[float]:
    if tensor.type is not F32 or len(tensor.shape) != 1 or tensor.shape[0] > MOST_FACTORS:
        raise GGUFError(
            f"{label}: its rotary factors are {tensor.type.name} {list(tensor.shape)}; a row of F32 is needed"
        )
    raw = read()
    values = array("f", raw[: len(raw) // 4 * 4])
    if len(values) != tensor.shape[0] or not all(math.isfinite(value) and value > 0 for value in values):
        raise GGUFError(f"{label}: its rotary factors have to be numbers above 0")
    return values.tolist()
