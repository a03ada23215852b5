"""Downloads a model from the hub: planned first, then run. An interrupted download is resumed."""

from dataclasses import dataclass

from models.files import LocalModel
from runner.errors import BadRequest
from runner.inspect.detect import unsupported
from runner.inspect.mode import detect_model_type, mode_of
from runner.sources import ModelFiles, ModelMode
from runner.sources.base import Progress, shorten
from runner.sources.folder import find_folder
from runner.sources.gguf import find_gguf
from runner.sources.name import ModelName
from runner.sources.required_files import required_files

ACCEPTED = "pull takes hub repos: owner/name, owner/name@revision, or owner/name:Q4_K_M for a GGUF"


@dataclass(frozen=True)
class Download:
    """A model as it is on the hub now: pulling again downloads what has changed. `fault` says why the model cannot be run,
    so that gigabytes need not be downloaded first."""

    name: str
    commit: str
    bytes: int
    fault: str | None
    files: ModelFiles
    mode: ModelMode

    def run(self, progress: Progress | None = None) -> LocalModel:
        """An exception from `progress` ends it."""
        return self.files.fetch(self.mode, progress)


def plan_download(name: str, *, folders: bool = True) -> Download:
    """What pulling a model would download; reads only its JSON. `folders=False`: for names from network clients, which
    must not learn anything about folders here."""
    model = ModelName.parse(name)
    if model.source == "ollama":
        raise BadRequest(f"models come into the Ollama store by `ollama pull {model.text[:80]}`; {ACCEPTED}")
    if model.hub is None:
        if folders and (gguf := find_gguf(model)):
            raise BadRequest(f"{gguf.place} is already on this machine; {ACCEPTED}")
        if folders and find_folder(model):
            raise BadRequest(f"{shorten(name)} is a folder, and already on this machine; {ACCEPTED}")
        raise BadRequest(f"{shorten(name)} is not a hub repo; {ACCEPTED} (for Ollama's: `ollama pull`)")
    # Imported late: the hub client takes longer to load than everything else together.
    from runner.sources.hub_gguf import remote_files

    files = remote_files(model.hub)
    mode = mode_of(files)
    size = sum(files.listing()[path] for path in required_files(files, mode))
    return Download(
        files.name, files.commit, size, unsupported(files, mode, detect_model_type(files)), files, mode
    )
