"""The user's folders that Diptych writes to."""

import os
from pathlib import Path

from models import private_folder


def cache_folder() -> Path:
    """For files that can be made again: DIPTYCH_CACHE, or diptych in the user's cache folder."""
    if path := os.environ.get("DIPTYCH_CACHE"):
        return Path(os.path.expanduser(path))
    return _folder("XDG_CACHE_HOME", "~/.cache")


def state_folder() -> Path:
    """For files that outlive a process: `$XDG_STATE_HOME/diptych`, else `~/.local/state/diptych`."""
    return _folder("XDG_STATE_HOME", "~/.local/state")


def make_private(folder: Path) -> None:
    """Make a folder inside the cache folder that only its user can write to; raises OSError when that is not so."""
    private_folder.make_private(
        cache_folder(), folder, "remove it, or set DIPTYCH_CACHE to a folder of your own"
    )


def _folder(variable: str, otherwise: str) -> Path:
    return Path(os.path.expanduser(os.environ.get(variable) or otherwise)) / "diptych"
