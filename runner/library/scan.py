"""All models on this machine: in the hub's cache, in the Ollama store, and in folders that have an alias."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from runner.errors import DiptychError, ModelNotSupported
from runner.library.hub import hub_models, hub_name, modified
from runner.library.installed import Installed, Library, described
from runner.library.ollama import ollama_models, ollama_name
from runner.sources import ModelFiles
from runner.sources.folder import FolderFiles, find_folder
from runner.sources.gguf import GGUFFiles, find_gguf
from runner.sources.hub import SnapshotFiles
from runner.sources.hub_cached_gguf import CachedGGUF
from runner.sources.name import HubName, ModelName
from runner.sources.ollama_model import OllamaModel

T = TypeVar("T")


def installed(aliases: Mapping[str, str] | None = None) -> Library:
    """The models on this machine, by name. Reads names and JSON only, in the stores and the folders that `aliases` (alias
    to name) point to. A broken model is listed with its fault, or is a warning."""
    warnings: list[str] = []
    models = {model.name: model for model in (*hub_models(warnings), *ollama_models(warnings))}
    for alias, name in sorted((aliases or {}).items()):
        model = lookup(models, name) or _folder(name, warnings)
        if model is not None:
            models[model.name] = replace(model, aliases=(*model.aliases, alias))
    ordered = sorted(models.values(), key=lambda model: model.name.lower())
    return Library(tuple(ordered), tuple(warnings))


def lookup(models: Mapping[str, T], name: str) -> T | None:
    """The entry of a model, in any spelling of its name: with its prefix, or without the tag `latest`."""
    parsed = ModelName.parse(name)
    spellings = [hub_name(parsed.hub)] if parsed.hub else []
    spellings += [ollama_name(parsed.ollama)] if parsed.ollama else []
    found = next((models[spelling] for spelling in spellings if spelling in models), None)
    return found or (_only_quantization(models, parsed.hub) if parsed.hub else None)


def _only_quantization(models: Mapping[str, T], hub: HubName) -> T | None:
    """The GGUF of a repo, whose quantization may be left out where there is one."""
    names = [name for name in models if name.startswith(f"{hub_name(hub)}:")] if not hub.quantization else []
    return models[names[0]] if len(names) == 1 else None


def _folder(name: str, warnings: list[str]) -> Installed | None:
    try:
        parsed = ModelName.parse(name)
        files = find_gguf(parsed) or find_folder(parsed)
        return None if files is None else folder_model(files)
    except DiptychError as error:
        warnings.append(error.message)
        return None


def folder_model(files: FolderFiles | GGUFFiles) -> Installed:
    """A model in a folder, or in a GGUF file."""
    model = Installed(str(files.path), "folder", 0, modified(files.path))
    try:
        model = replace(model, bytes=sum(files.listing().values()))
    except ModelNotSupported as error:
        return replace(model, fault=error.message)
    return described(model, files)


def entry_of(files: ModelFiles, aliases: Mapping[str, str] | None = None) -> Installed | None:
    """The entry of a model; None when it is not on this machine (yet)."""
    models = {model.name: model for model in installed(aliases).models}
    if isinstance(files, SnapshotFiles | OllamaModel | CachedGGUF):
        return lookup(models, files.name)
    if isinstance(files, FolderFiles | GGUFFiles) and files.source == "folder":
        return models.get(str(files.path)) or folder_model(files)
    return None
