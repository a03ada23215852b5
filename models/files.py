"""Where one model's files lie once they are on this machine. Plain data: no MLX, no network.

`runner.sources` makes a LocalModel from a folder, a hub snapshot or the Ollama store; everything that loads weights
or tokenizers reads it and need not know which of the three it was.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Shard:
    """One safetensors file, whatever its extension. `names` renames its keys and drops those it does not list;
    None takes every key as it is."""

    path: Path
    names: Mapping[str, str] | None = None


@dataclass(frozen=True)
class LocalModel:
    """A model ready to load.

    `folder` holds its JSON and tokenizer files in the checkpoint's layout. The weights of a component ("" for a
    language model, else "transformer", "vae", …) are `shards(component)`, in a fixed order.
    """

    name: str
    folder: Path
    shards: Callable[[str], tuple[Shard, ...]]
