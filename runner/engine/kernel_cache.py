"""Where MLX caches the kernels that it compiles on an NVIDIA card.

By default this is the system's temporary folder, which is emptied when the machine restarts, and where other users may put
kernels for us to run. On a CPU MLX compiles nothing (`device.py`).
"""

import logging
import os
from importlib import metadata
from pathlib import Path

from models.kernels import CACHE_VARIABLE
from runner.hardware import GPU_BACKENDS, card_architecture, is_installed
from runner.paths import cache_folder, make_private

log = logging.getLogger("diptych.device")


def keep_kernels() -> None:
    """Set MLX's cache to our folder, unless the user has set one. Call before MLX is imported."""
    if CACHE_VARIABLE in os.environ:
        return
    # With an empty value MLX caches nothing; without the variable it uses the temporary folder.
    os.environ[CACHE_VARIABLE] = ""
    folder = _folder()
    if folder is None:
        return
    try:
        make_private(folder)
    except OSError as error:
        log.warning("kernels will be compiled again by the next process: %s", error)
    else:
        os.environ[CACHE_VARIABLE] = str(folder)


def _folder() -> Path | None:
    """One per version of MLX and kind of card: several machines may share a home, and MLX compares names only."""
    backend = next((name for name in GPU_BACKENDS if is_installed(name)), None)
    card = card_architecture()
    if backend is None or card is None:
        return None
    return cache_folder() / "kernels" / f"{backend}-{metadata.version(backend)}-{card}"
