"""`diptych list`: the models on this machine."""

import argparse
from dataclasses import asdict
from typing import Any

from runner.library import Installed, Library, installed
from runner.terminal import ago, paragraph, print_json, stamp, table, warn
from runner.units import show_size

# What most class names end in, and what a column can do without.
PIPELINE = "Pipeline"


def run(options: argparse.Namespace) -> int:
    library = installed(options.configuration.aliases)
    if options.json:
        print_json(as_json(library))
        return 0
    shown = [model for model in library.models if options.all or model.fault is None]
    if shown:
        print(table(("NAME", "MAKES", "TYPE", "SIZE", "MODIFIED"), map(_row, shown)))
    _print_faults(library, options.all)
    for warning in library.warnings if options.all else ():
        warn(warning)
    return 0


def as_json(library: Library) -> dict[str, Any]:
    """What scripts read. Times are ISO 8601."""
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


def _print_faults(library: Library, everything: bool) -> None:
    broken = [model for model in library.models if model.fault is not None]
    if everything and broken:
        print("\nNot to be run:")
        for model in broken:
            print(paragraph(f"{model.name}: {model.fault}", indent="  "))
    elif broken:
        some = f"{len(broken)} more cannot" if len(broken) < len(library.models) else f"{len(broken)} cannot"
        print(f"{some} be run; `diptych list --all` says why")
    elif not library.models:
        print("no models on this machine; `diptych pull owner/name` brings one from the hub")
