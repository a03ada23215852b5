"""Folders that only their user can write to."""

import os
import stat
from pathlib import Path


def make_private(root: Path, folder: Path, remedy: str) -> None:
    """Make a folder inside `root` that only its user can write to; raises OSError when that is not so.

    Neither the folder nor its parents up to the root may belong to another user, be writable for others, or be a link. The root is
    the user's choice: it may be a link, or writable for a group. `remedy` ends the message.
    """
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check(root, remedy, is_root=True)
    place = root
    for part in folder.relative_to(root).parts:
        place /= part
        place.mkdir(mode=0o700, exist_ok=True)
        _check(place, remedy)


def _check(place: Path, remedy: str, is_root: bool = False) -> None:
    status = place.stat() if is_root else place.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise OSError(f"{place} is a link; a folder is needed")
    if not hasattr(os, "getuid"):
        return  # on Windows a user's profile is private, and modes mean nothing
    if status.st_uid != os.getuid():
        raise OSError(f"{place} belongs to another user (id {status.st_uid}); {remedy}")
    if status.st_mode & (stat.S_IWOTH if is_root else stat.S_IWOTH | stat.S_IWGRP):
        raise OSError(
            f"{place} can be written by other users (mode {stat.S_IMODE(status.st_mode):o}); {remedy}"
        )
