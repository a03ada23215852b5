"""All models of this machine, by every source: the hub's cache, the Ollama store, folders that aliases name."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from runner.errors import DiptychError
from runner.library.hub import hub_models, modified, shown
from runner.library.installed import Installed, Library, described
from runner.library.ollama import ollama_models
from runner.sources import ModelFiles
from runner.sources.folder import FolderFiles, find_folder
from runner.sources.hub import SnapshotFiles, parse_hub_name
from runner.sources.ollama import OllamaFiles
from runner.sources.ollama_store import parse_ollama_name

T = TypeVar("T")


def installed(aliases: Mapping[str, str] | None = None) -> Library:
    """The models on this machine, by name. Reads names and JSON only, and nothing outside the stores and the folders
    that `aliases` (alias to name) name. What is broken is listed with its fault, or is a warning."""
    warnings: list[str] = []
    found = {model.name: model for model in (*hub_models(warnings), *ollama_models(warnings))}
    for alias, name in sorted((aliases or {}).items()):
        model = lookup(found, name) or _folder(name, warnings)
        if model is not None:
            found[model.name] = replace(model, aliases=(*model.aliases, alias))
    ordered = sorted(found.values(), key=lambda model: model.name.lower())
    return Library(tuple(ordered), tuple(warnings))


def lookup(found: Mapping[str, T], name: str) -> T | None:
    """What stands under the name of a model, however that is written: with its prefix, or without the tag `latest`."""
    prefix, _, rest = name.partition(":")
    plain = rest if prefix in ("hf", "ollama", "folder") else name
    hub = parse_hub_name(plain, forced=prefix == "hf") if prefix != "ollama" else None
    if hub is not None and shown(hub) in found:
        return found[shown(hub)]
    ollama = parse_ollama_name(plain) if prefix != "hf" else None
    return found.get(str(ollama)) if ollama is not None else None


def _folder(name: str, warnings: list[str]) -> Installed | None:
    try:
        files = find_folder(name.removeprefix("folder:"), forced=name.startswith("folder:"))
        return None if files is None else folder_model(files)
    except DiptychError as error:
        warnings.append(error.message)
        return None


def folder_model(files: FolderFiles) -> Installed:
    """A model in a folder."""
    size = sum(files.listing().values())
    return described(Installed(str(files.folder), "folder", size, modified(files.folder)), files)


def entry_of(files: ModelFiles, aliases: Mapping[str, str] | None = None) -> Installed | None:
    """The entry of a model that was found; None when it is not on this machine (yet)."""
    named = {model.name: model for model in installed(aliases).models}
    if isinstance(files, SnapshotFiles | OllamaFiles):
        return lookup(named, files.name)
    if isinstance(files, FolderFiles):
        return named.get(str(files.folder)) or folder_model(files)
    return None
