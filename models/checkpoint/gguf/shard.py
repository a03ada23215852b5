"""One GGUF file's tensors under a checkpoint's names. Plain data: no MLX."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from models.files import Shard

Half = Literal["float16", "bfloat16"]
# What a file's weights become: quantized layers with scales in half precision or in float32, or everything in float32
# with its layers unpacked.
Precision = Literal["half", "float32", "unpacked"]


class Edit(NamedTuple):
    """What a GGUF does to a tensor of the checkpoint, and reading it undoes.

    `pairs`: the rows of each of `heads` heads lie in pairs, the first half of a head beside the second.
    `plus_one`: one was added, to a norm's weights.
    `flat`: a matrix of one row is stored as the row.
    """

    kind: Literal["pairs", "plus_one", "flat"]
    heads: int = 1


@dataclass(frozen=True)
class GGUFShard(Shard):
    """`names` are those of the tensors that are read; `half` is the precision of what is not quantized. `is_tower`: of what
    a model sees with, not of its text network; its quantized layers are unpacked, to the precision of the others."""

    edits: Mapping[str, Edit] = field(default_factory=dict)
    half: Half = "bfloat16"
    is_tower: bool = False


def of_text(shards: Sequence[Shard]) -> list[Shard]:
    """Without those of a tower. A safetensors file may hold both, of which tensors are read when they are needed."""
    return [shard for shard in shards if not (isinstance(shard, GGUFShard) and shard.is_tower)]


def of_tower(shards: Sequence[Shard]) -> list[Shard]:
    """Those that may have tensors of a tower."""
    return [shard for shard in shards if not isinstance(shard, GGUFShard) or shard.is_tower]
