"""Adapters by name: files of a folder, files that the user gave, and hub repos. A name never becomes a path unchecked.

adapters = AdapterSource(folder="~/loras", files=["./mine.safetensors"])
adapters.find("style/ink")             # ~/loras/style/ink.safetensors
adapters.find("owner/name:v2")         # v2.safetensors of a hub repo
"""

import difflib
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.files import check_regular
from runner.errors import AdapterNotFound, BadRequest, DiptychError
from runner.sources.base import is_plain_path, resolve_inside, shorten, some
from runner.sources.hub import cached_snapshot, offline
from runner.sources.name import HubName, parse_hub_name

SUFFIX = ".safetensors"
MOST_FILES = 10_000
DEPTH = 4
# The usual names of a repo's only adapter, where it has other files beside.
USUAL = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors", "lora.safetensors")
LARGEST = 8 * 2**30
HASH_LENGTH = 12


@dataclass(frozen=True)
class FoundAdapter:
    name: str
    path: Path


class AdapterSource:
    """`folder`: its safetensors files go by their paths in it, without the suffix. `files`: each goes by its name."""

    def __init__(self, folder: str | None = None, files: Sequence[str] = ()) -> None:
        self._folder = Path(os.path.expanduser(folder)).absolute() if folder else None
        self._files = {Path(file).stem: Path(os.path.expanduser(file)).absolute() for file in files}
        self._hashes: dict[tuple[Path, int, int], str] = {}

    def listing(self) -> dict[str, Path]:
        """The adapters of the folder, and those that were given as files, by name."""
        return {**dict(self._in_folder()), **self._files}

    @property
    def bytes(self) -> int:
        """Of all files of the listing."""
        return sum(path.stat().st_size for path in self.listing().values() if path.is_file())

    def find(self, name: str) -> FoundAdapter:
        """AdapterNotFound names those that are alike."""
        plain = name.removesuffix(SUFFIX)
        here = self.listing()
        if plain in here:
            return FoundAdapter(plain, _checked(here[plain], plain))
        hub = _hub_name(name)
        if hub is not None:
            return FoundAdapter(name, _on_hub(name, *hub))
        raise AdapterNotFound(f"loras: there is no adapter {shorten(name)}{_alike(plain, here)}")

    def hash(self, path: Path) -> str:
        """The beginning of a file's SHA-256; computed once."""
        status = path.stat()
        key = (path, status.st_mtime_ns, status.st_size)
        if key not in self._hashes:
            with path.open("rb") as file:
                self._hashes[key] = hashlib.file_digest(file, "sha256").hexdigest()[:HASH_LENGTH]
        return self._hashes[key]

    def _in_folder(self) -> Iterator[tuple[str, Path]]:
        if self._folder is None:
            return
        count = 0
        for parent, folders, files in os.walk(self._folder):
            inside = Path(parent).relative_to(self._folder)
            if len(inside.parts) >= DEPTH:
                folders.clear()
            for file in sorted(files):
                path = (inside / file).as_posix()
                if file.endswith(SUFFIX) and is_plain_path(path) and (Path(parent) / file).is_file():
                    count += 1
                    if count > MOST_FILES:
                        return
                    yield path.removesuffix(SUFFIX), Path(parent) / file


def _checked(path: Path, name: str) -> Path:
    try:
        check_regular(path)
    except OSError as error:
        raise BadRequest(f"loras: {name} cannot be read: {error.strerror or error}") from None
    return path


def _alike(name: str, here: Iterable[str]) -> str:
    names = sorted(here)
    near = difflib.get_close_matches(name, names, 3, 0.5)
    if near:
        return f"; did you mean {' or '.join(near)}?"
    if names:
        return f"; there are {some(names)}"
    return "; none are in the folder of adapters (loras in the configuration), and it is not a hub repository (owner/name)"


# -- hub repos


def _hub_name(name: str) -> tuple[HubName, str] | None:
    """A repo, and the file in it ("": the one that it has): owner/name or owner/name:file."""
    repo, _, file = name.removeprefix("hf:").partition(":")
    hub = parse_hub_name(repo)
    return None if hub is None or (file and not is_plain_path(file)) else (hub, file)


def _on_hub(name: str, hub: HubName, file: str) -> Path:
    """From the cache, and otherwise downloaded."""
    snapshot = cached_snapshot(hub)
    if snapshot is not None:
        chosen = _choice(name, snapshot.listing(), file, required=offline())
        if chosen is not None:
            try:
                return resolve_inside(
                    snapshot.folder / chosen, snapshot.folder.parent.parent.resolve(), "the repo's folder"
                )
            except OSError as error:
                raise BadRequest(f"loras: {name} cannot be read: {error.strerror or error}") from None
    try:
        return _downloaded(name, hub, file)
    except DiptychError as error:
        if error.status == 404 and not isinstance(error, AdapterNotFound):
            raise AdapterNotFound(f"loras: {error.message}") from None
        raise


def _downloaded(name: str, hub: HubName, file: str) -> Path:
    # Imported late: the hub client takes longer to load than everything else together.
    from runner.sources.hub_api import RemoteFiles

    remote = RemoteFiles(hub)
    chosen = _choice(name, remote.listing(), file, required=True)
    if chosen is None:
        raise AssertionError("a required choice is made or is an error")
    if remote.listing()[chosen] > LARGEST:
        raise BadRequest(f"loras: {name} is too large for an adapter; {LARGEST >> 30} GiB are allowed")
    remote.download((chosen,))
    return remote.snapshot / chosen


def _choice(name: str, listing: Mapping[str, int], file: str, required: bool) -> str | None:
    """The adapter among a repo's files; None where it may be among those that are not on this machine."""
    files = sorted(path for path in listing if path.endswith(SUFFIX))
    if file:
        path = file.removesuffix(SUFFIX) + SUFFIX
        if path in files:
            return path
        if required:
            raise AdapterNotFound(f"loras: {shorten(name)} has no file {shorten(path)}{_alike(path, files)}")
        return None
    usual = next((path for path in USUAL if path in files), None)
    if usual or len(files) == 1:
        return usual or files[0]
    if not required:
        return None
    if not files:
        raise AdapterNotFound(f"loras: {shorten(name)} has no {SUFFIX} files")
    raise BadRequest(
        f"loras: {shorten(name)} has several files: {some(files)}; name one, as in {name}:{files[0].removesuffix(SUFFIX)}"
    )
