"""A GGUF model in Ollama's store: one blob, and the layers of its Modelfile beside it."""

import json

from models.files import LocalModel
from models.tokenizers.go_template import calls_as_json
from models.tokenizers.template_location import GO_TEMPLATE_FILE, TEMPLATE_FILE
from runner.errors import ModelNotSupported
from runner.sources.base import ModelMode, Progress
from runner.sources.gguf import GGUFFiles
from runner.sources.name import OllamaName
from runner.sources.ollama_model import OllamaModel
from runner.sources.ollama_store import ADAPTER, GGUF, PROJECTOR, TEMPLATE, Manifest


class OllamaGGUF(OllamaModel, GGUFFiles):
    def __init__(self, name: OllamaName, manifest: Manifest) -> None:
        OllamaModel.__init__(self, name, manifest)
        if manifest.of_type(ADAPTER):
            raise ModelNotSupported(
                f"{self.place} has a LoRA adapter beside its model, which Diptych cannot apply; the model that it was made "
                "from can be run"
            )
        self.paths = tuple(self._file(layer) for layer in manifest.of_type(GGUF))
        projectors = manifest.of_type(PROJECTOR)
        if len(projectors) > 1:
            raise ModelNotSupported(f"{self.place} has {len(projectors)} projectors; a model sees with one")
        self.projector = self._file(projectors[0]) if projectors else None

    def _make_texts(self) -> dict[str, bytes]:
        """With Ollama's own template where the GGUF has none in Jinja."""
        texts = super()._make_texts()
        template = self._text(TEMPLATE)
        if template and TEMPLATE_FILE not in texts:
            texts |= {GO_TEMPLATE_FILE: template.encode()}
            if calls_as_json(template):
                config = json.loads(texts["tokenizer_config.json"])
                texts["tokenizer_config.json"] = json.dumps(
                    config | {"tool_parser_type": "json_tools"}
                ).encode()
        return texts

    def fetch(self, mode: ModelMode, progress: Progress | None = None) -> LocalModel:
        for layer in self.manifest.layers:
            self._file(layer)
        return GGUFFiles.fetch(self, mode, progress)
