"""From a model's name to its files: a folder, the hub's cache, the Ollama store, the hub, in that order."""

from runner.errors import HubUnreachable, ModelNotFound
from runner.sources.base import ModelFiles, shorten
from runner.sources.folder import find_folder
from runner.sources.gguf import find_gguf
from runner.sources.hub import cached_snapshot, offline, offline_error
from runner.sources.hub_cached_gguf import cached_gguf, holds_gguf
from runner.sources.name import HubName, ModelName
from runner.sources.ollama import find_ollama
from runner.sources.ollama_store import store_root
from runner.sources.required_files import missing_part

# Of a path on Linux.
MAX_LENGTH = 4096
FORMS = "a folder, a hub repo (owner/name, owner/name@revision or owner/name:Q4_K_M), or a name in the Ollama store (name or name:tag)"


def find(name: str, *, folders: bool = True) -> ModelFiles:
    """The files of the model that `name` means: a folder, a hub repo id, or a name in the Ollama store.

    A prefix (`folder:`, `hf:`, `ollama:`) forces one. Reads names and JSON only. A copy on this machine comes before a
    download: the hub is asked when neither its cache nor the Ollama store has the model. Raises ModelNotFound when there
    is no such model anywhere. `folders=False` leaves folders out: for names from network clients.
    """
    return find_here(name, folders=folders) or ask_hub(name)


def find_here(name: str, *, folders: bool = True) -> ModelFiles | None:
    """As `find`, but without the network: None for a name that only the hub may know."""
    _check(name)
    model = ModelName.parse(name)
    if model.source == "hub":
        return _cached(_forced_hub(model))
    if model.source == "ollama":
        return _forced_ollama(model)
    files: ModelFiles | None = find_gguf(model) or find_folder(model) if folders else None
    files = files or (_cached(model.hub) if model.hub else None) or find_ollama(model)
    return files or (None if model.hub else _nowhere(name))


def ask_hub(name: str) -> ModelFiles:
    """What the hub has under a name that `find_here` did not find."""
    model = ModelName.parse(name)
    hub = _forced_hub(model) if model.source == "hub" else model.hub
    return _remote(hub) if hub else _nowhere(name)


def _forced_hub(name: ModelName) -> HubName:
    if name.hub is None:
        raise ModelNotFound(
            f"{shorten(name.text)} is not a hub repo; after hf: comes owner/name or owner/name@revision"
        )
    return name.hub


def _forced_ollama(name: ModelName) -> ModelFiles:
    files = find_ollama(name)
    if files is None:
        raise ModelNotFound(
            f"no model {shorten(name.text)} in the Ollama store {store_root()}; after ollama: comes name, name:tag or "
            "namespace/name:tag, as `ollama list` shows them"
        )
    return files


def _cached(hub: HubName) -> ModelFiles | None:
    snapshot = cached_snapshot(hub)
    if snapshot and holds_gguf(hub, snapshot.listing()):
        return cached_gguf(hub, snapshot)
    return snapshot if snapshot and not missing_part(snapshot) else None


def _remote(hub: HubName) -> ModelFiles:
    """The repo on the hub; when the hub cannot be reached, the error says what an incomplete copy lacks."""
    try:
        if offline():
            raise offline_error(hub)
        # Imported late: the hub client takes longer to load than everything else together.
        from runner.sources.hub_gguf import remote_files

        return remote_files(hub)
    except HubUnreachable as error:
        snapshot = cached_snapshot(hub)
        if snapshot is None:
            if offline():  # on purpose: trying again would not help
                raise ModelNotFound(error.message) from None
            raise
        missing = missing_part(snapshot, strict=False)
        if missing is None:
            return snapshot
        raise HubUnreachable(f"{error.message}. The copy in the cache cannot be used: {missing}") from error


def _check(name: str) -> None:
    if not isinstance(name, str) or not name.strip():
        raise ModelNotFound(f"a model is named by {FORMS}; the name is empty")
    if len(name) > MAX_LENGTH:
        raise ModelNotFound(f"a model's name has at most {MAX_LENGTH:,} characters: {shorten(name)}")
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        raise ModelNotFound(f"a model's name has no control characters: {shorten(name)}")


def _nowhere(name: str) -> ModelFiles:
    raise ModelNotFound(f"no model {shorten(name)}: looked for {FORMS} at {store_root()}")
