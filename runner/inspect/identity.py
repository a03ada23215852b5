"""What names a picture model in the pictures that it makes: these are shared, so it is not a path."""

import logging
from pathlib import Path
from typing import NamedTuple

from models.checkpoint.digest import model_digest
from models.files import LocalModel
from runner.sources import ModelFiles

log = logging.getLogger("diptych.image")


class ModelIdentity(NamedTuple):
    name: str
    hash: str = ""


def identify(files: ModelFiles, local: LocalModel) -> ModelIdentity:
    """The last part of a folder's path, or the name on the hub or in the Ollama store; and what its weights hash to."""
    name = Path(local.folder).resolve().name if files.source == "folder" else files.name
    try:
        return ModelIdentity(name, model_digest(local, files.folders()))
    except OSError as error:
        log.warning("pictures will not name the weights that they were made with: %s", error)
        return ModelIdentity(name)
