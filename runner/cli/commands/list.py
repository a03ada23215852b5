"""`diptych list`: the models on this machine."""

import argparse
from dataclasses import asdict
from typing import Any

from runner.library import Installed, Library, installed
from runner.terminal import ago, paragraph, print_json, stamp, table, warn
from runner.units import show_size

# The suffix of most class names, left out to save space.
PIPELINE = "Pipeline"


def run(options: argparse.Namespace) -> int:
    library = installed(options.configuration.aliases)
    if options.json:
        print_json(as_json(library))
        return 0
    models = [model for model in library.models if options.all or model.fault is None]
    if models:
        print(table(("NAME", "MAKES", "TYPE", "SIZE", "MODIFIED"), map(_row, models)))
    _print_faults(library, options.all)
    for warning in library.warnings if options.all else ():
        warn(warning)
    return 0


def as_json(library: Library) -> dict[str, Any]:
    """The list for scripts, with ISO 8601 times."""
    models = [asdict(model) | {"modified": stamp(model.modified)} for model in library.models]
    return {"models": models, "warnings": list(library.warnings)}


def _row(model: Installed) -> tuple[str, ...]:
    aliases = f" ({', '.join(model.aliases)})" if model.aliases else ""
    return (
        model.name + aliases,
        model.mode or "?",
        model.type.removesuffix(PIPELINE) or "?",
        show_size(model.bytes),
        ago(model.modified),
    )


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
    elif not library.models:
        print("there are no models on this machine; `diptych pull owner/name` downloads one")
