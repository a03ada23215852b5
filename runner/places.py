"""Folders of the user's that several parts write to."""

import os
from pathlib import Path


def state_folder() -> Path:
    """Where what outlives a process is kept: `$XDG_STATE_HOME/diptych`, else `~/.local/state/diptych`."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(os.path.expanduser(base)) / "diptych"
