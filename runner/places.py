"""Folders of the user's that several parts write to."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where what can be made again is kept: DIPTYCH_CACHE, or diptych in the user's cache folder."""
    if stated := os.environ.get("DIPTYCH_CACHE"):
        return Path(os.path.expanduser(stated))
    return _folder("XDG_CACHE_HOME", "~/.cache")


def state_folder() -> Path:
    """Where what outlives a process is kept: `$XDG_STATE_HOME/diptych`, else `~/.local/state/diptych`."""
    return _folder("XDG_STATE_HOME", "~/.local/state")


def _folder(variable: str, otherwise: str) -> Path:
    return Path(os.path.expanduser(os.environ.get(variable) or otherwise)) / "diptych"
