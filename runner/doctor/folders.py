"""The folders that Diptych and its libraries write to: whether they are writable, how much room there is, who owns them."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from models.kernels import CACHE_VARIABLE
from runner.doctor.findings import Finding, Status
from runner.paths import cache_folder, state_folder
from runner.units import GIB, show_size

SECTION = "folders"
MODELS_ROOM = 10 * GIB  # for downloads
ROOM = GIB // 4  # elsewhere


def folders() -> Iterator[Finding]:
    from runner.sources.hub import cache_folder as hub_folder
    from runner.sources.ollama_store import store_root

    yield _folder("hub's cache", hub_folder(), MODELS_ROOM)
    yield _folder("Ollama store", store_root(), 0, needed=False)
    yield _folder("Diptych's cache", cache_folder(), ROOM)
    yield _folder("Diptych's state", state_folder(), 0)
    yield _folder("temporary files", Path(tempfile.gettempdir()), ROOM)
    for name, path in kernel_folders():
        yield _private(name, path)


def kernel_folders() -> Iterator[tuple[str, Path]]:
    """The caches of compiled kernels, which every process loads and runs."""
    variable = os.environ.get(CACHE_VARIABLE)
    yield "compiled kernels", Path(variable) if variable else cache_folder() / "kernels"


def _folder(name: str, path: Path, room: int, needed: bool = True) -> Finding:
    """`needed`: whether Diptych writes to it."""
    exists = path.is_dir()
    if not needed and not exists:
        return Finding(SECTION, name, Status.OK, f"{path}: does not exist")
    place = _existing(path)
    free = shutil.disk_usage(place).free
    detail = f"{path}{'' if exists else ' (will be created)'}, {show_size(free)} free"
    if not place.is_dir() or (needed and not os.access(place, os.W_OK | os.X_OK)):
        return Finding(
            SECTION, name, Status.FAIL, f"{detail}; {place} cannot be written to",
            "make it writable for this user, or name another folder (docs/commands.md lists the variables)",
        )  # fmt: skip
    if not os.access(place, os.R_OK | os.X_OK):
        return Finding(
            SECTION, name, Status.WARN, f"{detail}; {place} cannot be read", "make it readable for this user"
        )
    if free < room:
        return Finding(
            SECTION, name, Status.WARN, f"{detail}, which is not much", "make room, or name another folder"
        )
    return Finding(SECTION, name, Status.OK, detail)


def _private(name: str, path: Path) -> Finding:
    """What others write there would run as this user."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return Finding(SECTION, name, Status.OK, f"{path}: none yet")
    if not hasattr(os, "getuid"):
        return Finding(SECTION, name, Status.OK, str(path))
    wrong = []
    if status.st_uid != os.getuid():
        wrong.append(f"it belongs to user {status.st_uid}")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        wrong.append(f"others may write to it (mode {stat.S_IMODE(status.st_mode):o})")
    if wrong:
        return Finding(
            SECTION, name, Status.FAIL, f"{path}: {' and '.join(wrong)}",
            f"its files are run as you: remove the folder, or make it yours alone (chmod 700 {path})",
        )  # fmt: skip
    return Finding(SECTION, name, Status.OK, f"{path}, yours alone")


def _existing(path: Path) -> Path:
    """The folder itself, or its nearest parent that exists."""
    return next(place for place in (path, *path.parents) if place.exists())
