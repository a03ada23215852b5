"""Bringing a model from the hub to this machine: looked at first, done after. What a cut left is continued."""

from dataclasses import dataclass

from models.files import LocalModel
from runner.errors import BadRequest
from runner.inspect.detect import unsupported
from runner.inspect.mode import detect_model_type, mode_of
from runner.sources import ModelFiles, ModelMode
from runner.sources.base import Progress, shorten
from runner.sources.folder import find_folder
from runner.sources.name import ModelName
from runner.sources.required_files import required_files

ACCEPTED = "pull takes hub repos, owner/name or owner/name@revision"


@dataclass(frozen=True)
class Download:
    """A model as it is on the hub now: pulling again brings what has changed. `fault` says why it could not be run, and
    is known before gigabytes are on their way."""

    name: str
    commit: str
    bytes: int
    fault: str | None
    files: ModelFiles
    mode: ModelMode

    def run(self, progress: Progress | None = None) -> LocalModel:
        """What `progress` raises ends it."""
        return self.files.fetch(self.mode, progress)


def plan_download(name: str, *, folders: bool = True) -> Download:
    """What pulling a model would bring; its JSON alone is read. `folders=False`: for names that come from a network
    client, who learns nothing of the folders here."""
    model = ModelName.parse(name)
    if model.source == "ollama":
        raise BadRequest(f"models for the Ollama store come by `ollama pull {model.text[:80]}`; {ACCEPTED}")
    if model.hub is None:
        if folders and find_folder(model):
            raise BadRequest(f"{shorten(name)} is a folder, and here already; {ACCEPTED}")
        raise BadRequest(f"{shorten(name)} is not a hub repo; {ACCEPTED} (for Ollama's: `ollama pull`)")
    # Imported here: the hub's client takes longer to load than everything else together.
    from runner.sources.hub_api import RemoteFiles

    files = RemoteFiles(model.hub)
    mode = mode_of(files)
    size = sum(files.listing()[path] for path in required_files(files, mode))
    return Download(
        files.name, files.commit, size, unsupported(files, mode, detect_model_type(files)), files, mode
    )
