"""`diptych list`: the models on this machine."""

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from runner.cli.model_names import shown
from runner.config import Config
from runner.inspect.sample import PATHS
from runner.library import Installed, Library, installed
from runner.library.adapters import installed_adapters
from runner.library.facts import capabilities
from runner.sources.adapters import AdapterSource
from runner.terminal import ago, paragraph, print_json, stamp, table, warn
from runner.units import show_size

# The suffix of most class names, left out to save space.
PIPELINE = "Pipeline"


def run(options: argparse.Namespace) -> int:
    config: Config = options.configuration
    if options.loras:
        return _list_adapters(config, options.json)
    library = installed(config.aliases)
    if options.names:
        print(*sorted({*_names(library), *PATHS}), sep="\n")
        return 0
    if options.json:
        print_json(as_json(library))
        return 0
    if all(model.fault is not None for model in library.models):
        library = installed({**PATHS, **config.aliases})
    models = [model for model in library.models if options.all or model.fault is None]
    if models:
        print(table(("NAME", "MAKES", "TYPE", "SIZE", "MODIFIED"), map(_row, models)))
    _print_faults(library, options.all)
    for warning in library.warnings if options.all else ():
        warn(warning)
    return 0


def _list_adapters(config: Config, as_json: bool) -> int:
    folder = config.serve["loras"].value
    adapters = installed_adapters(AdapterSource(folder))
    if as_json:
        print_json({"loras": [asdict(adapter) for adapter in adapters]})
        return 0
    good = [adapter for adapter in adapters if adapter.fault is None]
    if good:
        print(
            table(
                ("NAME", "FOR", "SIZE"), ((one.name, one.model or "?", show_size(one.bytes)) for one in good)
            )
        )
    for adapter in adapters:
        if adapter.fault is not None:
            warn(f"{adapter.name}: {adapter.fault}")
    if not adapters:
        where = f"in {folder}" if folder else "(set loras in the configuration to a folder of them)"
        print(f"there are no adapters {where}; `diptych draw --lora owner/name` downloads one")
    return 0


def _names(library: Library) -> Iterator[str]:
    for model in library.models:
        if model.fault is None:
            yield from model.aliases if model.source == "folder" else (model.name, *model.aliases)


def as_json(library: Library) -> dict[str, Any]:
    """The list for scripts, with ISO 8601 times."""
    models = [asdict(model) | {"modified": stamp(model.modified)} for model in library.models]
    return {"models": models, "warnings": list(library.warnings)}


def _row(model: Installed) -> tuple[str, ...]:
    return (
        shown(model.name, model.aliases),
        _makes(model),
        model.type.removesuffix(PIPELINE) or "?",
        show_size(model.bytes),
        ago(model.modified),
    )


def _makes(model: Installed) -> str:
    """What it makes, and whether it sees pictures."""
    if "vision" in capabilities(model):
        return f"{model.mode}, sees"
    return model.mode or "?"


def _print_faults(library: Library, details: bool) -> None:
    broken = [model for model in library.models if model.fault is not None]
    if details and broken:
        print("\nCannot be run:")
        for model in broken:
            print(paragraph(f"{model.name}: {model.fault}", indent="  "))
    elif broken:
        more = " more" if len(broken) < len(library.models) else ""
        models = "model" if len(broken) == 1 else "models"
        print(f"{len(broken)}{more} {models} cannot be run; `diptych list --all` shows why")
    elif all(model.name in PATHS.values() for model in library.models):
        samples = "these are Diptych's samples" if library.models else "there are no models on this machine"
        print(f"{samples}; `diptych pull owner/name` downloads a model")
