"""Removing a model from this machine: looked at first, done after. What other models share stays."""

from collections.abc import Callable
from dataclasses import dataclass

from runner.errors import ModelNotFound, ModelNotSupported
from runner.library.installed import Installed
from runner.library.scan import installed, lookup
from runner.sources.base import shorten
from runner.sources.folder import find_folder


@dataclass(frozen=True)
class Removal:
    """What removing a model would do: `bytes` come free, the names in `also` go with it. `run` does it."""

    model: Installed
    bytes: int
    run: Callable[[], None]
    also: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def plan_removal(name: str, *, folders: bool = True) -> Removal:
    """How a model would be removed; nothing is changed yet.

    From the hub's cache goes the one commit that the name means, from the Ollama store the manifest and the blobs that
    no other manifest needs. Folders are the user's own: they are refused with a ModelNotSupported; `folders=False` does
    not even look for them, for names that come from a network client.
    """
    is_path = name.startswith(("/", "./", "../", "~", "folder:"))
    model = None if is_path else lookup({model.name: model for model in installed().models}, name)
    if model is not None:
        return _plan(model)
    if folders and (folder := find_folder(name.removeprefix("folder:"), forced=is_path)):
        raise ModelNotSupported(
            f"{shorten(folder.folder, 300)} is a folder of yours, which is never removed here; delete it yourself"
        )
    raise ModelNotFound(
        f"no model {shorten(name)} on this machine; `diptych list --all` shows those there are"
    )


def _plan(model: Installed) -> Removal:
    if model.source == "ollama":
        from runner.library.remove_ollama import plan_ollama

        return plan_ollama(model)
    # Imported here: the hub's client takes longer to load than everything else together.
    from runner.library.remove_hub import plan_hub

    return plan_hub(model)
