"""Removing a model from this machine: looked at first, done after. What other models share stays."""

from runner.errors import ModelNotFound, ModelNotSupported
from runner.library.hub import plan_hub
from runner.library.installed import Removal
from runner.library.ollama import plan_ollama
from runner.library.scan import installed, lookup
from runner.sources.base import shorten
from runner.sources.folder import find_folder
from runner.sources.name import ModelName


def plan_removal(name: str, *, folders: bool = True) -> Removal:
    """How a model would be removed; nothing is changed yet.

    From the hub's cache goes the one commit that the name means, from the Ollama store the manifest and the blobs that
    no other manifest needs. Folders are the user's own: they are refused with a ModelNotSupported; `folders=False` does
    not even look for them, for names that come from a network client.
    """
    parsed = ModelName.parse(name)
    model = None if parsed.is_path else lookup({model.name: model for model in installed().models}, name)
    if model is not None:
        return plan_ollama(model) if model.source == "ollama" else plan_hub(model)
    if folders and (folder := find_folder(parsed)):
        raise ModelNotSupported(
            f"{shorten(folder.folder, 300)} is a folder of yours, which is never removed here; delete it yourself"
        )
    raise ModelNotFound(
        f"no model {shorten(name)} on this machine; `diptych list --all` shows those there are"
    )
