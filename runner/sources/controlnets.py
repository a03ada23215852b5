"""ControlNets by name: folders in the folder of ControlNets, and hub repos. A name never becomes a path unchecked.

nets = ControlNetSource("~/controlnets")
nets.find("canny")          # ~/controlnets/canny
nets.find("owner/name")     # from the hub's cache, and otherwise downloaded
"""

import os
from pathlib import Path

from models.checkpoint.digest import model_digest
from models.files import LocalModel
from runner.errors import AdapterNotFound, BadRequest, DiptychError, ModelNotSupported
from runner.sources.base import ModelFiles, ModelMode, is_plain_path, shorten, some
from runner.sources.folder import FolderFiles
from runner.sources.hub import cached_snapshot, offline
from runner.sources.name import HubName, parse_hub_name

CONFIG = "config.json"
KIND = "ControlNet"  # in the name of its class
DEPTH = 2  # of folders in the folder: owner/name
MOST = 1000
# Its files are those of a network without parts: a config and weights at the root.
MODE = ModelMode.TEXT


class ControlNetSource:
    def __init__(self, folder: str | None = None) -> None:
        self._folder = Path(os.path.expanduser(folder)).absolute() if folder else None

    def listing(self) -> dict[str, Path]:
        """Those of the folder, by their paths in it."""
        found: dict[str, Path] = {}
        if self._folder is None:
            return found
        for parent, folders, files in os.walk(self._folder):
            inside = Path(parent).relative_to(self._folder)
            name = inside.as_posix()
            if CONFIG in files and inside.parts and is_plain_path(name):
                found[name] = Path(parent)
                folders.clear()
            if len(inside.parts) >= DEPTH or len(found) >= MOST:
                folders.clear()
            folders.sort()
        return found

    def find(self, name: str) -> tuple[LocalModel, str]:
        """Its files and the hash of its weights. AdapterNotFound says what is there."""
        local = self._local(name)
        try:
            return local, model_digest(local, ("",))
        except OSError as error:
            raise BadRequest(f"controls: {shorten(name)} cannot be read: {error.strerror or error}") from None

    def _local(self, name: str) -> LocalModel:
        here = self.listing()
        hub = parse_hub_name(name.removeprefix("hf:"))
        try:
            if name in here:
                return checked(FolderFiles(name, here[name]), KIND)
            if hub is not None:
                return on_hub(hub, KIND)
        except DiptychError as error:
            if error.status == 404:
                raise AdapterNotFound(f"controls: {error.message}") from None
            if error.status == 400:
                raise BadRequest(f"controls: {error.message}") from None
            raise
        there = f"; there are {some(sorted(here))}" if here else (
            "; none are in the folder of ControlNets (controlnets in the configuration), and it is not a hub repository "
            "(owner/name)"
        )  # fmt: skip
        raise AdapterNotFound(f"controls: there is no ControlNet {shorten(name)}{there}")


def on_hub(hub: HubName, kind: str) -> LocalModel:
    """A network of that class from the cache, and otherwise downloaded."""
    snapshot = cached_snapshot(hub)
    if snapshot is not None:
        try:
            return checked(snapshot, kind)
        except ModelNotSupported:
            if offline():
                raise
    # Imported late: the hub client takes longer to load than everything else together.
    from runner.sources.hub_api import RemoteFiles

    return checked(RemoteFiles(hub), kind)


def checked(files: ModelFiles, kind: str) -> LocalModel:
    """Its files; what is something else is not downloaded."""
    name = str((files.read_json(CONFIG) or {}).get("_class_name", ""))
    if kind not in name:
        raise ModelNotSupported(
            f"{files.place} is no {kind} in the layout of diffusers: its {CONFIG} does not name such a class"
        )
    return files.fetch(MODE)
