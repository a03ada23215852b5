"""`diptych pull`: bring a model from the hub to this machine. What a cut left is continued."""

import argparse
import json
import sys

from runner.commands.progress import Progress, Style
from runner.commands.tables import warn
from runner.detect import unsupported
from runner.errors import BadRequest, ModelNotSupported
from runner.memory import show_size
from runner.mode import detect_model_type, mode_of
from runner.sources import ModelFiles
from runner.sources.base import shorten
from runner.sources.folder import find_folder
from runner.sources.hub import parse_hub_name
from runner.sources.selection import wanted_files


def run(options: argparse.Namespace) -> int:
    files = _on_the_hub(options.model)
    mode, type_name = mode_of(files), detect_model_type(files)
    # Said before gigabytes are on their way.
    if (reason := unsupported(mode, type_name)) and not options.force:
        raise ModelNotSupported(f"{files.place} cannot be run: {reason}; --force brings it all the same")
    size = sum(files.listing()[path] for path in wanted_files(files, mode))
    style: Style = "json" if options.json else "bar" if sys.stderr.isatty() else "lines"
    try:
        with Progress(f"{files.name}:", style) as progress:
            local = files.fetch(mode, progress)
    except KeyboardInterrupt:
        warn(f"stopped; `diptych pull {options.model}` continues where it was")
        raise
    if options.json:
        print(json.dumps({"name": files.name, "bytes": size, "path": str(local.folder)}))
    else:
        print(f"{files.name} is here, {show_size(size)}: {local.folder}")
    return 0


def _on_the_hub(name: str) -> ModelFiles:
    """The repo as it is on the hub now: pulling again brings what has changed."""
    prefix, _, rest = name.partition(":")
    if prefix == "ollama":
        raise BadRequest(
            f"models for the Ollama store come by `ollama pull {rest}`; pull takes hub repos, owner/name"
        )
    hub = parse_hub_name(rest if prefix == "hf" else name, forced=prefix == "hf")
    if hub is None:
        if find_folder(name):
            raise BadRequest(
                f"{shorten(name)} is a folder, and here already; pull takes hub repos, owner/name"
            )
        raise BadRequest(
            f"{shorten(name)} is no hub repo; pull takes owner/name or owner/name@revision (Ollama's: `ollama pull`)"
        )
    # Imported here: the hub's client takes longer to load than everything else together.
    from runner.sources.hub_remote import RemoteFiles

    return RemoteFiles(hub)
