"""A model in a folder."""

import os
import stat
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from models.checkpoint.safetensors import TensorInfo
from models.files import LocalModel, Shard, check_regular, read_regular
from runner.errors import ModelNotFound, ModelNotSupported
from runner.sources.base import JSON_LIMIT, ModelFiles, ModelMode, Progress, declared, shorten
from runner.sources.name import ModelName, Source
from runner.sources.required_files import wanted_files, weight_files

# A model has a few hundred files. More means that the folder is something else, such as a home directory.
MOST_FILES = 20_000


class FolderFiles(ModelFiles):
    """A checkpoint in a folder: its files, and those one folder down."""

    source: ClassVar[Source] = "folder"

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name)
        self.folder = folder

    @property
    def place(self) -> str:
        return f"folder {shorten(self.folder, 300)}"

    def listing(self) -> Mapping[str, int]:
        return self._listing

    @cached_property
    def _listing(self) -> dict[str, int]:
        return self.scan()

    def scan(self) -> dict[str, int]:
        """The files in the folder and one folder down, as they are now."""
        try:
            found, folders = _scan(self.folder, "")
            for name in folders:
                found |= _scan(self.folder / name, f"{name}/")[0]
                if len(found) > MOST_FILES:
                    raise ModelNotSupported(
                        f"{self.place} is no model: it has more than {MOST_FILES:,} files"
                    )
        except OSError as error:
            raise ModelNotSupported(f"{self.place} cannot be read: {error.strerror or error}") from error
        return found

    def _read(self, path: str) -> bytes:
        return read_regular(self.file(path), JSON_LIMIT)

    def file(self, path: str) -> Path:
        """Where a listed file lies; an OSError when it may not be read."""
        return self.folder / path

    def weights(self, component: str) -> tuple[str, ...]:
        return weight_files(self, component)

    def tensors(self, component: str) -> dict[str, TensorInfo]:
        found: dict[str, TensorInfo] = {}
        for path in self.weights(component):
            found |= declared(self._checked(path)).tensors
        return found

    def fetch(self, mode: ModelMode, progress: Progress | None = None) -> LocalModel:
        for path in wanted_files(self, mode):  # everything is here; what is incomplete is said now
            self._checked(path)
        return self.local()

    def _checked(self, path: str) -> Path:
        """A listed file that can be opened without waiting, or a ModelNotSupported that says why not."""
        try:
            file = self.file(path)
            check_regular(file)
        except OSError as error:
            raise ModelNotSupported(
                f"{path} in {self.place} cannot be read: {error.strerror or error}"
            ) from error
        return file

    def local(self) -> LocalModel:
        """The folder as a LocalModel."""
        return LocalModel(self.name, self.folder, self._shards)

    def _shards(self, component: str) -> tuple[Shard, ...]:
        return tuple(Shard(self._checked(path)) for path in self.weights(component))


def _scan(folder: Path, prefix: str) -> tuple[dict[str, int], list[str]]:
    """Files and folders right inside a folder. Hidden ones are no part of a model; broken links are listed, so
    that reading them can say what is wrong."""
    files: dict[str, int] = {}
    folders: list[str] = []
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                folders.append(entry.name)
            else:
                files[prefix + entry.name] = _size(entry)
    return files, folders


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """A folder where a JSON file belongs counts as that file, so that reading it can say what is wrong."""
    try:
        return entry.is_dir() and not entry.name.endswith(".json")
    except OSError:
        return False  # a link in a circle


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except OSError:
        return 0  # a broken link: reading it reports the reason


def find_folder(name: ModelName) -> FolderFiles | None:
    """The folder of that name; None when there is none and the name may mean something else."""
    if name.source not in (None, "folder") or not name.text:
        return None
    path = Path(os.path.expanduser(name.text))
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        if not name.is_path:
            return None
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a path"
        raise ModelNotFound(f"no model folder {shorten(name.text, 300)}: {reason}") from None
    if not stat.S_ISDIR(status.st_mode):
        raise ModelNotSupported(
            f"{shorten(name.text, 300)} is a file; a model is a folder with model_index.json or config.json and "
            "*.safetensors"
        )
    return FolderFiles(name.text, path.resolve())
