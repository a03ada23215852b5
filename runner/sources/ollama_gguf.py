"""A GGUF model in Ollama's store: one blob, and the layers of its Modelfile beside it."""

from models.files import LocalModel
from models.tokenizers.go_template import jinja_template
from runner.errors import ModelNotSupported
from runner.sources.base import ModelMode, Progress
from runner.sources.gguf import GGUFFiles
from runner.sources.name import OllamaName
from runner.sources.ollama_model import OllamaModel
from runner.sources.ollama_store import ADAPTER, GGUF, TEMPLATE, Manifest


class OllamaGGUF(OllamaModel, GGUFFiles):
    """Its projector, with which some models see, is left alone: these write texts like any other."""

    def __init__(self, name: OllamaName, manifest: Manifest) -> None:
        OllamaModel.__init__(self, name, manifest)
        if manifest.of_type(ADAPTER):
            raise ModelNotSupported(
                f"{self.place} has a LoRA adapter beside its model, which Diptych cannot apply; the model that it was made "
                "from can be run"
            )
        self.paths = tuple(self._file(layer) for layer in manifest.of_type(GGUF))

    def chat_template(self) -> str:
        """The Jinja template in the GGUF itself, else Ollama's own, where its form is known."""
        return super().chat_template() or jinja_template(self._text(TEMPLATE)) or ""

    def fetch(self, mode: ModelMode, progress: Progress | None = None) -> LocalModel:
        for layer in self.manifest.layers:
            self._file(layer)
        return GGUFFiles.fetch(self, mode, progress)
