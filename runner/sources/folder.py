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
from runner.sources.base import JSON_LIMIT, ModelFiles, ModelMode, Progress, shorten, tensor_header
from runner.sources.name import ModelName, Source
from runner.sources.required_files import required_files, weight_files

# A model has a few hundred files; more than this must be something else, such as a home directory.
MAX_FILES = 20_000


class FolderFiles(ModelFiles):
    """A checkpoint in a folder: its files, and those in its folders."""

    source: ClassVar[Source] = "folder"

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name)
        self.folder = folder

    @property
    def path(self) -> Path:
        return self.folder

    @property
    def place(self) -> str:
        return f"folder {shorten(self.folder, 300)}"

    def listing(self) -> Mapping[str, int]:
        return self._listing

    @cached_property
    def _listing(self) -> dict[str, int]:
        return self.scan()

    def scan(self) -> dict[str, int]:
        """The files in the folder and in its folders, as they are now."""
        try:
            files, folders = _scan(self.folder, "")
            for name in folders:
                files |= _scan(self.folder / name, f"{name}/")[0]
                if len(files) > MAX_FILES:
                    raise ModelNotSupported(
                        f"{self.place} is not a model: it has more than {MAX_FILES:,} files"
                    )
        except OSError as error:
            raise ModelNotSupported(f"{self.place} cannot be read: {error.strerror or error}") from error
        return files

    def _read(self, path: str) -> bytes:
        return read_regular(self.file(path), JSON_LIMIT)

    def file(self, path: str) -> Path:
        """The path of a listed file; raises OSError when it may not be read."""
        return self.folder / path

    def weights(self, component: str) -> tuple[str, ...]:
        return weight_files(self, component)

    def tensors(self, component: str) -> dict[str, TensorInfo]:
        tensors: dict[str, TensorInfo] = {}
        for path in self.weights(component):
            tensors |= tensor_header(self._checked(path)).tensors
        return tensors

    def fetch(self, mode: ModelMode, progress: Progress | None = None) -> LocalModel:
        for path in required_files(self, mode):  # nothing to download, but missing files are reported now
            self._checked(path)
        return self.local()

    def _checked(self, path: str) -> Path:
        """A listed file that can be opened without waiting; raises ModelNotSupported, which says why not."""
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
    """The files and folders in a folder. Hidden ones are skipped; broken links are listed, so that reading them reports
    what is wrong."""
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
    """A folder with the name of a JSON file counts as that file, so that reading it reports what is wrong."""
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
            "*.safetensors, or a *.gguf file"
        )
    return FolderFiles(name.text, path.resolve())
