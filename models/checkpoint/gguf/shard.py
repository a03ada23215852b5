"""One GGUF file's tensors under a checkpoint's names. Plain data: no MLX."""

from collections.abc import Mapping
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
    """`names` are those of the tensors that are read; `half` is the precision of what is not quantized."""

    edits: Mapping[str, Edit] = field(default_factory=dict)
    half: Half = "bfloat16"
