"""`diptych show`: one model, what it is, and what is known of it on this machine."""

import argparse
from collections.abc import Mapping
from dataclasses import asdict

from runner.config import Config
from runner.inspect.detect import detect, render
from runner.library import Installed, entry_of
from runner.sources import ModelFiles, find
from runner.sources.folder import FolderFiles
from runner.sources.ollama_store import store_root
from runner.terminal import ago, print_json, stamp


def run(options: argparse.Namespace) -> int:
    config: Config = options.configuration
    files = find(options.model)
    detection = detect(files)
    here = entry_of(files, config.aliases)
    settings = config.model(options.model)
    place = _place(files)
    if options.json:
        found = {"path": place, "digest": here.digest, "modified": stamp(here.modified)} if here else {}
        aliases = list(here.aliases) if here else []
        print_json(asdict(detection) | {"local": found or None, "aliases": aliases, "settings": settings})
        return 0
    print(render(detection))
    for label, value in _rows(options.model, here, place, settings):
        print(f"  {label:<10}  {value}")
    return 0


def _place(files: ModelFiles) -> str | None:
    if isinstance(files, FolderFiles):
        return str(files.folder)
    return str(store_root()) if files.source == "ollama" else None


def _rows(
    name: str, here: Installed | None, place: str | None, settings: Mapping[str, object]
) -> list[tuple[str, str]]:
    if here is None:
        rows = [("here", f"no; `diptych pull {name}` brings it")]
    else:
        rows = [("here", f"{place}, {ago(here.modified)}")]
        rows += [("aliases", ", ".join(here.aliases))] if here.aliases else []
    return rows + [("setting", f"{key} = {value}") for key, value in settings.items()]
