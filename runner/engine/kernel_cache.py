"""Where MLX keeps the kernels that it compiles on an NVIDIA card, for the next process.

Its own choice is the system's temporary folder: empty after a restart of the machine, and other users may write there
what we would run. On a processor it compiles nothing (`device.py`).
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
    """Name our folder to MLX, unless the user has named one. Call before MLX is imported."""
    if CACHE_VARIABLE in os.environ:
        return
    # Named nothing, MLX keeps kernels nowhere; without the variable it would take the temporary folder.
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
    """One for each MLX and kind of card: machines with other cards may share a home, and MLX looks at names alone."""
    backend = next((name for name in GPU_BACKENDS if is_installed(name)), None)
    card = card_architecture()
    if backend is None or card is None:
        return None
    return cache_folder() / "kernels" / f"{backend}-{metadata.version(backend)}-{card}"
