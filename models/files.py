"""Where one model's files lie once they are on this machine. Plain data: no MLX, no network.

`runner.sources` makes a LocalModel from a folder, a hub snapshot or the Ollama store; everything that loads weights
or tokenizers reads it and need not know which of the three it was.
"""

import errno
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from models.config import read_json

# What lists a picture model's parts: diffusers' pipelines have the first, its modular pipelines the second.
INDEX = "model_index.json"
INDEXES = (INDEX, "modular_model_index.json")


@dataclass(frozen=True)
class Shard:
    """One safetensors file, whatever its extension. `names` renames its keys and drops those it does not list;
    None takes every key as it is."""

    path: Path
    names: Mapping[str, str] | None = None


@dataclass(frozen=True)
class LoraFile:
    """An adapter of a language model: a file, or a folder of PEFT's."""

    path: Path
    scale: float = 1.0


@dataclass(frozen=True)
class LocalModel:
    """A model ready to load.

    `folder` holds its JSON and tokenizer files in the checkpoint's layout. The weights of a component ("" for a
    language model, else "transformer", "vae", …) are `shards(component)`, in a fixed order.
    """

    name: str
    folder: Path
    shards: Callable[[str], tuple[Shard, ...]]
    loras: tuple[LoraFile, ...] = ()  # that belong to it

    def read_json(self, path: str) -> dict[str, Any] | None:
        """A JSON object in the folder, None where there is no such file; anything else is a ConfigError that names it."""
        file = self.folder / path
        return read_json(file) if file.exists() else None


def check_regular(path: Path) -> os.stat_result:
    """What the system says of a regular file; an OSError for anything else: opening a pipe would wait for a writer that
    never comes, and a device may have no end."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return status


def open_regular(path: Path) -> BinaryIO:
    """A regular file, open for reading, even if another program puts something else in its place meanwhile."""
    check_regular(path)
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    file = open(os.open(path, flags), "rb")  # noqa: SIM115 - closed by those who read it
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise OSError(errno.EINVAL, "it is not a regular file", str(path))


def read_regular(path: Path, limit: int) -> bytes:
    """The bytes of a regular file; an OSError when it has more than `limit`."""
    with open_regular(path) as file:
        raw = file.read(limit + 1)
    if len(raw) > limit:
        raise OSError(errno.EFBIG, f"it is too large to be read, with more than {limit:,} bytes", str(path))
    return raw
