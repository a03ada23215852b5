"""`diptych show`: what a model is, where it is stored and how it is configured."""

import argparse
from collections.abc import Mapping
from dataclasses import asdict

from runner.cli.commands.detect import render
from runner.config import Config
from runner.inspect.detect import detect
from runner.library import Installed, entry_of
from runner.sources import ModelFiles, find
from runner.sources.folder import FolderFiles
from runner.sources.gguf import GGUFFiles
from runner.sources.ollama_store import store_root
from runner.terminal import ago, print_json, stamp


def run(options: argparse.Namespace) -> int:
    config: Config = options.configuration
    files = find(options.model)
    detection = detect(files)
    entry = entry_of(files, config.aliases)
    settings = config.model(options.model)
    place = _place(files)
    if options.json:
        local = {"path": place, "digest": entry.digest, "modified": stamp(entry.modified)} if entry else None
        aliases = list(entry.aliases) if entry else []
        print_json(asdict(detection) | {"local": local, "aliases": aliases, "settings": settings})
        return 0
    print(render(detection))
    for label, value in _rows(options.model, entry, place, settings):
        print(f"  {label:<10}  {value}")
    return 0


def _place(files: ModelFiles) -> str | None:
    if isinstance(files, FolderFiles):
        return str(files.folder)
    if isinstance(files, GGUFFiles) and files.source != "ollama" and files.paths[0].is_absolute():
        return str(files.paths[0])
    return str(store_root()) if files.source == "ollama" else None


def _rows(
    name: str, entry: Installed | None, place: str | None, settings: Mapping[str, object]
) -> list[tuple[str, str]]:
    if entry is None:
        rows = [("stored", f"not on this machine; `diptych pull {name}` downloads it")]
    else:
        rows = [("stored", f"{place}, {ago(entry.modified)}")]
        rows += [("aliases", ", ".join(entry.aliases))] if entry.aliases else []
    return rows + [("setting", f"{key} = {value}") for key, value in settings.items()]
