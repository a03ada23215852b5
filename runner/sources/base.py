"""What every source of a model can do: list its files, read its JSON, declare its tensors, bring it here."""

import codecs
import errno
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

from models.checkpoint.safetensors import Header, TensorInfo, WeightsError, read_header
from models.files import LocalModel
from runner.errors import ModelNotSupported
from runner.sources.name import Source

# A model's largest JSON that is read here is the index of its shards, a few MiB.
JSON_LIMIT = 32 * 1024**2

Progress = Callable[[int, int], None]


class ModelMode(StrEnum):
    """What a model makes."""

    TEXT = "text"
    IMAGE = "image"


class ModelFiles(ABC):
    """One model's files, wherever they are: a folder, a hub repo, the Ollama store.

    Paths are the checkpoint's own, with forward slashes: `config.json`, `transformer/config.json`.
    """

    source: ClassVar[Source]

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    @abstractmethod
    def place(self) -> str:
        """Where this is, for messages: `folder /models/x`, `hub repo owner/name`."""

    @abstractmethod
    def listing(self) -> Mapping[str, int]:
        """Every file of the model and its bytes."""

    @abstractmethod
    def _read(self, path: str) -> bytes:
        """The bytes of one listed file; an OSError when it cannot be read."""

    @abstractmethod
    def weights(self, component: str) -> tuple[str, ...]:
        """The safetensors files of a component ("" for a language model), in the order they load."""

    @abstractmethod
    def tensors(self, component: str) -> dict[str, TensorInfo]:
        """Name, dtype, shape and bytes of each tensor of a component, without loading any."""

    @abstractmethod
    def fetch(self, mode: ModelMode, progress: Progress | None = None) -> LocalModel:
        """The model ready to load: downloads what the mode needs and is missing, calling `progress(done, total)`
        with bytes on the way."""

    def folders(self) -> list[str]:
        """The folders right inside the model."""
        return sorted({path.split("/")[0] for path in self.listing() if path.count("/") == 1})

    def stated_quantization(self, component: str) -> set[str]:
        """What the files of a component say of their own quantization (`int4`, `nvfp4`), where they say it."""
        return set()

    def read_json(self, path: str) -> dict[str, Any] | None:
        """A JSON object of the model; None when there is no such file. A file that is too large, cannot be read
        or holds anything else is a ModelNotSupported that names it."""
        raw = self._read_whole(path)
        return None if raw is None else parse_object(raw, f"{path} in {self.place}")

    def read_text(self, path: str) -> str | None:
        """A text of the model; None when there is no such file. Otherwise as read_json."""
        raw = self._read_whole(path)
        try:
            return None if raw is None else raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ModelNotSupported(
                f"{path} in {self.place} is not UTF-8 text (byte {error.start})"
            ) from None

    def _read_whole(self, path: str) -> bytes | None:
        size = self.listing().get(path)
        if size is None:
            return None
        shown = f"{path} in {self.place}"
        if size > JSON_LIMIT:
            raise ModelNotSupported(
                f"{shown} is too large to be read: {size:,} bytes, at most {JSON_LIMIT:,}"
            )
        try:
            return self._read(path)
        except OSError as error:
            raise ModelNotSupported(f"{shown} cannot be read: {error.strerror or error}") from error


def parse_object(raw: bytes, shown: str) -> dict[str, Any]:
    """A JSON object, or a ModelNotSupported that says what `shown` holds instead."""
    if raw.startswith(codecs.BOM_UTF8):
        # The libraries that load the model read no such file: it is refused where that costs nothing.
        raise ModelNotSupported(f"{shown} begins with a byte order mark; it has to be UTF-8 without one")
    try:
        found = json.loads(raw.decode())
    except UnicodeDecodeError as error:
        raise ModelNotSupported(f"{shown} is not UTF-8 text (byte {error.start})") from None
    except RecursionError:
        raise ModelNotSupported(f"{shown} is nested too deeply to be read") from None
    except ValueError as error:
        raise ModelNotSupported(f"{shown} is not valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise ModelNotSupported(f"{shown} is not a JSON object but {_json_type(found)}")
    return found


def _json_type(value: object) -> str:
    if value is None:
        return "null"
    names = {list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), type(value).__name__)


def declared(path: Path) -> Header:
    """The header of a safetensors file, or a ModelNotSupported that says what is wrong with it."""
    try:
        return read_header(path)
    except WeightsError as error:
        raise ModelNotSupported(str(error)) from error


def resolve_inside(path: Path, root: Path, shown: str) -> Path:
    """A path with its links followed; an OSError when they lead out of `root`, itself resolved, which messages call
    `shown`."""
    try:
        real = path.resolve(strict=True)
    except RuntimeError:  # before Python 3.13
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from None
    if not real.is_relative_to(root):
        raise OSError(errno.EXDEV, f"it is a link out of {shown}", str(path))
    return real


def is_plain_path(path: str) -> bool:
    """Whether a path that someone else wrote stays inside the model's folder, on any system: no `..`, not absolute,
    no drive, no backslash, no control character."""
    parts = path.split("/")
    return (
        0 < len(path) <= 512
        and all(part not in ("", ".", "..") and len(part.encode("utf-8", "replace")) <= 255 for part in parts)
        and not any(
            character in '\\:*?"<>|' or ord(character) < 32 or ord(character) == 127 for character in path
        )
    )


def shorten(name: object, most: int = 80) -> str:
    """A name as it may stand in a message: quoted, escaped, and never longer than a line."""
    text = str(name)
    return repr(text) if len(text) <= most else f"{text[: most - 20]!r}… ({len(text):,} characters)"


def some(names: Iterable[str], most: int = 8) -> str:
    """The first few names, for a message."""
    found = list(names)
    rest = f" and {len(found) - most} more" if len(found) > most else ""
    return (", ".join(found[:most]) + rest) or "nothing"
