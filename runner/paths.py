"""The user's folders that Diptych writes to."""

import os
import stat
from pathlib import Path


def cache_folder() -> Path:
    """For files that can be made again: DIPTYCH_CACHE, or diptych in the user's cache folder."""
    if path := os.environ.get("DIPTYCH_CACHE"):
        return Path(os.path.expanduser(path))
    return _folder("XDG_CACHE_HOME", "~/.cache")


def state_folder() -> Path:
    """For files that outlive a process: `$XDG_STATE_HOME/diptych`, else `~/.local/state/diptych`."""
    return _folder("XDG_STATE_HOME", "~/.local/state")


def make_private(folder: Path) -> None:
    """Make a folder inside the cache folder that only its user can write to; raises OSError when that is not so.

    For files that are executed: neither the folder nor its parents up to the cache folder may belong to another user, be
    writable for others, or be a link.
    """
    root = cache_folder()
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_private(root, is_root=True)
    place = root
    for part in folder.relative_to(root).parts:
        place /= part
        place.mkdir(mode=0o700, exist_ok=True)
        _check_private(place)


def _check_private(place: Path, is_root: bool = False) -> None:
    """The cache folder itself is the user's choice: it may be a link, or writable for a group."""
    status = place.stat() if is_root else place.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise OSError(f"{place} is a link; a folder is needed")
    if not hasattr(os, "getuid"):
        return  # on Windows a user's profile is private, and modes mean nothing
    remedy = "remove it, or set DIPTYCH_CACHE to a folder of your own"
    if status.st_uid != os.getuid():
        raise OSError(f"{place} belongs to another user (id {status.st_uid}); {remedy}")
    if status.st_mode & (stat.S_IWOTH if is_root else stat.S_IWOTH | stat.S_IWGRP):
        raise OSError(
            f"{place} can be written by other users (mode {stat.S_IMODE(status.st_mode):o}); {remedy}"
        )


def _folder(variable: str, otherwise: str) -> Path:
    return Path(os.path.expanduser(os.environ.get(variable) or otherwise)) / "diptych"
