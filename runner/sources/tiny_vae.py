"""The tiny autoencoder of a picture model: the folder or hub repo that is chosen, or the usual repo where it is in the cache."""

from models.files import LocalModel
from runner.errors import DiptychError, ModelNotFound, ModelNotSupported
from runner.sources.base import ModelMode, shorten
from runner.sources.controlnets import checked, on_hub
from runner.sources.folder import find_folder
from runner.sources.hub import cached_snapshot
from runner.sources.name import ModelName, parse_hub_name

KIND = "AutoencoderTiny"


def find_tiny_vae(chosen: str | None, usual: str) -> LocalModel | None:
    """None: nothing is chosen, and the usual one is not on this machine. Downloads only what is chosen."""
    if chosen is None:
        return _usual(usual)
    name = ModelName.parse(chosen)
    folder = find_folder(name)
    try:
        if folder is not None:
            return checked(folder, KIND)
        if name.hub is not None:
            return on_hub(name.hub, KIND)
    except ModelNotSupported as error:
        raise ModelNotSupported(f"tiny_vae: {error.message}") from None
    raise ModelNotFound(f"tiny_vae: {shorten(chosen)} is neither a folder nor a hub repository (owner/name)")


def _usual(repo: str) -> LocalModel | None:
    hub = parse_hub_name(repo) if repo else None
    snapshot = cached_snapshot(hub) if hub is not None else None
    try:
        return None if snapshot is None else snapshot.fetch(ModelMode.TEXT)
    except DiptychError:
        return None  # unfinished: it was not asked for
