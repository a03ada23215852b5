"""Removes a model from this machine: planned first, then run. What other models share is kept."""

from runner.errors import ModelNotFound, ModelNotSupported
from runner.library.hub import plan_hub
from runner.library.installed import Removal
from runner.library.ollama import plan_ollama
from runner.library.scan import installed, lookup
from runner.sources.base import shorten
from runner.sources.folder import find_folder
from runner.sources.gguf import find_gguf
from runner.sources.name import ModelName


def plan_removal(name: str, *, folders: bool = True) -> Removal:
    """A plan to remove a model; changes nothing yet.

    In the hub's cache this removes the one commit that the name means, in the Ollama store the manifest and the blobs that
    no other manifest needs. Folders belong to the user: ModelNotSupported. `folders=False` does not even look for them:
    for names from network clients.
    """
    parsed = ModelName.parse(name)
    model = None if parsed.is_path else lookup({model.name: model for model in installed().models}, name)
    if model is not None:
        return plan_ollama(model) if model.source == "ollama" else plan_hub(model)
    if folders and (file := find_gguf(parsed)):
        raise ModelNotSupported(f"{file.place} is yours, which Diptych never removes; delete it yourself")
    if folders and (folder := find_folder(parsed)):
        raise ModelNotSupported(
            f"{shorten(folder.folder, 300)} is a folder of yours, which Diptych never removes; delete it yourself"
        )
    raise ModelNotFound(f"no model {shorten(name)} on this machine; `diptych list --all` lists them all")
