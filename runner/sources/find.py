"""A model's name to its files: a folder, the hub, the Ollama store, in that order."""

from runner.errors import ModelNotFound
from runner.sources.base import ModelFiles, shorten
from runner.sources.folder import find_folder

# As long as the longest path that Linux opens.
LONGEST_NAME = 4096
FORMS = "a folder, a hub repo (owner/name or owner/name@revision), or a name in the Ollama store (name or name:tag)"


def find(name: str, *, folders: bool = True) -> ModelFiles:
    """The files of the model that `name` means: a folder, a hub repo id, or a name in the Ollama store.

    A prefix (`folder:`, `hf:`, `ollama:`) forces one. Reads names and JSON only. Raises ModelNotFound when there is
    no such model anywhere. `folders=False` leaves folders out: for names that come from a network client.
    """
    _check(name)
    prefix, _, rest = name.partition(":")
    if prefix == "folder" and rest and folders:
        return find_folder(rest, forced=True) or _nowhere(name)
    found = find_folder(name) if folders else None
    return found or _nowhere(name)


def _check(name: str) -> None:
    if not isinstance(name, str) or not name.strip():
        raise ModelNotFound(f"a model is named by {FORMS}; the name is empty")
    if len(name) > LONGEST_NAME:
        raise ModelNotFound(f"a model's name has at most {LONGEST_NAME:,} characters: {shorten(name)}")
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        raise ModelNotFound(f"a model's name has no control characters: {shorten(name)}")


def _nowhere(name: str) -> ModelFiles:
    raise ModelNotFound(f"no model {shorten(name)}: there is no such model as {FORMS}")
