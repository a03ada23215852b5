"""The hub client's cache on this machine. Needs neither the network nor the client."""

import os
import re
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from models.files import read_regular
from runner.errors import HubUnreachable
from runner.sources.base import resolve_inside
from runner.sources.folder import FolderFiles
from runner.sources.name import HubName, Source

COMMIT = re.compile(r"[0-9a-f]{40}")


def cache_folder() -> Path:
    """The hub client's cache, by the environment variables that it reads."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if path := os.environ.get(variable):
            return _expand(path)
    home = os.environ.get("HF_HOME")
    if home is None:
        home = os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface")
    return _expand(home) / "hub"


def offline() -> bool:
    """Whether the user forbids the network."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in {"1", "ON", "YES", "TRUE"}


def offline_error(hub: HubName) -> HubUnreachable:
    return HubUnreachable(
        f"{hub} is not complete on this machine and HF_HUB_OFFLINE forbids the network; unset it to download the model"
    )


def repo_folder(hub: HubName) -> Path:
    return cache_folder() / f"models--{hub.repo.replace('/', '--')}"


class SnapshotFiles(FolderFiles):
    """One commit of a hub repo in the cache."""

    source: ClassVar[Source] = "hub"

    def __init__(self, hub: HubName, folder: Path) -> None:
        super().__init__(str(hub), folder)

    @property
    def place(self) -> str:
        return f"hub repo {self.name}"

    @cached_property
    def _listing(self) -> dict[str, int]:
        """Without links whose blob is gone: those files are downloaded again."""
        return {path: size for path, size in self.scan().items() if size or (self.folder / path).exists()}

    def file(self, path: str) -> Path:
        """Raises OSError for links that lead elsewhere than to the blobs of the repo."""
        repo = self.folder.parent.parent.resolve()
        return resolve_inside(self.folder / path, repo, "the repo's folder in the cache")


def cached_snapshot(hub: HubName) -> SnapshotFiles | None:
    """The snapshot of that revision in the cache, complete or not; None when there is none."""
    repo = repo_folder(hub)
    commit = hub.revision
    if not COMMIT.fullmatch(commit):
        try:
            commit = read_regular(repo / "refs" / hub.revision, 1024).decode().strip()
        except (OSError, UnicodeDecodeError):
            return None
    folder = repo / "snapshots" / commit
    return SnapshotFiles(hub, folder) if COMMIT.fullmatch(commit) and folder.is_dir() else None


def _expand(path: str) -> Path:
    return Path(os.path.expanduser(os.path.expandvars(path)))
