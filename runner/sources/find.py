"""A model's name to its files: a folder, the hub, the Ollama store, in that order."""

from runner.errors import HubUnreachable, ModelNotFound
from runner.sources.base import ModelFiles, shorten
from runner.sources.folder import find_folder
from runner.sources.hub import HubName, cached_snapshot, offline, offline_error, parse_hub_name
from runner.sources.ollama import find_ollama
from runner.sources.ollama_store import store_root
from runner.sources.required_files import incomplete

# As long as the longest path that Linux opens.
LONGEST_NAME = 4096
FORMS = "a folder, a hub repo (owner/name or owner/name@revision), or a name in the Ollama store (name or name:tag)"


def find(name: str, *, folders: bool = True) -> ModelFiles:
    """The files of the model that `name` means: a folder, a hub repo id, or a name in the Ollama store.

    A prefix (`folder:`, `hf:`, `ollama:`) forces one. Reads names and JSON only. What is on this machine comes before
    what would have to be downloaded: the hub is asked when neither its cache nor the Ollama store has the model. Raises
    ModelNotFound when there is no such model anywhere. `folders=False` leaves folders out: for names that come from a
    network client.
    """
    return find_here(name, folders=folders) or ask_hub(name)


def find_here(name: str, *, folders: bool = True) -> ModelFiles | None:
    """As `find`, but without the network: None for a name that only the hub may know."""
    _check(name)
    prefix, _, rest = name.partition(":")
    if prefix == "hf":
        return _cached(_forced_hub(rest))
    if prefix == "ollama":
        return _forced_ollama(rest)
    if prefix == "folder" and rest and folders:
        return find_folder(rest, forced=True) or _nowhere(name)
    return (find_folder(name) if folders else None) or _by_name(name)


def ask_hub(name: str) -> ModelFiles:
    """What the hub has under a name for which `find_here` found nothing."""
    prefix, _, rest = name.partition(":")
    hub = _forced_hub(rest) if prefix == "hf" else parse_hub_name(name)
    return _remote(hub) if hub else _nowhere(name)


def _by_name(name: str) -> ModelFiles | None:
    hub = parse_hub_name(name)
    found = (_cached(hub) if hub else None) or find_ollama(name)
    return found or (None if hub else _nowhere(name))


def _forced_hub(name: str) -> HubName:
    hub = parse_hub_name(name, forced=True)
    if hub is None:
        raise ModelNotFound(
            f"{shorten(name)} is no hub repo; after hf: comes owner/name or owner/name@revision"
        )
    return hub


def _forced_ollama(name: str) -> ModelFiles:
    found = find_ollama(name)
    if found is None:
        raise ModelNotFound(
            f"no model {shorten(name)} in the Ollama store {store_root()}; after ollama: comes name, name:tag or "
            "namespace/name:tag, as `ollama list` shows them"
        )
    return found


def _cached(hub: HubName) -> ModelFiles | None:
    snapshot = cached_snapshot(hub)
    return snapshot if snapshot and not incomplete(snapshot) else None


def _remote(hub: HubName) -> ModelFiles:
    """The repo on the hub; when the hub cannot be reached, an incomplete copy says what it lacks."""
    try:
        if offline():
            raise offline_error(hub)
        # Imported here: the hub's client takes longer to load than everything else together.
        from runner.sources.hub_api import RemoteFiles

        return RemoteFiles(hub)
    except HubUnreachable as error:
        snapshot = cached_snapshot(hub)
        if snapshot is None:
            raise
        lacks = incomplete(snapshot, strict=False)
        if lacks is None:
            return snapshot
        raise HubUnreachable(f"{error.message}. The copy in the cache cannot be used: {lacks}") from error


def _check(name: str) -> None:
    if not isinstance(name, str) or not name.strip():
        raise ModelNotFound(f"a model is named by {FORMS}; the name is empty")
    if len(name) > LONGEST_NAME:
        raise ModelNotFound(f"a model's name has at most {LONGEST_NAME:,} characters: {shorten(name)}")
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        raise ModelNotFound(f"a model's name has no control characters: {shorten(name)}")


def _nowhere(name: str) -> ModelFiles:
    raise ModelNotFound(f"no model {shorten(name)}: looked for {FORMS} at {store_root()}")
