"""The folders that Diptych and what it uses write to: whether they can be written, how much room there is, whose they are."""

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
LITTLE = 10 * GIB  # where models are downloaded to
SMALLEST = GIB // 4  # anywhere else


def folders() -> Iterator[Finding]:
    from runner.sources.hub import cache_folder as hub_folder
    from runner.sources.ollama_store import store_root

    yield _folder("hub's cache", hub_folder(), LITTLE)
    yield _folder("Ollama store", store_root(), 0, needed=False)
    yield _folder("Diptych's cache", cache_folder(), SMALLEST)
    yield _folder("Diptych's state", state_folder(), 0)
    yield _folder("temporary files", Path(tempfile.gettempdir()), SMALLEST)
    for name, path in kernel_folders():
        yield _private(name, path)


def kernel_folders() -> Iterator[tuple[str, Path]]:
    """Where compiled kernels lie, which are run by every process that finds them."""
    stated = os.environ.get(CACHE_VARIABLE)
    yield "compiled kernels", Path(stated) if stated else cache_folder() / "kernels"


def _folder(name: str, path: Path, room: int, needed: bool = True) -> Finding:
    """`needed`: whether anything is ever written there by us."""
    there = path.is_dir()
    if not needed and not there:
        return Finding(SECTION, name, Status.OK, f"{path}: not there")
    place = _existing(path)
    free = shutil.disk_usage(place).free
    told = f"{path}{'' if there else ' (will be made)'}, {show_size(free)} free"
    if not place.is_dir() or (needed and not os.access(place, os.W_OK | os.X_OK)):
        return Finding(
            SECTION, name, Status.FAIL, f"{told}; {place} cannot be written to",
            "make it writable for this user, or name another folder (docs/commands.md lists the variables)",
        )  # fmt: skip
    if not os.access(place, os.R_OK | os.X_OK):
        return Finding(
            SECTION, name, Status.WARN, f"{told}; {place} cannot be read", "make it readable for this user"
        )
    if free < room:
        return Finding(
            SECTION, name, Status.WARN, f"{told}, which is little", "make room, or name another folder"
        )
    return Finding(SECTION, name, Status.OK, told)


def _private(name: str, path: Path) -> Finding:
    """What others could write there would run as this user."""
    try:
        about = path.stat()
    except FileNotFoundError:
        return Finding(SECTION, name, Status.OK, f"{path}: none yet")
    if not hasattr(os, "getuid"):
        return Finding(SECTION, name, Status.OK, str(path))
    wrong = []
    if about.st_uid != os.getuid():
        wrong.append(f"it belongs to user {about.st_uid}")
    if about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        wrong.append(f"others may write to it (mode {stat.S_IMODE(about.st_mode):o})")
    if wrong:
        return Finding(
            SECTION, name, Status.FAIL, f"{path}: {' and '.join(wrong)}",
            f"what lies there is run as you: remove it, or make it yours alone (chmod 700 {path})",
        )  # fmt: skip
    return Finding(SECTION, name, Status.OK, f"{path}, yours alone")


def _existing(path: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    return next(place for place in (path, *path.parents) if place.exists())
