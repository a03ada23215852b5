"""What every source of a model can do: list its files, read its JSON, declare its tensors, fetch it."""

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
from models.files import INDEXES, LocalModel
from runner.errors import ModelNotSupported
from runner.sources.name import Source

# The largest JSON of a model that is read here is the index of its shards, a few MiB.
JSON_LIMIT = 32 * 1024**2

Progress = Callable[[int, int], None]


class ModelMode(StrEnum):
    """What a model produces."""

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
        """The model's location, for messages: `folder /models/x`, `hub repo owner/name`."""

    @abstractmethod
    def listing(self) -> Mapping[str, int]:
        """Every file of the model and its bytes."""

    @abstractmethod
    def _read(self, path: str) -> bytes:
        """The bytes of a listed file; raises OSError when it cannot be read."""

    @abstractmethod
    def weights(self, component: str) -> tuple[str, ...]:
        """The safetensors files of a component ("" for a language model), in the order they load."""

    @abstractmethod
    def tensors(self, component: str) -> dict[str, TensorInfo]:
        """Name, dtype, shape and bytes of each tensor of a component, without loading any."""

    @abstractmethod
    def fetch(self, mode: ModelMode, progress: Progress | None = None) -> LocalModel:
        """The model ready to load: downloads the missing files that the mode needs, calling `progress(done, total)`
        with bytes meanwhile."""

    @property
    def index(self) -> str | None:
        """The file that lists a picture model's parts; None: it is not a picture model."""
        return next((name for name in INDEXES if name in self.listing()), None)

    def read_index(self) -> dict[str, Any] | None:
        return None if self.index is None else self.read_json(self.index)

    def adapters(self) -> tuple[str, ...]:
        """The adapters that belong to the model, for its description."""
        return ()

    def folders(self) -> list[str]:
        """The top-level folders of the model."""
        return sorted({path.split("/")[0] for path in self.listing() if path.count("/") == 1})

    def blindness(self) -> str:
        """Why a language model does not see pictures, though it has files to see with; "" where nothing stands against it."""
        return ""

    def declared_quantization(self, component: str) -> set[str]:
        """The quantization that the files of a component declare (`int4`, `nvfp4`), if any."""
        return set()

    def read_json(self, path: str) -> dict[str, Any] | None:
        """A JSON object of the model; None when there is no such file. Raises ModelNotSupported, with the file's name,
        when it is too large, cannot be read or holds anything else."""
        raw = self._read_whole(path)
        return None if raw is None else parse_object(raw, f"{path} in {self.place}")

    def read_text(self, path: str) -> str | None:
        """A text file of the model; None when there is no such file. Raises as `read_json` does."""
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
        label = f"{path} in {self.place}"
        if size > JSON_LIMIT:
            raise ModelNotSupported(
                f"{label} is too large to be read: {size:,} bytes, at most {JSON_LIMIT:,}"
            )
        try:
            return self._read(path)
        except OSError as error:
            raise ModelNotSupported(f"{label} cannot be read: {error.strerror or error}") from error


def parse_object(raw: bytes, label: str) -> dict[str, Any]:
    """A JSON object; raises ModelNotSupported, in which `label` names the file."""
    if raw.startswith(codecs.BOM_UTF8):
        # The libraries that load the model cannot read it either; here the refusal is early and clear.
        raise ModelNotSupported(f"{label} begins with a byte order mark; it has to be UTF-8 without one")
    try:
        value = json.loads(raw.decode())
    except UnicodeDecodeError as error:
        raise ModelNotSupported(f"{label} is not UTF-8 text (byte {error.start})") from None
    except RecursionError:
        raise ModelNotSupported(f"{label} is nested too deeply to be read") from None
    except ValueError as error:
        raise ModelNotSupported(f"{label} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise ModelNotSupported(f"{label} is not a JSON object but {_json_type(value)}")
    return value


def _json_type(value: object) -> str:
    if value is None:
        return "null"
    names = {list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), type(value).__name__)


def tensor_header(path: Path) -> Header:
    """The header of a safetensors file; raises ModelNotSupported, which says what is wrong with it."""
    try:
        return read_header(path)
    except WeightsError as error:
        raise ModelNotSupported(str(error)) from error


def resolve_inside(path: Path, root: Path, label: str) -> Path:
    """A path with its links followed; raises OSError when they lead out of `root`, a resolved path that messages call
    `label`."""
    try:
        real = path.resolve(strict=True)
    except RuntimeError:  # before Python 3.13
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from None
    if not real.is_relative_to(root):
        raise OSError(errno.EXDEV, f"it is a link out of {label}", str(path))
    return real


def is_plain_path(path: str) -> bool:
    """Whether an untrusted path stays inside the model's folder, on any system: no `..`, not absolute, no drive, no
    backslash, no control character."""
    parts = path.split("/")
    return (
        0 < len(path) <= 512
        and all(part not in ("", ".", "..") and len(part.encode("utf-8", "replace")) <= 255 for part in parts)
        and not any(
            character in '\\:*?"<>|' or ord(character) < 32 or ord(character) == 127 for character in path
        )
    )


def shorten(name: object, limit: int = 80) -> str:
    """A name for a message: quoted, escaped, and never longer than a line."""
    text = str(name)
    return repr(text) if len(text) <= limit else f"{text[: limit - 20]!r}… ({len(text):,} characters)"


def some(names: Iterable[str], limit: int = 8) -> str:
    """The first few names, for a message."""
    listed = list(names)
    rest = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return (", ".join(listed[:limit]) + rest) or "nothing"
